"""Attention: masks are exact, shifts are what their formulas say, and torch's kernels give the plain formula."""

from __future__ import annotations

import pytest
import torch

from funasr.layers import attention
from funasr.layers.attention import (
    LegacyRelPositionMultiHeadedAttention,
    MultiHeadedAttention,
    RelPositionMultiHeadedAttention,
    scaled_attention,
    shift_one_sided,
    shift_one_sided_by_length,
    shift_two_sided,
)
from funasr.layers.embedding import LegacyRelPositionalEncoding, PositionalEncoding, RelPositionalEncoding
from funasr.layers.mask import causal_mask, length_mask
from funasr.utils.errors import ConfigError


def test_masks() -> None:
    assert length_mask(torch.tensor([2, 0, 3])).tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]
    assert length_mask(torch.tensor([1]), 3).tolist() == [[True, False, False]]
    assert length_mask(torch.zeros(0, dtype=torch.long)).shape == (0, 0)
    assert causal_mask(3).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def reference_attention(attention, x, mask, bias=0.0):
    q, k, v = (
        attention.split_heads(linear(x)) for linear in (attention.linear_q, attention.linear_k, attention.linear_v)
    )
    scores = q @ k.transpose(-2, -1) / attention.d_k**0.5 + bias
    weights = scores.masked_fill(~mask[:, None], float("-inf")).softmax(-1)
    return attention.linear_out((weights @ v).transpose(1, 2).flatten(2))


def test_plain_attention_is_the_formula() -> None:
    torch.manual_seed(0)
    attention, x = MultiHeadedAttention(2, 8), torch.randn(2, 5, 8)
    mask = length_mask(torch.tensor([5, 3]))[:, None]
    torch.testing.assert_close(attention(x, x, x, mask), reference_attention(attention, x, mask))
    causal = causal_mask(5)[None]
    torch.testing.assert_close(attention(x, x, x, causal), reference_attention(attention, x, causal))
    everything = torch.ones(2, 1, 5, dtype=torch.bool)
    torch.testing.assert_close(attention(x, x, x), reference_attention(attention, x, everything))


def test_masked_keys_have_no_influence_and_no_gradient() -> None:
    attention, x = MultiHeadedAttention(2, 8), torch.randn(1, 4, 8)
    memory = torch.randn(1, 6, 8, requires_grad=True)
    out = attention(x, memory, memory, length_mask(torch.tensor([4]), 6)[:, None])
    torch.testing.assert_close(out, attention(x, memory[:, :4], memory[:, :4]))
    out.sum().backward()
    assert memory.grad is not None and memory.grad[:, 4:].eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fully_masked_row_gives_zero_without_nan(dtype: torch.dtype) -> None:
    attention = MultiHeadedAttention(2, 8).to(dtype)
    x = torch.randn(2, 3, 8, dtype=dtype, requires_grad=True)
    out = attention(x, x, x, length_mask(torch.tensor([3, 0]))[:, None])
    torch.testing.assert_close(out[1], attention.linear_out.bias.expand(3, 8))
    out.sum().backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad[1].eq(0).all()


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("keys", [7, 150])
@pytest.mark.parametrize("shape", ["open", "lengths", "blind rows", "bias"])
def test_every_way_to_attend_gives_the_formula_in_double_precision(shape, keys, dtype, gradients) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, n, 8) for n in (keys, keys, keys))
    bias = torch.randn(2, 3, keys, keys) if shape == "bias" else None
    mask = (
        None if shape == "open" else length_mask(torch.tensor([keys, keys // 2]), keys)[:, None].expand(2, keys, keys)
    )
    if mask is not None and shape == "blind rows":
        mask = mask.clone()
        mask[1, 3:] = False
    scores = query.double() @ key.double().transpose(-2, -1) / 8**0.5
    scores = scores if bias is None else scores + bias.double()
    if mask is not None:
        scores = scores.masked_fill(~mask[:, None], float("-inf"))
    expected = (scores.softmax(-1).nan_to_num(0.0) @ value.double()).float()
    inputs = [x.to(dtype).requires_grad_(gradients) for x in (query, key, value)]
    with torch.set_grad_enabled(gradients):
        out = scaled_attention(*inputs, mask, None if bias is None else bias.to(dtype))
    assert out.dtype == dtype
    assert torch.allclose(out.float(), expected, atol=1e-5 if dtype == torch.float32 else 0.05)
    if gradients:
        out.float().sum().backward()
        assert all(x.grad is not None and bool(x.grad.isfinite().all()) for x in inputs)


@pytest.mark.parametrize("lengths", [[80, 80, 80, 80, 80], [80, 0, 31, 80, 7]])
@pytest.mark.parametrize("bias_shape", [None, (1, 3, 40, 80), (5, 1, 40, 80), (5, 3, 1, 80)])
def test_one_utterance_at_a_time_gives_what_the_fused_kernel_gives(lengths, bias_shape, monkeypatch) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(5, n, 3, 8).transpose(1, 2) for n in (40, 80, 80))
    bias = torch.randn(bias_shape) if bias_shape else None
    mask = length_mask(torch.tensor(lengths), 80)[:, None]
    with torch.no_grad():
        monkeypatch.setattr(attention, "made_by_intel", lambda: False)
        wanted = scaled_attention(query, key, value, mask, bias)
        monkeypatch.setattr(attention, "made_by_intel", lambda: True)
        out = scaled_attention(query, key, value, mask, bias)
    assert torch.allclose(out, wanted, atol=1e-6)
    assert out.transpose(1, 2).shape == (5, 40, 3, 8)
    assert wanted.eq(0.0).all(dim=(1, 2, 3)).tolist() == [length == 0 for length in lengths]


def test_attention_to_a_bfloat16_matrix_too_large_to_hold_is_left_to_torch(monkeypatch) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, 20, 8).bfloat16() for _ in range(3))
    wanted = scaled_attention(query, key, value, None)
    monkeypatch.setattr(attention, "MOST_SCORES", 100)
    assert torch.allclose(scaled_attention(query, key, value, None), wanted, atol=0.02)


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="3 attention heads"):
        MultiHeadedAttention(3, 8)


def test_two_sided_shift() -> None:
    scores = torch.randn(2, 3, 4, 7)
    shifted = shift_two_sided(scores)
    assert shifted.shape == (2, 3, 4, 4)
    for i in range(4):
        for j in range(4):
            assert shifted[..., i, j].equal(scores[..., i, 3 + j - i])


def test_one_sided_shift() -> None:
    scores = torch.randn(2, 3, 4, 4)
    shifted = shift_one_sided(scores)
    for i in range(4):
        for j in range(4):
            if j <= i:
                assert shifted[..., i, j].equal(scores[..., i, 3 + j - i])
            elif j == i + 1:
                assert shifted[..., i, j].eq(0).all()
            else:
                assert shifted[..., i, j].equal(scores[..., i + 1, j - i - 2])


def test_one_sided_shift_by_length_is_the_shift_of_each_alone() -> None:
    scores, lengths = torch.randn(3, 2, 5, 5), torch.tensor([5, 3, 1])
    shifted = shift_one_sided_by_length(scores, lengths)
    for b, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(shifted[b : b + 1, :, :n, :n], shift_one_sided(scores[b : b + 1, :, :n, :n]))


@pytest.mark.parametrize(
    ("attention_class", "encoding_class"),
    [
        (RelPositionMultiHeadedAttention, RelPositionalEncoding),
        (LegacyRelPositionMultiHeadedAttention, LegacyRelPositionalEncoding),
    ],
)
def test_relative_attention_is_the_formula_and_isolates(attention_class, encoding_class) -> None:
    torch.manual_seed(1)
    attention, x, lengths = attention_class(2, 8), torch.randn(2, 6, 8), torch.tensor([6, 4])
    encoding = encoding_class(8, 0.0)
    mask = length_mask(lengths)[:, None]
    out = attention(x, encoding(x, lengths)[1], mask, lengths)
    for b, n in enumerate(lengths.tolist()):
        alone = x[b : b + 1, :n]
        _, pos_emb = encoding(alone)
        torch.testing.assert_close(out[b : b + 1, :n], attention(alone, pos_emb))
        q = attention.split_heads(attention.linear_q(alone))
        p = attention.split_heads(attention.linear_pos(pos_emb))
        by_key = attention.shift((q + attention.pos_bias_v[:, None]) @ p.transpose(-2, -1), None)
        k = attention.split_heads(attention.linear_k(alone))
        bias = (by_key + attention.pos_bias_u[:, None] @ k.transpose(-2, -1)) / attention.d_k**0.5
        expected = reference_attention(attention, alone, mask[b : b + 1, :, :n], bias)
        torch.testing.assert_close(out[b : b + 1, :n], expected)


def test_position_tables() -> None:
    x = torch.zeros(1, 7, 8)
    angle = torch.arange(7)[:, None] * 10000.0 ** (-torch.arange(0, 8, 2) / 8)
    absolute, none = PositionalEncoding(8, 0.0)(x)
    assert none is None
    torch.testing.assert_close(absolute[0, :, 0::2], angle.sin())
    torch.testing.assert_close(absolute[0, :, 1::2], angle.cos())
    later, _ = PositionalEncoding(8, 0.0)(x[:, :2], start=5)
    torch.testing.assert_close(later, absolute[:, 5:])
    _, two_sided = RelPositionalEncoding(8, 0.0)(x)
    assert two_sided.shape == (1, 13, 8)
    torch.testing.assert_close(two_sided[0, :7].flip(0), absolute[0])
    torch.testing.assert_close(two_sided[0, :, 0::2], -two_sided[0, :, 0::2].flip(0))


def test_legacy_positions_count_down_from_4999_or_the_length() -> None:
    encoding = LegacyRelPositionalEncoding(4, 0.0)
    table = PositionalEncoding(4, 0.0)(torch.zeros(1, 5003, 4))[0][0]
    torch.testing.assert_close(encoding(torch.zeros(1, 3, 4))[1][0], table[[4999, 4998, 4997]])
    torch.testing.assert_close(encoding(torch.zeros(1, 5003, 4))[1][0], table.flip(0))
    own = encoding(torch.zeros(2, 5003, 4), torch.tensor([5003, 10]))[1]
    torch.testing.assert_close(own[0], table.flip(0))
    torch.testing.assert_close(own[1, :10], table[4990:5000].flip(0))


def test_tables_are_not_in_the_state_dict_and_a_pe_key_is_ignored() -> None:
    for cls in (PositionalEncoding, RelPositionalEncoding, LegacyRelPositionalEncoding):
        encoding = torch.nn.Sequential(cls(8))
        assert not encoding.state_dict()
        given = {"0.pe": torch.zeros(1, 5000, 8)}
        encoding.load_state_dict(given)
        assert "0.pe" in given

"""The FSMN memory and the blocks around it: against their written definition, and what padding must not do."""

from __future__ import annotations

import math

import pytest
import torch

from funasr.layers.sanm import FsmnBlock, SANMAttention, SANMDecoderLayer, SANMEncoderLayer, position_table
from funasr.utils.errors import ConfigError


@pytest.mark.parametrize(("kernel", "shift"), [(5, 0), (5, 2), (4, 0), (11, 5)])
def test_memory_is_a_shifted_convolution_plus_identity(kernel: int, shift: int) -> None:
    torch.manual_seed(0)
    block = FsmnBlock(3, kernel, shift)
    x = torch.randn(2, 9, 3)
    left = (kernel - 1) // 2 + shift
    wanted = x.clone()
    for t in range(9):
        for k in range(kernel):
            if 0 <= t - left + k < 9:
                wanted[:, t] += x[:, t - left + k] * block.weight[:, 0, k]
    torch.testing.assert_close(block(x), wanted)


def test_memory_neither_reads_nor_writes_padding() -> None:
    block, x = FsmnBlock(4, 7), torch.randn(2, 8, 4)
    mask = torch.arange(8) < torch.tensor([[8], [5]])
    before = x.clone()
    out = block(x, mask)
    torch.testing.assert_close(out[1, :5], block(x[1:, :5])[0])
    assert not out[1, 5:].any() and torch.equal(x, before)


def test_a_shift_beyond_the_kernel_is_refused() -> None:
    with pytest.raises(ConfigError, match="sanm_shfit 3"):
        FsmnBlock(4, 5, 3)


def test_causal_steps_equal_the_whole_sequence() -> None:
    torch.manual_seed(0)
    layer = SANMDecoderLayer(6, 2, 8, kernel_size=5, shift=2, memory_dim=4).eval()
    x, memory = torch.randn(2, 10, 6), torch.randn(2, 7, 4)
    memory_mask = (torch.arange(7) < torch.tensor([[7], [3]]))[:, None]
    assert layer.src_attn is not None
    window, outputs = torch.zeros(2, 0, 6), []
    for t in range(10):
        out, window = layer.step(x[:, t : t + 1], window, layer.src_attn.keys_values(memory), memory_mask)
        outputs.append(out)
    torch.testing.assert_close(torch.cat(outputs, dim=1), layer(x, None, memory, memory_mask))
    assert window.shape == (2, 5, 6)


def test_attention_equals_its_definition() -> None:
    torch.manual_seed(0)
    heads, width = 2, 6
    attention = SANMAttention(heads, 4, width, kernel_size=3).eval()
    x, mask = torch.randn(2, 7, 4), torch.arange(7) < torch.tensor([[7], [4]])
    query, key, value = attention.linear_q_k_v(x).chunk(3, dim=-1)
    parts = []
    for h in range(heads):
        span = slice(h * width // heads, (h + 1) * width // heads)
        scores = query[..., span] @ key[..., span].mT / math.sqrt(width // heads)
        parts.append(scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1) @ value[..., span])
    wanted = attention.linear_out(torch.cat(parts, -1)) + attention.fsmn_block(value, mask)
    torch.testing.assert_close(attention(x, mask), wanted)


def test_an_utterance_without_frames_makes_no_nan() -> None:
    layer, x = SANMEncoderLayer(4, 4, 2, 8), torch.randn(2, 5, 4, requires_grad=True)
    out = layer(x, torch.tensor([[True] * 5, [False] * 5]))
    out.sum().backward()
    assert out.isfinite().all() and x.grad is not None and x.grad.isfinite().all()


def test_changing_the_width_drops_the_residual() -> None:
    torch.manual_seed(0)
    layer = SANMEncoderLayer(4, 6, 2, 8, dropout=0.0)
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    assert not layer(torch.randn(1, 5, 4), None).any()
    same = SANMEncoderLayer(4, 4, 2, 8, dropout=0.0)
    for parameter in same.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.randn(1, 5, 4)
    torch.testing.assert_close(same(x, None), x)


def test_position_table() -> None:
    table = position_table(50, 560)
    rate = math.exp(-math.log(10000) * 3 / 279)
    assert table.shape == (50, 560)
    assert table[0, 0].item() == pytest.approx(math.sin(1.0))
    assert table[6, 283].item() == pytest.approx(math.cos(7 * rate), abs=1e-5)
    torch.testing.assert_close(position_table(10, 560, first=41), table[40:])
    with pytest.raises(ConfigError, match="even"):
        position_table(3, 81)


@torch.no_grad()
def test_a_long_memory_of_few_channels_comes_back_in_bfloat16() -> None:
    """oneDNN computes such depth-wise convolutions for minutes."""
    torch.manual_seed(0)
    block, x = FsmnBlock(16, 21), torch.randn(2, 60, 16)
    wanted = block(x)
    torch.testing.assert_close(block.bfloat16()(x.bfloat16()).float(), wanted, atol=0.05, rtol=0.02)

"""TransformerEncoder and TransformerDecoder: isolation, causality, and steps that equal the whole."""

from __future__ import annotations

import pytest
import torch

from funasr.models.transformer.decoder import TransformerDecoder
from funasr.models.transformer.encoder import TransformerEncoder
from funasr.register import tables
from funasr.utils.errors import ConfigError

SMALL = {"attention_heads": 2, "linear_units": 24, "num_blocks": 2}
STYLES = {"pre-norm": {}, "post-norm": {"normalize_before": False}, "concatenate": {"concat_after": True}}


@pytest.mark.parametrize("style", STYLES)
def test_isolated_batch_equals_singles(style: str) -> None:
    encoder = TransformerEncoder(40, 16, **SMALL, **STYLES[style]).eval()
    x, lengths = torch.randn(4, 70, 40), torch.tensor([70, 33, 5, 0])
    out, out_lengths, _ = encoder(x, lengths, isolate=True)
    assert out_lengths.tolist() == [16, 7, 0, 0] and out.isfinite().all()
    for b in range(2):
        alone, _, _ = encoder(x[b : b + 1, : lengths[b]], lengths[b : b + 1], isolate=True)
        torch.testing.assert_close(out[b : b + 1, : out_lengths[b]], alone)


def test_input_layers_and_intermediate_outputs() -> None:
    ids = torch.tensor([[3, 4, 5]])
    out, lengths, _ = TransformerEncoder(9, 16, **SMALL, input_layer="embed")(ids, torch.tensor([3]))
    assert out.shape == (1, 3, 16) and lengths.tolist() == [3]
    plain = TransformerEncoder(16, 16, **SMALL, input_layer=None, interctc_layer_idx=[1])
    assert len(plain(torch.randn(1, 4, 16), torch.tensor([4]))[2]) == 1


def decoder(**options) -> TransformerDecoder:
    torch.manual_seed(0)
    return TransformerDecoder(11, 16, **SMALL, **options).eval()


@pytest.mark.parametrize("style", STYLES)
def test_steps_equal_the_whole(style: str) -> None:
    model, memory, lengths = decoder(**STYLES[style]), torch.randn(3, 9, 16), torch.tensor([9, 4, 1])
    ids = torch.randint(11, (3, 6))
    logits, olens = model(memory, lengths, ids, torch.tensor([6, 6, 6]))
    assert logits.shape == (3, 6, 11) and olens.tolist() == [6, 6, 6]
    state = model.init_state(memory, lengths)
    for step in range(6):
        assert all(value.size(0) == 3 for value in state.values())
        log_probs, new_state = model.step(ids[:, step], state)
        torch.testing.assert_close(log_probs, logits[:, step].log_softmax(-1), atol=1e-5, rtol=1e-5)
        assert state["self_keys.0"].size(2) == step
        state = new_state


def test_state_rows_may_be_reordered_and_repeated() -> None:
    model, memory, lengths = decoder(), torch.randn(2, 5, 16), torch.tensor([5, 3])
    _, state = model.step(torch.tensor([1, 1]), model.init_state(memory, lengths))
    log_probs, _ = model.step(torch.tensor([3, 4]), state)
    index = torch.tensor([1, 0, 1])
    picked = {name: value.index_select(0, index) for name, value in state.items()}
    torch.testing.assert_close(model.step(torch.tensor([4, 3, 4]), picked)[0], log_probs[index])


def test_decoder_sees_neither_the_future_nor_padding() -> None:
    model, memory = decoder(), torch.randn(1, 8, 16)
    ids = torch.tensor([[1, 5, 6, 7]])
    logits, _ = model(memory, torch.tensor([5]), ids, torch.tensor([4]))
    memory[:, 5:] = 9.0
    ids[:, 3] = 8
    changed, _ = model(memory, torch.tensor([5]), ids, torch.tensor([4]))
    torch.testing.assert_close(changed[:, :3], logits[:, :3])
    assert not torch.allclose(changed[:, 3], logits[:, 3])


def test_gradient_flows_and_stays_finite_without_memory() -> None:
    model = decoder()
    memory = torch.randn(2, 4, 16, requires_grad=True)
    logits, _ = model(memory, torch.tensor([4, 0]), torch.tensor([[1, 2], [1, 3]]), torch.tensor([2, 2]))
    logits.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert memory.grad is not None and memory.grad[0].ne(0).any() and memory.grad[1].eq(0).all()


def test_linear_input_layer_and_unknown_one() -> None:
    one_hot = torch.eye(11)[None, :3]
    assert decoder(input_layer="linear")(torch.randn(1, 4, 16), torch.tensor([4]), one_hot, None)[0].shape == (1, 3, 11)
    with pytest.raises(ConfigError, match="rnn"):
        decoder(input_layer="rnn")


def test_registered_under_both_names() -> None:
    assert tables.encoder_classes["transformer"] is tables.encoder_classes["TransformerEncoder"] is TransformerEncoder
    assert tables.decoder_classes["transformer"] is tables.decoder_classes["TransformerDecoder"] is TransformerDecoder

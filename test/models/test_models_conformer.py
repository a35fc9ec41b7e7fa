"""ConformerEncoder: every utterance as alone, short input, all options reach the network, bfloat16."""

from __future__ import annotations

import pytest
import torch

from funasr.models.conformer.encoder import ConformerEncoder
from funasr.register import tables
from funasr.utils.errors import ConfigError

SMALL = {"output_size": 16, "attention_heads": 2, "linear_units": 24, "num_blocks": 2, "cnn_module_kernel": 5}

VARIANTS = {
    "legacy": {"macaron_style": True},
    "latest": {"rel_pos_type": "latest"},
    "absolute": {"pos_enc_layer_type": "abs_pos", "selfattention_layer_type": "selfattn"},
    "no convolution": {"use_cnn_module": False},
    "post-norm": {"normalize_before": False},
    "concatenate": {"concat_after": True, "activation_type": "gelu"},
    "conv2d2": {"input_layer": "conv2d2"},
    "conv2d6": {"input_layer": "conv2d6"},
    "linear": {"input_layer": "linear"},
}


def make(**options) -> ConformerEncoder:
    torch.manual_seed(0)
    encoder = ConformerEncoder(40, **{**SMALL, **options})
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return encoder.eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_isolated_batch_equals_singles(variant: str) -> None:
    encoder, lengths = make(**VARIANTS[variant]), torch.tensor([90, 61, 23, 3, 0])
    x = torch.randn(5, 90, 40)
    out, out_lengths, _ = encoder(x, lengths, isolate=True)
    assert out.isfinite().all()
    for b, n in enumerate(lengths.tolist()):
        alone, alone_lengths, _ = encoder(x[b : b + 1, :n], lengths[b : b + 1], isolate=True)
        assert alone_lengths[0] == out_lengths[b]
        size = int(out_lengths[b])
        torch.testing.assert_close(out[b, :size], alone[0, :size], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradient_reaches_every_parameter(variant: str) -> None:
    encoder = make(**VARIANTS[variant]).train()
    out, _, _ = encoder(torch.randn(2, 90, 40), torch.tensor([90, 70]))
    (out * torch.randn_like(out)).sum().backward()
    assert [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_isolation_is_what_the_loss_leaves_out() -> None:
    encoder, x = make(), torch.randn(1, 60, 40)
    single = torch.tensor([60])
    torch.testing.assert_close(encoder(x, single)[0], encoder(x, single, isolate=True)[0])
    with torch.no_grad():
        padded = torch.cat([x, torch.zeros(1, 60, 40)], dim=1)
        recorded, recorded_lengths, _ = encoder(padded, single)
        isolated, isolated_lengths, _ = encoder(padded, single, isolate=True)
    assert recorded_lengths.item() == 15 and isolated_lengths.item() == 14
    assert not torch.allclose(recorded[:, :14], isolated[:, :14], atol=1e-3)


def test_intermediate_outputs() -> None:
    encoder = make(num_blocks=4, interctc_layer_idx=[1, 3])
    out, _, intermediate = encoder(torch.randn(1, 40, 40), torch.tensor([40]))
    assert [hidden.shape for hidden in intermediate] == [out.shape] * 2
    shorter = make(num_blocks=4)
    shorter.load_state_dict(encoder.state_dict())
    del shorter.encoders[3:]
    torch.manual_seed(1)
    x = torch.randn(1, 40, 40)
    torch.testing.assert_close(shorter(x, torch.tensor([40]))[0], encoder(x, torch.tensor([40]))[2][1])


def test_bfloat16_autocast_is_close_and_trains() -> None:
    encoder, x, lengths = make(), torch.randn(2, 50, 40), torch.tensor([50, 30])
    exact = encoder(x, lengths)[0].detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = encoder(x, lengths)[0]
    assert (out - exact).abs().max() < 0.1 * exact.abs().max()
    out.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


def test_options_that_do_not_fit_are_refused() -> None:
    for options in (
        {"rel_pos_type": "newest"},
        {"pos_enc_layer_type": "abs_pos"},
        {"selfattention_layer_type": "selfattn"},
        {"activation_type": "step"},
        {"cnn_module_kernel": 4},
        {"interctc_layer_idx": [2]},
    ):
        with pytest.raises(ConfigError):
            make(**options)


def test_registered_under_both_names() -> None:
    assert tables.encoder_classes["conformer"] is tables.encoder_classes["ConformerEncoder"] is ConformerEncoder

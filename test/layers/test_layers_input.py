"""Input layers: frames out, short input, isolation from padding; convolution module and initialisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from funasr.layers.conv_module import ConvolutionModule
from funasr.layers.initialize import INITIALIZATIONS, initialize
from funasr.layers.layer_norm import LayerNorm
from funasr.layers.mask import length_mask
from funasr.layers.subsampling import STAGES, Conv2dSubsampling, intermediate_layers, make_input_layer
from funasr.utils.errors import ConfigError

SLICES = {
    "conv2d": ((2, 2), (2, 2)),
    "conv2d2": ((2, 2), (2, 1)),
    "conv2d6": ((2, 2), (4, 3)),
    "conv2d8": ((2, 2), (2, 2), (2, 2)),
}


@pytest.mark.parametrize("name", STAGES)
def test_lengths_both_ways(name: str) -> None:
    layer = Conv2dSubsampling(40, 4, STAGES[name])
    minimum = {"conv2d": 7, "conv2d2": 7, "conv2d6": 11, "conv2d8": 15}[name]
    assert layer.min_frames == minimum
    x = torch.randn(1, 60, 40)
    for frames in range(61):
        out, lengths = layer(x[:, :frames], torch.tensor([frames]), isolate=True)
        assert lengths.item() == (out.size(1) if frames >= minimum else 0)
    mask = length_mask(torch.arange(61), 60)
    for cut, stride in SLICES[name]:
        mask = mask[:, :-cut:stride]
    assert layer.output_lengths(torch.arange(61), 60).equal(mask.sum(1))


@pytest.mark.parametrize("name", STAGES)
def test_valid_output_frames_never_see_padding(name: str) -> None:
    layer = Conv2dSubsampling(40, 4, STAGES[name])
    x = torch.randn(2, 50, 40)
    out, lengths = layer(x, torch.tensor([50, 33]), isolate=True)
    alone, alone_lengths = layer(x[1:, :33], torch.tensor([33]), isolate=True)
    assert lengths[1] == alone_lengths[0] == alone.size(1)
    torch.testing.assert_close(out[1:, : alone.size(1)], alone)


def test_short_and_empty_batches_get_length_zero_in_both_ways() -> None:
    layer = Conv2dSubsampling(40, 4, STAGES["conv2d"])
    for frames in (0, 1, 6):
        for isolate in (True, False):
            _, lengths = layer(torch.randn(2, frames, 40), torch.tensor([frames, 0]), isolate=isolate)
            assert lengths.tolist() == [0, 0]


def test_other_input_layers() -> None:
    x, lengths = torch.randn(2, 5, 8), torch.tensor([5, 3])
    out, same = make_input_layer("linear", 8, 6, 0.0)(x, lengths)
    assert out.shape == (2, 5, 6) and same is lengths
    assert make_input_layer("linear", 8, 6, 0.0, relu=True)(x, lengths)[0].ge(0).all()
    ids = torch.tensor([[1, 9]])
    embedded, _ = make_input_layer("embed", 10, 6, 0.0, padding_idx=-1)(ids, lengths)
    assert embedded.shape == (1, 2, 6) and embedded[0, 1].eq(0).all()
    assert make_input_layer(None, 8, 8, 0.0)(x, lengths)[0] is x


def test_wrong_input_layers_are_named() -> None:
    with pytest.raises(ConfigError, match="conv2d9"):
        make_input_layer("conv2d9", 80, 4, 0.0)
    with pytest.raises(ConfigError, match="80 is not 4"):
        make_input_layer(None, 80, 4, 0.0)
    with pytest.raises(ConfigError, match="narrow"):
        make_input_layer("conv2d8", 8, 4, 0.0)
    with pytest.raises(ConfigError, match="interctc_layer_idx"):
        intermediate_layers([2, 4], 4)


def test_conv_module_is_its_layers_and_masks_padding() -> None:
    torch.manual_seed(0)
    module, x = ConvolutionModule(6, 5).eval(), torch.randn(2, 9, 6)
    module.norm.running_mean.normal_()
    y = nn.functional.glu(module.pointwise_conv1(x.transpose(1, 2)), dim=1)
    y = nn.functional.silu(module.norm(module.depthwise_conv(y)))
    torch.testing.assert_close(module(x), module.pointwise_conv2(y).transpose(1, 2))
    masked = module(x, length_mask(torch.tensor([9, 4])))
    torch.testing.assert_close(masked[1:, :4], module(x[1:, :4]))
    with pytest.raises(ConfigError, match="odd"):
        ConvolutionModule(6, 4)


def test_layer_norm_keeps_float32_statistics() -> None:
    norm, x = LayerNorm(8), 1000 + torch.randn(3, 8)
    low = norm(x.bfloat16())
    assert low.dtype == torch.bfloat16 and norm.eps == 1e-12
    torch.testing.assert_close(low, nn.functional.layer_norm(x.bfloat16().float(), (8,), eps=1e-12).bfloat16())
    assert norm(torch.ones(2, 8)).eq(0).all()


@pytest.mark.parametrize("init", INITIALIZATIONS)
def test_initialize(init: str) -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict(
        {
            "linear": nn.Linear(100, 400),
            "conv": nn.Conv2d(16, 64, 5),
            "embedding": nn.Embedding(500, 20, padding_idx=0),
            "norm": nn.LayerNorm(7),
            "batch_norm": nn.BatchNorm1d(7),
            "lstm": nn.LSTM(4, 8),
        }
    )
    initialize(model, init)
    assert (
        model["linear"].bias.eq(0).all() and model["norm"].weight.eq(1).all() and model["batch_norm"].weight.eq(1).all()
    )
    assert model["embedding"].weight[0].eq(0).all() and model["embedding"].weight[1:].std().item() == pytest.approx(
        1, rel=0.05
    )
    fan_in, fan_out = 100, 400
    std = {"chainer": fan_in**-0.5, "xavier": (2 / (fan_in + fan_out)) ** 0.5, "kaiming": (2 / fan_in) ** 0.5}
    assert model["linear"].weight.std().item() == pytest.approx(std[init.split("_", maxsplit=1)[0]], rel=0.05)
    if init == "chainer":
        assert model["conv"].weight.std().item() == pytest.approx((16 * 25) ** -0.5, rel=0.05)
        assert model["lstm"].bias_ih_l0.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0] * 16
    if init.endswith("uniform"):
        bound = std[init.split("_", maxsplit=1)[0]] * 3**0.5
        assert model["linear"].weight.abs().max().item() <= bound


def test_initialize_hook_and_unknown_name() -> None:
    class Own(nn.Linear):
        def initialize_parameters(self, init: str) -> None:
            self.weight.fill_(7.0)

    model = nn.Sequential(Own(2, 2))
    initialize(model, "xavier_uniform")
    assert model[0].weight.eq(7.0).all()
    with pytest.raises(ConfigError, match="chainer"):
        initialize(model, "magic")

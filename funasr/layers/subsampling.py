"""Input layers of encoders: convolutional sub-sampling of features, a linear layer, an embedding, or nothing.

All have `forward(x (batch, frames, dim), lengths (batch,), isolate) -> (out (batch, frames', width), lengths')`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from funasr.utils.errors import ConfigError


@dataclass(frozen=True)
class ConvStage:
    """One convolution of a sub-sampling stack, without padding, the same along time and frequency."""

    kernel: int
    stride: int

    def frames(self, frames: int) -> int:
        """Output frames for `frames` input frames."""
        return max((frames - self.kernel) // self.stride + 1, 0)


STAGES: dict[str, tuple[ConvStage, ...]] = {
    "conv2d": (ConvStage(3, 2), ConvStage(3, 2)),
    "conv2d2": (ConvStage(3, 2), ConvStage(3, 1)),
    "conv2d6": (ConvStage(3, 2), ConvStage(5, 3)),
    "conv2d8": (ConvStage(3, 2), ConvStage(3, 2), ConvStage(3, 2)),
}


class Conv2dSubsampling(nn.Module):
    """Strided 2-D convolutions over (time, frequency), each with ReLU, then a linear layer to the model's width.

    Args:
        input_size: feature dimension.
        output_size: channels of the convolutions and width of the output.
        stages: convolutions, see `STAGES`.
    """

    def __init__(self, input_size: int, output_size: int, stages: tuple[ConvStage, ...]) -> None:
        super().__init__()
        self.stages = stages
        layers: list[nn.Module] = []
        bands = input_size
        for index, stage in enumerate(stages):
            channels = 1 if index == 0 else output_size
            layers += [nn.Conv2d(channels, output_size, stage.kernel, stage.stride), nn.ReLU(inplace=True)]
            bands = stage.frames(bands)
        if bands < 1:
            raise ConfigError(f"features of dimension {input_size} are too narrow for this convolutional input layer")
        self.conv = nn.Sequential(*layers)
        self.out = nn.Sequential(nn.Linear(output_size * bands, output_size))
        self.min_frames = 1
        for stage in reversed(stages):
            self.min_frames = (self.min_frames - 1) * stage.stride + stage.kernel

    def output_lengths(self, lengths: Tensor, padded: int | None = None) -> Tensor:
        """Frames after sub-sampling of utterances of `lengths` (batch,) frames; 0 for those that are too short.

        By formula, as each utterance alone; with `padded`, the length of the batch, as recorded trainings count them:
        a frame is kept if the input frame at its start is valid, so a short utterance keeps a frame or two that look
        at padding.
        """
        for stage in self.stages:
            if padded is None:
                lengths = (lengths - stage.kernel).div(stage.stride, rounding_mode="floor") + 1
            else:
                lengths = lengths.clamp(max=padded - (stage.kernel - 1)).add(stage.stride - 1)
                lengths = lengths.div(stage.stride, rounding_mode="floor")
                padded = stage.frames(padded)
        return lengths.clamp(min=0)

    def forward(self, x: Tensor, lengths: Tensor, isolate: bool = False) -> tuple[Tensor, Tensor]:
        """Sub-sample features (batch, frames, dim); fewer than the minimum are padded and get length 0."""
        out_lengths = self.output_lengths(lengths, None if isolate or x.size(1) < self.min_frames else x.size(1))
        x = self.conv(_pad_frames(x, self.min_frames)[:, None])
        return self.out(x.transpose(1, 2).flatten(2)), out_lengths


class LinearInput(nn.Sequential):
    """Linear layer, layer normalisation, dropout and, if `relu`, ReLU; lengths stay."""

    def __init__(self, input_size: int, output_size: int, dropout: float, relu: bool) -> None:
        parts = [nn.Linear(input_size, output_size), nn.LayerNorm(output_size), nn.Dropout(dropout)]
        super().__init__(*parts, *([nn.ReLU()] if relu else []))

    def forward(self, x: Tensor, lengths: Tensor, isolate: bool = False) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(_pad_frames(x, 1)), lengths


class EmbeddingInput(nn.Sequential):
    """Embedding of token ids (batch, tokens) -> (batch, tokens, width); lengths stay."""

    def __init__(self, input_size: int, output_size: int, padding_idx: int | None) -> None:
        super().__init__(nn.Embedding(input_size, output_size, padding_idx=padding_idx))

    def forward(self, x: Tensor, lengths: Tensor, isolate: bool = False) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(_pad_frames(x, 1)), lengths


class NoInputLayer(nn.Module):
    """Features enter the blocks as they are."""

    def forward(self, x: Tensor, lengths: Tensor, isolate: bool = False) -> tuple[Tensor, Tensor]:
        return _pad_frames(x, 1), lengths


def make_input_layer(
    name: str | None,
    input_size: int,
    output_size: int,
    dropout: float,
    relu: bool = False,
    padding_idx: int | None = None,
) -> nn.Module:
    """The input layer an encoder configuration names; ConfigError lists the known names.

    Args:
        name: conv2d, conv2d2, conv2d6, conv2d8, linear, embed, or None.
        relu: whether `linear` ends in a ReLU.
        padding_idx: of `embed`.
    """
    if name in STAGES:
        return Conv2dSubsampling(input_size, output_size, STAGES[name])
    if name == "linear":
        return LinearInput(input_size, output_size, dropout, relu)
    if name == "embed":
        return EmbeddingInput(input_size, output_size, padding_idx)
    if name is not None:
        raise ConfigError(f"unknown input_layer '{name}'; choose one of {', '.join(STAGES)}, linear, embed, null")
    if input_size != output_size:
        raise ConfigError(f"input_layer null needs features as wide as the encoder: {input_size} is not {output_size}")
    return NoInputLayer()


def _pad_frames(x: Tensor, frames: int) -> Tensor:
    """x (batch, frames, ...) with zeros at the end if it has fewer than `frames`, so that no layer meets none."""
    if x.size(1) >= frames:
        return x
    return torch.cat([x, x.new_zeros(x.size(0), frames - x.size(1), *x.shape[2:])], dim=1)


def intermediate_layers(numbers: Sequence[int], num_blocks: int) -> frozenset[int]:
    """Checked `interctc_layer_idx`: numbers from 1 of blocks before the last; ConfigError otherwise."""
    wrong = [number for number in numbers if not 0 < number < num_blocks]
    if wrong:
        raise ConfigError(f"interctc_layer_idx: {wrong[0]} is not a block before the last, 1 to {num_blocks - 1}")
    return frozenset(numbers)

"""Parts of ERes2NetV2; tensors are (batch, channels, freq, frames)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from funasr.layers.conv_norm import conv_norm

VARIANCE_FLOOR = 1e-8
REDUCTION = 4  # of the channels inside the attention of a fusion
ACTIVATION_CEILING = 20.0


def clipped_relu_(x: Tensor) -> Tensor:
    """Clamp to [0, 20], in place."""
    return x.clamp_(0.0, ACTIVATION_CEILING)


class AttentionalFusion(nn.Module):
    """A weighted sum of two tensors; the weights, between 0 and 2 and 2 together, come from both."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = channels // REDUCTION
        self.local_att = nn.Sequential(
            nn.Conv2d(2 * channels, hidden, 1),
            nn.BatchNorm2d(hidden),
            nn.SiLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        reduce, reduce_norm, activation, expand, expand_norm = self.local_att
        hidden = activation(conv_norm(torch.cat((x, y), dim=1), reduce, reduce_norm))
        weight = 1.0 + torch.tanh(conv_norm(hidden, expand, expand_norm))
        return x * weight + y * (2.0 - weight)


class Res2Block(nn.Module):
    """Bottleneck whose groups are convolved one after another, each with what came out of the one before it.

    Args:
        planes: channels of the stage; a group has floor(planes * base_width / 64).
        stride: in frequency and time.
        fusion: join a group and what came before it by attention instead of a sum.
    """

    def __init__(
        self, in_channels: int, planes: int, stride: int, base_width: int, scale: int, expansion: int, fusion: bool
    ) -> None:
        super().__init__()
        self.width = planes * base_width // 64
        out_channels = planes * expansion
        self.conv1 = nn.Conv2d(in_channels, self.width * scale, 1, stride=stride, bias=False)
        self.bn1 = nn.BatchNorm2d(self.width * scale)
        self.convs = nn.ModuleList(nn.Conv2d(self.width, self.width, 3, padding=1, bias=False) for _ in range(scale))
        self.bns = nn.ModuleList(nn.BatchNorm2d(self.width) for _ in range(scale))
        self.fuse_models = nn.ModuleList(AttentionalFusion(self.width) for _ in range(scale - 1 if fusion else 0))
        self.conv3 = nn.Conv2d(self.width * scale, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != out_channels:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        residual = conv_norm(x, *self.shortcut) if len(self.shortcut) else x
        groups = clipped_relu_(conv_norm(x, self.conv1, self.bn1)).split(self.width, dim=1)
        done: list[Tensor] = []
        for i, (conv, norm) in enumerate(zip(self.convs, self.bns)):
            joined = self._joined(done[-1], groups[i], i - 1) if done else groups[i]
            done.append(clipped_relu_(conv_norm(joined, conv, norm)))
        return clipped_relu_(conv_norm(torch.cat(done, dim=1), self.conv3, self.bn3) + residual)

    def _joined(self, before: Tensor, group: Tensor, index: int) -> Tensor:
        return self.fuse_models[index](before, group) if len(self.fuse_models) else before + group


class StatsPool2d(nn.Module):
    """Mean and standard deviation over time: (batch, channels, freq, frames) -> (batch, 2 * channels * freq)."""

    def forward(self, x: Tensor) -> Tensor:
        deviation = (x.var(dim=-1) + VARIANCE_FLOOR).sqrt()
        return torch.cat((x.mean(dim=-1).flatten(1), deviation.flatten(1)), dim=1)

"""Parts of emotion2vec, a data2vec 2.0 encoder for audio; tensors are (batch, frames, dim) unless said otherwise."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SwapAxes(nn.Module):
    """(batch, a, b) -> (batch, b, a); has no parameters and keeps the numbering of a Sequential."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def channel_norm(channels: int, affine: bool = True) -> nn.Sequential:
    """Layer norm over the channels of (batch, channels, frames)."""
    return nn.Sequential(SwapAxes(), nn.LayerNorm(channels, elementwise_affine=affine), SwapAxes())


class WaveEncoder(nn.Module):
    """Strided convolutions from samples to frames.

    Args:
        spec: (channels, kernel, stride) of each convolution.
    """

    def __init__(self, spec: list[tuple[int, int, int]]) -> None:
        super().__init__()
        self.spec = spec
        self.conv_layers = nn.ModuleList()
        in_channels = 1
        for channels, kernel, stride in spec:
            conv = nn.Conv1d(in_channels, channels, kernel, stride=stride, bias=False)
            self.conv_layers.append(nn.Sequential(conv, nn.Identity(), channel_norm(channels), nn.GELU()))
            in_channels = channels

    def min_samples(self) -> int:
        """Samples that one frame needs."""
        samples = 1
        for _, kernel, stride in reversed(self.spec):
            samples = (samples - 1) * stride + kernel
        return samples

    def forward(self, waves: Tensor) -> Tensor:
        """(batch, samples) -> (batch, channels, frames)."""
        x = waves.unsqueeze(1)
        for layer in self.conv_layers:
            x = layer(x)
        return x


class PositionConv(nn.Sequential):
    """One grouped convolution of the positional encoding: (batch, dim, frames) -> the same."""

    def __init__(self, dim: int, kernel: int, groups: int) -> None:
        conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups)
        super().__init__(conv, channel_norm(dim, affine=False), nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        conv, norm, activation = self
        return activation(norm(conv(x)[..., : x.size(2)]))  # an even kernel gives a frame too many


def position_encoder(dim: int, width: int, depth: int, groups: int, pre_norm: bool) -> nn.Sequential:
    """Positions from the frames around: `depth` convolutions that see about `width` frames together."""
    kernel = max(3, width // depth)
    convs = nn.Sequential(SwapAxes(), *(PositionConv(dim, kernel, groups) for _ in range(depth)), SwapAxes())
    return nn.Sequential(nn.LayerNorm(dim), convs) if pre_norm else convs


def alibi_slopes(heads: int) -> list[float]:
    """Slopes of Press et al., "Train Short, Test Long" (2022), for any number of heads."""

    def geometric(count: int) -> list[float]:
        return [2.0 ** (-8.0 * (i + 1) / count) for i in range(count)]

    power = 2 ** math.floor(math.log2(heads))
    return geometric(power) + geometric(2 * power)[::2][: heads - power]


def alibi_bias(heads: int, frames: int, extra: int, device: torch.device) -> Tensor:
    """What attention loses with distance, -|i - j| * slope: (heads, extra + frames, extra + frames).

    The `extra` tokens at the front are near to everything.
    """
    positions = torch.arange(frames, device=device)
    distance = (positions[:, None] - positions[None]).abs().neg().float()
    slopes = torch.tensor(alibi_slopes(heads), device=device)
    return F.pad(distance * slopes[:, None, None], (extra, 0, extra, 0))


class Attention(nn.Module):
    """Multi-head self-attention with a bias on the scores."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x (batch, frames, dim), bias (heads, frames, frames)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = bias[None].to(x.dtype) if bias is not None else None
        return self.proj(F.scaled_dot_product_attention(q, k, v, mask).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Transformer block.

    Args:
        norm_first: layer norms before attention and feed-forward instead of behind them.  The feed-forward output is
            then added to itself, not to its input: released models were trained so.
    """

    def __init__(
        self, dim: int, heads: int, mlp_ratio: float, norm_eps: float, norm_affine: bool, norm_first: bool
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.norm1 = nn.LayerNorm(dim, norm_eps, norm_affine)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim, norm_eps, norm_affine)
        self.mlp = FeedForward(dim, int(dim * mlp_ratio))

    def forward(self, x: Tensor, bias: Tensor | None) -> Tensor:
        if self.norm_first:
            x = x + self.attn(self.norm1(x), bias)
            return 2.0 * self.mlp(self.norm2(x))
        x = self.norm1(x + self.attn(x, bias))
        return self.norm2(x + self.mlp(x))

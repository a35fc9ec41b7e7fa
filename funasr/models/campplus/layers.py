"""Parts of CAM++: tensors are (batch, frames, channels) behind the 2-D convolutional head."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from funasr.layers.conv_norm import conv_norm, norm_as_affine
from funasr.layers.frame_conv import frame_conv
from funasr.layers.linear import product
from funasr.utils.errors import ConfigError

HEAD_CHANNELS = 32
SEGMENT_FRAMES = 100  # of the local context, 2 s
CACHE_BYTES = 8_000_000  # a CPU works fastest on maps of this size, which stay in its cache


class FrameNorm(nn.BatchNorm1d):
    """Batch normalisation of (rows, channels)."""

    def forward(self, input: Tensor) -> Tensor:
        if self.training or input.dtype != torch.float32:
            return super().forward(input)
        # One multiplication and one addition: torch's own takes twice as long with channels last.
        scale, shift = norm_as_affine(self)
        return torch.addcmul(shift, input, scale)


class Nonlinear(nn.Sequential):
    """Normalisation and activation of (..., channels)."""

    def forward(self, input: Tensor) -> Tensor:
        rows = input.flatten(0, -2)
        for part in self:
            rows = part(rows)
        return rows.view(input.shape)


def nonlinear(config_str: str, channels: int) -> Nonlinear:
    """Normalisation and activation named by "batchnorm-relu" and the like, as submodules of those names."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    for name in config_str.split("-"):
        if name == "relu":
            parts["relu"] = nn.ReLU(inplace="batchnorm" in parts)  # the norm's output is nobody else's
        elif name == "prelu":
            parts["prelu"] = nn.PReLU(channels)
        elif name in ("batchnorm", "batchnorm_"):
            parts["batchnorm"] = FrameNorm(channels, affine=name == "batchnorm")
        else:
            raise ConfigError(f"model_conf: config_str names '{name}'; known: batchnorm, batchnorm_, relu, prelu")
    return Nonlinear(parts)


class FrameConv(nn.Conv1d):
    """A convolution over time of (batch, frames, channels); one of kernel 1 is the matrix product that it is."""

    def forward(self, input: Tensor) -> Tensor:
        """(batch, frames, in_channels) -> (batch, fewer or as many frames, out_channels)."""
        if self.kernel_size == (1,):
            return product(input, self.weight.squeeze(2), self.bias)
        padding = int(self.padding[0])
        return frame_conv(input, self.weight, self.bias, self.stride[0], padding, self.dilation[0])


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions over (frequency, time) and a shortcut; the stride is in frequency only."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1:
            conv = nn.Conv2d(channels, channels, 1, stride=(stride, 1), bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, freq, frames) -> (batch, channels, ceil(freq / stride), frames)."""
        residual = conv_norm(x, *self.shortcut) if len(self.shortcut) else x
        out = F.relu_(conv_norm(x, self.conv1, self.bn1))
        return F.relu_(conv_norm(out, self.conv2, self.bn2) + residual)


class ConvHead(nn.Module):
    """2-D residual convolutions that halve the frequency axis three times."""

    def __init__(self, feat_dim: int) -> None:
        super().__init__()
        if feat_dim % 8:
            raise ConfigError(f"model_conf: feat_dim must be a multiple of 8, not {feat_dim}")
        channels = HEAD_CHANNELS
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.layer1 = nn.Sequential(ResidualBlock(channels, 2), ResidualBlock(channels, 1))
        self.layer2 = nn.Sequential(ResidualBlock(channels, 2), ResidualBlock(channels, 1))
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self._output_size = channels * (feat_dim // 8)

    def output_size(self) -> int:
        """Channels of the output."""
        return self._output_size

    def forward(self, feats: Tensor) -> Tensor:
        """(batch, frames, feat_dim) -> (batch, frames, 32 * feat_dim / 8)."""
        if self.training or feats.device.type != "cpu" or feats.size(0) == 0:
            return self._maps(feats)
        map_bytes = 4 * HEAD_CHANNELS * feats.size(1) * feats.size(2)
        parts = feats.split(max(1, CACHE_BYTES // max(map_bytes, 1)))
        return torch.cat([self._maps(part) for part in parts]) if len(parts) > 1 else self._maps(feats)

    def _maps(self, feats: Tensor) -> Tensor:
        x = feats.transpose(1, 2).unsqueeze(1)
        out = F.relu_(conv_norm(x, self.conv1, self.bn1))
        if not self.training:  # the layout in which CPU convolutions of 32 channels are fastest
            out = out.contiguous(memory_format=torch.channels_last)
        out = self.layer2(self.layer1(out))
        return F.relu_(conv_norm(out, self.conv2, self.bn2)).flatten(1, 2).mT.contiguous()


class Tdnn(nn.Module):
    """The only step in time: kernel 5, stride 2; ceil(frames / 2) frames come out."""

    def __init__(self, in_channels: int, out_channels: int, config_str: str) -> None:
        super().__init__()
        self.linear = FrameConv(in_channels, out_channels, 5, stride=2, padding=2, bias=False)
        self.nonlinear = nonlinear(config_str, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.nonlinear(self.linear(x))


class ContextMask(nn.Module):
    """A dilated convolution whose output is weighted, channel by channel, by the context.

    The context is the mean over the utterance plus the mean over the segment of 100 frames, so the mask is the same
    for all frames of a segment and is computed once for each.
    """

    def __init__(self, in_channels: int, out_channels: int, dilation: int) -> None:
        super().__init__()
        self.linear_local = FrameConv(in_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False)
        self.linear1 = FrameConv(in_channels, in_channels // 2, 1)
        self.linear2 = FrameConv(in_channels // 2, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, in_channels) -> (batch, frames, out_channels)."""
        frames = x.size(1)
        context = x.mean(dim=1, keepdim=True)
        if frames > SEGMENT_FRAMES:  # the last mean is over the frames there are
            context = context + F.avg_pool1d(x.mT, SEGMENT_FRAMES, SEGMENT_FRAMES, ceil_mode=True).mT
        else:
            context = 2.0 * context
        mask = torch.sigmoid(self.linear2(F.relu(self.linear1(context))))
        if frames > SEGMENT_FRAMES:
            mask = mask.repeat_interleave(SEGMENT_FRAMES, dim=1)[:, :frames]
        return self.linear_local(x) * mask


class DenseTdnnLayer(nn.Module):
    """Bottleneck and context mask; gives the `growth_rate` channels that are added to its input."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        bottleneck: int,
        dilation: int,
        config_str: str,
        memory_efficient: bool,
    ) -> None:
        super().__init__()
        self.nonlinear1 = nonlinear(config_str, in_channels)
        self.linear1 = FrameConv(in_channels, bottleneck, 1, bias=False)
        self.nonlinear2 = nonlinear(config_str, bottleneck)
        self.cam_layer = ContextMask(bottleneck, out_channels, dilation)
        self.memory_efficient = memory_efficient

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, in_channels) -> (batch, frames, out_channels)."""
        if self.training and self.memory_efficient and torch.is_grad_enabled():
            squeezed = checkpoint(self._squeeze, x, use_reentrant=False)
        else:
            squeezed = self._squeeze(x)
        return self.cam_layer(self.nonlinear2(squeezed))

    def _squeeze(self, x: Tensor) -> Tensor:
        return self.linear1(self.nonlinear1(x))


class DenseBlock(nn.Module):
    """Layers `tdnnd1`, `tdnnd2`, ...; each sees the block's input and the output of all layers before it."""

    def __init__(
        self,
        layers: int,
        in_channels: int,
        growth_rate: int,
        bottleneck: int,
        dilation: int,
        config_str: str,
        memory_efficient: bool,
    ) -> None:
        super().__init__()
        self.growth_rate = growth_rate
        for i in range(layers):
            layer = DenseTdnnLayer(
                in_channels + i * growth_rate, growth_rate, bottleneck, dilation, config_str, memory_efficient
            )
            self.add_module(f"tdnnd{i + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, frames, in_channels) -> (batch, frames, in_channels + layers * growth_rate)."""
        if torch.is_grad_enabled():
            for layer in self.children():
                x = torch.cat((x, layer(x)), dim=2)
            return x
        first, each = x.size(2), self.growth_rate
        grown = x.new_empty(x.size(0), x.size(1), first + each * len(self._modules))
        grown[..., :first] = x
        for end, layer in zip(range(first, grown.size(2), each), self.children()):
            grown[..., end : end + each] = layer(grown[..., :end])
        return grown


class Transit(nn.Module):
    """Halves the channels between dense blocks."""

    def __init__(self, in_channels: int, out_channels: int, config_str: str) -> None:
        super().__init__()
        self.nonlinear = nonlinear(config_str, in_channels)
        self.linear = FrameConv(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.nonlinear(x))


class StatsPool(nn.Module):
    """Mean and standard deviation over time: (batch, frames, channels) -> (batch, 2 * channels)."""

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=1, keepdim=True)
        # `x.std(dim=1)` takes ten times as long over frames that lie far apart.
        variance = (x - mean).square().sum(dim=1) / (x.size(1) - 1)
        return torch.cat((mean.squeeze(1), variance.sqrt()), dim=1)


class DenseLayer(nn.Module):
    """Linear layer (its weight kept as a 1x1 convolution, as in released models) and a plain batch norm."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = FrameConv(in_channels, out_channels, 1, bias=False)
        self.nonlinear = nonlinear("batchnorm_", out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in_channels) -> (batch, out_channels)."""
        return self.nonlinear(self.linear(x))

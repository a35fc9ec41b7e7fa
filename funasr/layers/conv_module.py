"""The convolution module of Conformer blocks (Gulati et al., 2020)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from funasr.layers.feed_forward import make_activation
from funasr.layers.frame_conv import frame_conv
from funasr.utils.errors import ConfigError


class ConvolutionModule(nn.Module):
    """Point-wise convolution with gated linear unit, depth-wise convolution, batch norm, point-wise convolution.

    Args:
        channels: width.
        kernel_size: frames of the depth-wise kernel; odd.
    """

    def __init__(self, channels: int, kernel_size: int, activation: nn.Module | str = "swish") -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ConfigError(f"cnn_module_kernel must be odd, not {kernel_size}")
        self.pointwise_conv1 = nn.Conv1d(channels, 2 * channels, 1)
        self.depthwise_conv = nn.Conv1d(
            channels, channels, kernel_size, padding=(kernel_size - 1) // 2, groups=channels
        )
        self.norm = nn.BatchNorm1d(channels)
        self.pointwise_conv2 = nn.Conv1d(channels, channels, 1)
        self.activation = make_activation(activation) if isinstance(activation, str) else activation

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Tensor:
        """(batch, frames, channels) -> same shape.

        Args:
            valid: bool (batch, frames); frames outside are silenced before the depth-wise kernel can spread them.
        """
        # A kernel of one frame is a linear layer, which needs no transposed copy.
        x = F.glu(_pointwise(self.pointwise_conv1, x), dim=-1)
        if valid is not None:
            x = x.masked_fill(~valid[..., None], 0.0)
        conv = self.depthwise_conv
        x = frame_conv(x, conv.weight, conv.bias, padding=int(conv.padding[0]), groups=conv.groups)
        x = self.activation(self.norm(x.transpose(1, 2)))
        return _pointwise(self.pointwise_conv2, x.transpose(1, 2))


def _pointwise(conv: nn.Conv1d, x: Tensor) -> Tensor:
    return F.linear(x, conv.weight.squeeze(-1), conv.bias)

"""A convolution and the batch norm behind it, as one operation where that is possible."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


def conv_norm(x: Tensor, conv: nn.Module, norm: nn.Module) -> Tensor:
    """`norm(conv(x))`; in eval mode the norm is folded into the kernel, which saves a pass over the output.

    Folding costs one multiplication of the kernel and is done at each call, so nothing goes stale when weights change.

    Args:
        x: (batch, channels, frames) or (batch, channels, freq, frames).
        conv: Conv1d or Conv2d; norm: BatchNorm1d or BatchNorm2d with affine parameters.
    """
    assert isinstance(conv, (nn.Conv1d, nn.Conv2d)) and isinstance(norm, (nn.BatchNorm1d, nn.BatchNorm2d))
    if norm.training or norm.running_var is None or norm.running_mean is None:
        return norm(conv(x))
    scale, shift = norm_as_affine(norm)
    if conv.bias is not None:
        shift = shift + conv.bias * scale
    kernel = conv.weight * scale.view(-1, *[1] * (conv.weight.dim() - 1))
    convolve = F.conv2d if isinstance(conv, nn.Conv2d) else F.conv1d
    return convolve(x, kernel, shift, conv.stride, conv.padding, conv.dilation, conv.groups)


def norm_as_affine(norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """A batch norm in eval mode as a factor (channels,) and then a summand (channels,)."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if not norm.affine:
        return scale, -norm.running_mean * scale
    scale = scale * norm.weight
    return scale, norm.bias - norm.running_mean * scale

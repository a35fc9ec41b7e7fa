"""Feed-forward sequential memory blocks: projection, depth-wise memory over time, affine layer and ReLU.

Zhang et al., "Feedforward Sequential Memory Networks: A New Structure to Learn Long-term Dependency", 2015, in the
compact form with a narrow projection.  The blocks of voice activity detection and keyword spotting.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.layers.frame_conv import frame_conv
from funasr.layers.linear import linear_relu, plus
from funasr.utils.errors import ConfigError

MANY_FRAMES = 1000
"""Of fewer, adding the identity costs less than a kernel that has it."""


class Projection(nn.Module):
    """A linear layer under the name `linear`, as released models have it."""

    def __init__(self, input_dim: int, output_dim: int, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(input_dim, output_dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(..., input_dim) -> (..., output_dim)."""
        return self.linear(x)


class SequentialMemory(nn.Module):
    """Identity plus a weighted sum of past frames and, if `rorder` > 0, of coming ones, per channel.

    Args:
        dim: channels.
        lorder, lstride: number of taps that look back (the first on the frame itself), and frames between them.
        rorder, rstride: number of taps that look ahead (the first `rstride` frames on), and frames between them.
    """

    def __init__(self, dim: int, lorder: int, rorder: int = 0, lstride: int = 1, rstride: int = 1) -> None:
        super().__init__()
        if lorder < 1 or lstride < 1 or rorder < 0 or (rorder > 0 and rstride < 1):
            raise ConfigError(
                f"a memory needs lorder >= 1, lstride >= 1, rorder >= 0 and rstride >= 1 if rorder > 0, not "
                f"lorder {lorder}, lstride {lstride}, rorder {rorder}, rstride {rstride}"
            )
        self.dim = dim
        self.past_frames = (lorder - 1) * lstride
        self.lstride, self.rstride, self.rorder = lstride, rstride, rorder
        self.conv_left = nn.Conv2d(dim, dim, (lorder, 1), groups=dim, bias=False)
        self.conv_right = nn.Conv2d(dim, dim, (rorder, 1), groups=dim, bias=False) if rorder else None

    def forward(self, x: Tensor, past: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Memory of x (batch, frames, dim).

        Args:
            past: (batch, dim, past_frames, 1) as the call before returned it; None: zeros.  Frames after the end of
                x are zeros always.

        Returns:
            (batch, frames, dim) and the last frames for the next call, float32, shaped as `past`.
        """
        frames, reach = x.size(1), self.past_frames
        kernel, with_x = self._kernel(x)
        # Padding the convolution spares a copy of x behind the past frames; what they reach is done on its own.
        memory = self._convolve(x, kernel, self.lstride, reach)[:, :frames]
        if past is None:
            begin = F.pad(x[:, :reach], (0, 0, reach, 0))
        else:
            begin = torch.cat([past.squeeze(3).mT.to(x.dtype), x[:, :reach]], dim=1)
            if reach:
                memory[:, :reach] = self._convolve(begin, kernel, self.lstride)
        memory = memory if with_x else plus(memory, x)
        if self.conv_right is not None:
            coming = F.pad(x, (0, 0, 0, self.rorder * self.rstride))[:, self.rstride :]
            memory = plus(memory, self._convolve(coming, self.conv_right.weight.squeeze(3), self.rstride))
        # A copy always: a view would keep the whole array.
        last = x[:, frames - reach :] if frames >= reach else begin[:, begin.size(1) - reach :]
        kept = last.mT.unsqueeze(3).to(torch.float32, copy=True)
        return memory, kept

    def _kernel(self, x: Tensor) -> tuple[Tensor, bool]:
        """The kernel of the past (dim, 1, lorder), and whether the identity is in it, which spares the addition.

        Only in float32 on a CPU without gradients: in other types, and in TF32 on a GPU, it would round x.
        """
        weight = self.conv_left.weight.squeeze(3)
        exact = weight.dtype == x.dtype == torch.float32 and x.device.type == "cpu"
        if x.size(1) < MANY_FRAMES or not exact or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return weight, False
        weight = weight.clone()
        weight.select(2, -1).add_(1.0)
        return weight, True

    def _convolve(self, x: Tensor, kernel: Tensor, stride: int, padding: int = 0) -> Tensor:
        return frame_conv(x, kernel, padding=padding, dilation=stride, groups=self.dim)


class FSMNLayer(nn.Module):
    """linear_dim -> projection -> memory -> linear_dim, ReLU; no residual around it."""

    def __init__(
        self, linear_dim: int, proj_dim: int, lorder: int, rorder: int = 0, lstride: int = 1, rstride: int = 1
    ) -> None:
        super().__init__()
        self.linear = Projection(linear_dim, proj_dim, bias=False)
        self.fsmn_block = SequentialMemory(proj_dim, lorder, rorder, lstride, rstride)
        self.affine = Projection(proj_dim, linear_dim)

    def forward(self, x: Tensor, past: Tensor | None = None, outside: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (batch, frames, linear_dim) -> the same shape, and the memory's frames for the next call.

        Args:
            past: see SequentialMemory.
            outside: bool (batch, frames), True where a frame is padding and must not be remembered.
        """
        projected = self.linear(x)
        if outside is not None:
            projected = projected.masked_fill(outside[..., None], 0.0)
        memory, past = self.fsmn_block(projected, past)
        return linear_relu(self.affine.linear, memory), past

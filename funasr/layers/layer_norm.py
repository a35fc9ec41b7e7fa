"""Layer normalisation computed in float32 whatever the autocast type."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LayerNorm(nn.LayerNorm):
    """Layer normalisation over the last dimension, (..., dim) -> (..., dim).

    `eps` is 1e-12, as in the released checkpoints, which needs float32: statistics of bfloat16 or float16 input are
    computed in float32 and the result goes back to the type of the input.
    """

    def __init__(self, dim: int, eps: float = 1e-12) -> None:
        super().__init__(dim, eps=eps)

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype == torch.float32 and self.weight.dtype == torch.float32:
            return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)
        normed = F.layer_norm(input.float(), self.normalized_shape, self.weight.float(), self.bias.float(), self.eps)
        return normed.to(input.dtype)

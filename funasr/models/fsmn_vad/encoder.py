"""`FSMN`: the small network behind voice activity detection and keyword spotting."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from funasr.layers.fsmn import FSMNLayer, Projection
from funasr.layers.linear import chained, linear_relu
from funasr.layers.mask import length_mask
from funasr.register import tables

Cache = dict[str, Tensor]


@tables.register("encoder_classes", "FSMN", aliases=("fsmn",))
class FSMN(nn.Module):
    """Two affine layers, FSMN blocks, two affine layers: one vector of `output_dim` values for every frame.

    Default sizes are those of the released voice activity detector.

    Args:
        input_dim: of the features.
        input_affine_dim, output_affine_dim: widths of the bottlenecks at both ends.
        fsmn_layers, linear_dim, proj_dim: number, outer and inner width of the blocks.
        lorder, rorder, lstride, rstride: memory of the blocks, see funasr.layers.fsmn.SequentialMemory.
        output_dim: number of units.
        use_softmax: give probabilities instead of logits.
    """

    def __init__(
        self,
        input_dim: int,
        input_affine_dim: int = 140,
        fsmn_layers: int = 4,
        linear_dim: int = 250,
        proj_dim: int = 128,
        lorder: int = 20,
        rorder: int = 0,
        lstride: int = 1,
        rstride: int = 0,
        output_affine_dim: int = 140,
        output_dim: int = 248,
        use_softmax: bool = True,
    ) -> None:
        super().__init__()
        self.in_linear1 = Projection(input_dim, input_affine_dim)
        self.in_linear2 = Projection(input_affine_dim, linear_dim)
        self.fsmn = nn.ModuleList(
            FSMNLayer(linear_dim, proj_dim, lorder, rorder, lstride, rstride) for _ in range(fsmn_layers)
        )
        self.out_linear1 = Projection(linear_dim, output_affine_dim)
        self.out_linear2 = Projection(output_affine_dim, output_dim)
        self.looks_ahead = rorder > 0
        self.use_softmax = use_softmax
        self._output_dim = output_dim

    def output_size(self) -> int:
        """Number of units."""
        return self._output_dim

    @torch.no_grad()
    def initialize_parameters(self, init: str) -> None:
        """Let the memories begin as faint means of their frames (see funasr.layers.initialize).

        The rules for matrices suppose inputs that are independent.  Neighbouring frames are nearly the same, so that
        each block would multiply its input.
        """
        for layer in self.fsmn:
            for weight in layer.fsmn_block.parameters():  # type: ignore[union-attr]
                nn.init.uniform_(weight, -1.0 / weight.size(2), 1.0 / weight.size(2))

    def forward(self, xs: Tensor, xs_lengths: Tensor, isolate: bool = False) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Units of whole utterances.

        Args:
            xs: features (batch, frames, input_dim); xs_lengths: (batch,).
            isolate: keep padding out of valid frames (it reaches them if the memory looks ahead).

        Returns:
            (batch, frames, output_dim), xs_lengths and no intermediate outputs.
        """
        outside = ~length_mask(xs_lengths.to(xs.device), xs.size(1)) if isolate and self.looks_ahead else None
        return self._activate(self.logits(xs, outside=outside)), xs_lengths, []

    def forward_chunk(self, xs: Tensor, cache: Cache) -> Tensor:
        """Units of the next frames of a stream.

        Args:
            xs: (batch, frames, input_dim).
            cache: empty at the start of a stream; afterwards `cache_layer_{i}` -> (batch, proj_dim, frames, 1).

        Returns:
            (batch, frames, output_dim): those of the whole stream, however it is cut, unless the memory looks ahead,
            because frames after the end of a chunk count as zeros.
        """
        return self._activate(self.logits(xs, cache))

    def logits(self, xs: Tensor, cache: Cache | None = None, outside: Tensor | None = None) -> Tensor:
        """(batch, frames, output_dim) before the softmax; `cache` is filled, `outside` (batch, frames) is padding."""
        x = linear_relu(self.in_linear2.linear, self.in_linear1(xs))
        for i, layer in enumerate(self.fsmn):
            x, past = layer(x, None if cache is None else cache.get(f"cache_layer_{i}"), outside)
            if cache is not None:
                cache[f"cache_layer_{i}"] = past
        return chained(self.out_linear1.linear, self.out_linear2.linear, x)

    def _activate(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(dim=-1) if self.use_softmax else logits

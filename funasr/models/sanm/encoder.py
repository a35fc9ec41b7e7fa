"""The SAN-M encoder of Paraformer and of the SANM attention model."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor, nn

from funasr.layers.embedding import PositionalEncoding
from funasr.layers.layer_norm import LayerNorm
from funasr.layers.mask import padding_mask
from funasr.layers.packing import packed, unpacked, worthwhile_packing
from funasr.layers.sanm import SANMEncoderLayer, position_table
from funasr.layers.subsampling import intermediate_layers, make_input_layer
from funasr.register import tables


@tables.register("encoder_classes", "SANMEncoder", aliases=("sanm",))
class SANMEncoder(nn.Module):
    """Blocks of self-attention with FSMN memory (Gao et al., "SAN-M", 2020).

    Args:
        input_size: feature dimension.
        output_size: width of the blocks; attention_heads must divide it.
        linear_units: hidden units of the feed-forward blocks.
        positional_dropout_rate: after adding positions; with `pe` no dropout follows them.
        input_layer: `pe` adds positions to the (stacked) features, whose width only the first block changes; conv2d,
            conv2d2, conv2d6, conv2d8 sub-sample; `linear`, `embed`; null adds nothing.
        kernel_size: frames of the FSMN memory; sanm_shfit: by how many it looks further back than centred.
        interctc_layer_idx: blocks, counted from 1, whose (normalised) output is returned too.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int = 256,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 6,
        dropout_rate: float = 0.1,
        positional_dropout_rate: float = 0.1,
        attention_dropout_rate: float = 0.0,
        input_layer: str | None = "conv2d",
        normalize_before: bool = True,
        padding_idx: int = -1,
        kernel_size: int = 11,
        sanm_shfit: int = 0,
        interctc_layer_idx: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self._output_size = output_size
        self.add_positions = input_layer == "pe"
        self.position: PositionalEncoding | None = None
        width = input_size
        if input_layer not in ("pe", None):
            self.embed = make_input_layer(
                input_layer, input_size, output_size, dropout_rate, relu=True, padding_idx=padding_idx
            )
            self.position = PositionalEncoding(output_size, positional_dropout_rate)
            width = output_size
        shape = (output_size, attention_heads, linear_units, kernel_size, sanm_shfit)
        rates = (dropout_rate, attention_dropout_rate, normalize_before)
        self.encoders0 = nn.ModuleList([SANMEncoderLayer(width, *shape, *rates)])
        self.encoders = nn.ModuleList(SANMEncoderLayer(output_size, *shape, *rates) for _ in range(num_blocks - 1))
        self.normalize_before = normalize_before
        if normalize_before:
            self.after_norm = LayerNorm(output_size)
        self.interctc_layer_idx = intermediate_layers(interctc_layer_idx, num_blocks)

    def output_size(self) -> int:
        return self._output_size

    def forward(self, xs: Tensor, xs_lengths: Tensor, isolate: bool = False) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode features.

        Args:
            xs: (batch, frames, input_size), or token ids (batch, frames) with input_layer `embed`.
            xs_lengths: (batch,).
            isolate: sub-sampled lengths as each utterance alone would have them (see funasr.layers.subsampling).

        Returns:
            output (batch, frames', output_size), lengths (batch,), outputs of `interctc_layer_idx`.
        """
        xs, lengths = self._enter(xs, xs_lengths, isolate)
        if xs.size(1) == 0:
            return xs.new_zeros(xs.size(0), 0, self._output_size), lengths, []
        mask = padding_mask(lengths, xs.size(1))
        packing = worthwhile_packing(lengths, xs.size(1)) if isolate else None
        xs = packed(xs, packing)
        intermediate = []
        for number, block in enumerate([*self.encoders0, *self.encoders], start=1):
            xs = block(xs, mask, packing)
            if number in self.interctc_layer_idx:
                intermediate.append(unpacked(self._leave(xs), packing))
        return unpacked(self._leave(xs), packing), lengths, intermediate

    def _enter(self, xs: Tensor, lengths: Tensor, isolate: bool) -> tuple[Tensor, Tensor]:
        if self.position is not None:
            xs, lengths = self.embed(xs, lengths, isolate)
            return self.position(xs)[0], lengths
        # In float32: features that are tens wide would swallow the positions in half precision.
        scaled = xs.float() * math.sqrt(self._output_size)
        if self.add_positions:
            scaled = scaled + position_table(xs.size(1), xs.size(2), xs.device)
        return scaled.to(xs.dtype), lengths

    def _leave(self, xs: Tensor) -> Tensor:
        return self.after_norm(xs) if self.normalize_before else xs

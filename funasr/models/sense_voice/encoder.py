"""The encoder of SenseVoiceSmall: two stacks of SAN-M blocks, one after the other."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from funasr.layers.layer_norm import LayerNorm
from funasr.layers.mask import padding_mask
from funasr.layers.packing import packed, unpacked, worthwhile_packing
from funasr.layers.sanm_encoder import SANMEncoderStack
from funasr.register import tables
from funasr.utils.signature import extends

NORM_EPS = 1e-5  # released SenseVoice weights know this one, other SAN-M models 1e-12


@tables.register("encoder_classes", "SenseVoiceEncoderSmall")
class SenseVoiceEncoderSmall(SANMEncoderStack):
    """SANMEncoderStack, a second stack behind it, and a layer norm after each.

    Args:
        num_blocks, tp_blocks: blocks of the first and of the second stack.

    The other arguments are those of SANMEncoderStack.
    """

    @extends(SANMEncoderStack.__init__)
    def __init__(self, *, output_size: int = 256, num_blocks: int = 6, tp_blocks: int = 0, **options: Any) -> None:
        super().__init__(output_size=output_size, num_blocks=num_blocks + tp_blocks, **options)
        self.encoders, self.tp_encoders = self.encoders[: num_blocks - 1], self.encoders[num_blocks - 1 :]
        self.after_norm = LayerNorm(output_size)
        self.tp_norm = LayerNorm(output_size)
        for module in self.modules():
            if isinstance(module, LayerNorm):
                module.eps = NORM_EPS

    def forward(self, xs: Tensor, xs_lengths: Tensor, isolate: bool = False) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode features xs (batch, frames, input_size) with xs_lengths (batch,).

        Padding never reaches a valid frame, so `isolate` makes no difference.

        Returns:
            output (batch, frames, output_size), xs_lengths, no intermediate outputs.
        """
        mask = padding_mask(xs_lengths, xs.size(1))
        packing = worthwhile_packing(xs_lengths, xs.size(1))
        hidden = packed(self.with_positions(xs), packing)
        for block in (*self.encoders0, *self.encoders):
            hidden = block(hidden, mask, packing)
        hidden = self.after_norm(hidden)
        for block in self.tp_encoders:
            hidden = block(hidden, mask, packing)
        return unpacked(self.tp_norm(hidden), packing), xs_lengths, []

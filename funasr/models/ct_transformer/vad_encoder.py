"""The SAN-M encoder of realtime punctuation: it looks back, and only its last block looks ahead."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from funasr.layers.layer_norm import LayerNorm
from funasr.layers.mask import causal_mask, length_mask
from funasr.layers.packing import packed, unpacked, worthwhile_packing
from funasr.layers.sanm_encoder import SANMEncoderStack
from funasr.register import tables
from funasr.utils.signature import extends


def visible_tokens(lengths: Tensor, size: int, vad_indexes: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Which tokens each token sees in the causal blocks and in the last block, (batch, size, size) bool each.

    In the last block each token sees all, but with a pause before token number v (`vad_indexes`, (batch,), 0 = none)
    those before token v - 1 do not see beyond the pause.
    """
    valid = length_mask(lengths, size)
    both = valid[:, :, None] & valid[:, None, :]
    causal = both & causal_mask(size, lengths.device)
    if vad_indexes is None:
        return causal, both
    position = torch.arange(size, device=lengths.device)
    pause = vad_indexes.to(lengths.device)[:, None, None]
    beyond = (position[:, None] < pause - 1) & (position >= pause)
    return causal, both & ~beyond


@tables.register("encoder_classes", "SANMVadEncoder", aliases=("sanm_vad",))
class SANMVadEncoder(SANMEncoderStack):
    """SAN-M blocks in which a token sees those before it; the last of several blocks sees all up to a pause.

    Chen et al., "Controllable Time-Delay Transformer for Real-Time Punctuation Prediction and Disfluency Detection",
    2020.

    Arguments are those of SANMEncoderStack.
    """

    @extends(SANMEncoderStack.__init__)
    def __init__(self, *, output_size: int = 256, normalize_before: bool = True, **options: Any) -> None:
        super().__init__(output_size=output_size, normalize_before=normalize_before, **options)
        self.normalize_before = normalize_before
        if normalize_before:
            self.after_norm = LayerNorm(output_size)

    def forward(
        self, xs: Tensor, xs_lengths: Tensor, vad_indexes: Tensor | None = None, isolate: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode token embeddings.

        Args:
            xs: (batch, tokens, input_size); xs_lengths: (batch,).
            vad_indexes: (batch,) first token after a pause, 0 if there is none.
            isolate: without meaning here, padding never reaches a token.

        Returns:
            output (batch, tokens, output_size), lengths (batch,), [].
        """
        if xs.size(1) == 0:
            return xs.new_zeros(xs.size(0), 0, self._output_size), xs_lengths, []
        causal, last = visible_tokens(xs_lengths, xs.size(1), vad_indexes)
        packing = worthwhile_packing(xs_lengths, xs.size(1))
        xs = packed(self.with_positions(xs), packing)
        blocks = [*self.encoders0, *self.encoders]
        for number, block in enumerate(blocks, start=1):
            xs = block(xs, last if 1 < number == len(blocks) else causal, packing)
        xs = self.after_norm(xs) if self.normalize_before else xs
        return unpacked(xs, packing), xs_lengths, []

"""The autoregressive decoder of the SANM attention model: FSMN memories instead of self-attention."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from funasr.layers.mask import length_mask
from funasr.layers.sanm import SANMDecoderStack
from funasr.register import tables
from funasr.utils.signature import extends


@tables.register("decoder_classes", "FsmnDecoder")
class FsmnDecoder(SANMDecoderStack):
    """Token embeddings (no positions) through FSMN memories and cross attention (Gao et al., "SAN-M", 2020).

    Args:
        sanm_shfit: shift of all memories; null makes them causal.  With less the memories see later tokens in training,
            which `step` cannot: the released models were trained so, new ones should not be.

    The other arguments are those of SANMDecoderStack.
    """

    shifts_all = True

    @extends(SANMDecoderStack.__init__, without=("use_output_layer", "wo_input_layer"))
    def __init__(self, *, sanm_shfit: int | None = None, **options: Any) -> None:
        super().__init__(sanm_shfit=sanm_shfit, **options)

    def forward(self, hs_pad: Tensor, hlens: Tensor, ys_in_pad: Tensor, ys_in_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Token scores given all earlier tokens.

        Args:
            hs_pad: encoder output (batch, frames, dim); hlens: (batch,).
            ys_in_pad: ids (batch, tokens), <s> first; ys_in_lens: (batch,).

        Returns:
            logits (batch, tokens, vocab_size), ys_in_lens.
        """
        x = self.hidden(hs_pad, hlens, self.embed(ys_in_pad), ys_in_lens)
        return self.output_layer(x), ys_in_lens

    def init_state(self, memory: Tensor, memory_lengths: Tensor) -> dict[str, Tensor]:
        """State before the first token for memory (batch, frames, dim): every tensor has the batch first.

        `mask` of the memory; per block its projected keys and values, and the (still empty) FSMN window.
        """
        state = {"mask": length_mask(memory_lengths, memory.size(1))[:, None]}
        for number, block in enumerate(self.blocks):
            state[f"window{number}"] = memory.new_zeros(memory.size(0), 0, self.output_layer.in_features)
            if block.src_attn is not None:
                keys, values = block.src_attn.keys_values(memory)
                state[f"keys{number}"], state[f"values{number}"] = keys, values
        return state

    def step(self, last_ids: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Log-probabilities (batch, vocab_size) float32 of the token after `last_ids` (batch,), and the new state."""
        state = dict(state)
        x = self.embed(last_ids[:, None])
        for number, block in enumerate(self.blocks):
            cross = None if block.src_attn is None else (state[f"keys{number}"], state[f"values{number}"])
            x, state[f"window{number}"] = block.step(x, state[f"window{number}"], cross, state["mask"])
        logits = self.output_layer(self.after_norm(self.decoders3[0](x)))[:, 0]
        return F.log_softmax(logits.float(), dim=-1), state

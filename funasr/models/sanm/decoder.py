"""The autoregressive decoder of the SANM attention model: FSMN memories instead of self-attention."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from funasr.layers.mask import length_mask
from funasr.layers.sanm import SANMDecoderStack
from funasr.register import tables


@tables.register("decoder_classes", "FsmnDecoder")
class FsmnDecoder(SANMDecoderStack):
    """Token embeddings (no positions) through FSMN memories and cross attention (Gao et al., "SAN-M", 2020).

    Args:
        encoder_output_size: width of the encoder output, and of the decoder unless `attention_dim` says otherwise.
        att_layer_num: blocks with cross attention; `num_blocks` - `att_layer_num` more (if positive) have none.
        sanm_shfit: shift of all memories; null makes them causal.  With less the memories see later tokens in training,
            which `step` cannot: the released models were trained so, new ones should not be.
    """

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 6,
        dropout_rate: float = 0.1,
        self_attention_dropout_rate: float = 0.0,
        src_attention_dropout_rate: float = 0.0,
        att_layer_num: int = 6,
        kernel_size: int = 21,
        sanm_shfit: int | None = None,
        attention_dim: int | None = None,
    ) -> None:
        dim = encoder_output_size if attention_dim is None else attention_dim
        shift = (kernel_size - 1) // 2 if sanm_shfit is None else sanm_shfit
        super().__init__(
            dim=dim,
            memory_dim=encoder_output_size,
            heads=attention_heads,
            hidden=linear_units,
            kernel_size=kernel_size,
            cross_blocks=att_layer_num,
            cross_shift=shift,
            memory_blocks=num_blocks - att_layer_num,
            memory_shift=shift,
            dropout=dropout_rate,
            self_attention_dropout=self_attention_dropout_rate,
            src_attention_dropout=src_attention_dropout_rate,
        )
        self.embed = nn.Sequential(nn.Embedding(vocab_size, dim))
        self.output_layer = nn.Linear(dim, vocab_size)

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

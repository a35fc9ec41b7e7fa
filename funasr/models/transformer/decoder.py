"""The autoregressive Transformer decoder (Vaswani et al., 2017)."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn
from torch.nn import functional as F

from funasr.layers.decoder_layer import DecoderLayer
from funasr.layers.embedding import PositionalEncoding
from funasr.layers.layer_norm import LayerNorm
from funasr.layers.mask import causal_mask, length_mask
from funasr.register import tables
from funasr.utils.errors import ConfigError

State = dict[str, Tensor]


@tables.register("decoder_classes", "TransformerDecoder", aliases=("transformer",))
class TransformerDecoder(nn.Module):
    """Embedding with absolute positions, `num_blocks` decoder blocks, a final normalisation and the output layer.

    Args:
        vocab_size: number of tokens.
        encoder_output_size: width of the encoder output, and of this decoder.
        input_layer: embed (token ids) or linear (one-hot or other vectors of `vocab_size` dimensions).
        normalize_before: pre-norm blocks and a final normalisation.
        concat_after: join input and output of the attentions by linear layers instead of adding them.
    """

    def __init__(
        self,
        vocab_size: int,
        encoder_output_size: int,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 6,
        dropout_rate: float = 0.1,
        positional_dropout_rate: float = 0.1,
        self_attention_dropout_rate: float = 0.0,
        src_attention_dropout_rate: float = 0.0,
        input_layer: str = "embed",
        normalize_before: bool = True,
        concat_after: bool = False,
    ) -> None:
        super().__init__()
        dim = encoder_output_size
        if input_layer == "embed":
            self.embed = nn.Sequential(nn.Embedding(vocab_size, dim))
        elif input_layer == "linear":
            self.embed = nn.Sequential(
                nn.Linear(vocab_size, dim), nn.LayerNorm(dim), nn.Dropout(dropout_rate), nn.ReLU()
            )
        else:
            raise ConfigError(f"decoder_conf: unknown input_layer '{input_layer}'; choose embed or linear")
        self.positions = PositionalEncoding(dim, positional_dropout_rate)
        self.decoders = nn.ModuleList(
            DecoderLayer(
                dim,
                attention_heads,
                linear_units,
                dropout_rate,
                self_attention_dropout_rate,
                src_attention_dropout_rate,
                normalize_before,
                concat_after,
            )
            for _ in range(num_blocks)
        )
        self.after_norm = LayerNorm(dim) if normalize_before else nn.Identity()
        self.output_layer = nn.Linear(dim, vocab_size)

    def forward(self, hs_pad: Tensor, hlens: Tensor, ys_in_pad: Tensor, ys_in_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Predict each next token from those before it (teacher forcing).

        Args:
            hs_pad: encoder output (batch, frames, dim); hlens: (batch,).
            ys_in_pad: token ids (batch, tokens) starting with sos; ys_in_lens: (batch,).

        Returns:
            logits (batch, tokens, vocab), ys_in_lens.
        """
        x, _ = self.positions(self.embed(ys_in_pad))
        memory_mask = length_mask(hlens, hs_pad.size(1))[:, None]
        # Padding stands at the end, where the causal mask already hides it from valid tokens.
        self_mask = causal_mask(x.size(1), x.device)[None]
        for layer in self.decoders:
            x = layer(x, self_mask, hs_pad, memory_mask)
        return self.output_layer(self.after_norm(x)), ys_in_lens

    def init_state(self, memory: Tensor, memory_lengths: Tensor) -> State:
        """State before the first token for memory (n, frames, dim) of memory_lengths (n,).

        Returns:
            `memory_mask` (n, 1, frames) and, for each block i, `cross_keys.i`, `cross_values.i` (n, heads, frames,
            d_k) and the still empty `self_keys.i`, `self_values.i` (n, heads, tokens, d_k).
        """
        state = {"memory_mask": length_mask(memory_lengths, memory.size(1))[:, None]}
        for i, layer in enumerate(self._layers()):
            keys, values = layer.src_attn.keys_values(memory)
            state |= {f"cross_keys.{i}": keys, f"cross_values.{i}": values}
            state |= {f"self_keys.{i}": keys[:, :, :0], f"self_values.{i}": values[:, :, :0]}
        return state

    def step(self, last_ids: Tensor, state: State) -> tuple[Tensor, State]:
        """Log probabilities (n, vocab), float32, after one more token `last_ids` (n,), and the new state."""
        new_state = dict(state)
        x, _ = self.positions(self.embed(last_ids[:, None]), start=state["self_keys.0"].size(2))
        for i, layer in enumerate(self._layers()):
            cache = state[f"self_keys.{i}"], state[f"self_values.{i}"]
            cross = state[f"cross_keys.{i}"], state[f"cross_values.{i}"]
            x, (keys, values) = layer.step(x, cache, cross, state["memory_mask"])
            new_state |= {f"self_keys.{i}": keys, f"self_values.{i}": values}
        logits = self.output_layer(self.after_norm(x))[:, 0]
        return F.log_softmax(logits.float(), dim=-1), new_state

    def _layers(self) -> list[DecoderLayer]:
        return [cast(DecoderLayer, layer) for layer in self.decoders]

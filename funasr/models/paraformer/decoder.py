"""Parallel decoders: from acoustic embeddings, one per token, to token scores, all tokens at once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from funasr.layers.decoder_layer import DecoderLayer
from funasr.layers.embedding import PositionalEncoding
from funasr.layers.layer_norm import LayerNorm
from funasr.layers.mask import length_mask
from funasr.layers.sanm import CrossAttention, SANMDecoderLayer, SANMDecoderStack
from funasr.register import tables
from funasr.utils.errors import ConfigError
from funasr.utils.signature import extends


@tables.register("decoder_classes", "ParaformerSANMDecoder", aliases=("paraformer_decoder_sanm",))
class ParaformerSANMDecoder(SANMDecoderStack):
    """Decoder with FSMN memories and cross attention (Gao et al., "Paraformer", 2022).

    Its embedding is what training mixes in.  Arguments are those of SANMDecoderStack.
    """

    @extends(SANMDecoderStack.__init__, without=("attention_dim",))
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    def forward(self, hs_pad: Tensor, hlens: Tensor, ys_in_pad: Tensor, ys_in_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Token scores.

        Args:
            hs_pad: encoder output (batch, frames, dim); hlens: (batch,).
            ys_in_pad: acoustic embeddings (batch, tokens, dim); ys_in_lens: (batch,).

        Returns:
            logits (batch, tokens, vocab_size), ys_in_lens.
        """
        x = self.hidden(hs_pad, hlens, ys_in_pad, ys_in_lens)
        return (x if self.output_layer is None else self.output_layer(x)), ys_in_lens


@tables.register("decoder_classes", "ParaformerSANDecoder", aliases=("ParaformerDecoderSAN", "paraformer_decoder_san"))
class ParaformerSANDecoder(nn.Module):
    """Transformer decoder blocks on acoustic embeddings; every token sees all others.

    Args:
        encoder_output_size: width of the encoder output and of the decoder.
        positional_dropout_rate: on the token embeddings that training mixes in.
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
    ) -> None:
        super().__init__()
        dim = encoder_output_size
        rates = (dropout_rate, self_attention_dropout_rate, src_attention_dropout_rate)
        self.embed: nn.Module | None = _PositionedEmbedding(vocab_size, dim, positional_dropout_rate)
        self.decoders = nn.ModuleList(
            DecoderLayer(dim, attention_heads, linear_units, *rates) for _ in range(num_blocks)
        )
        self.after_norm = LayerNorm(dim)
        self.output_layer = nn.Linear(dim, vocab_size)

    def hidden(self, memory: Tensor, memory_lengths: Tensor, x: Tensor, x_lengths: Tensor) -> Tensor:
        """Output after the last layer norm, (batch, tokens, dim); arguments as in `forward`."""
        mask = length_mask(x_lengths, x.size(1))[:, None]
        memory_mask = length_mask(memory_lengths, memory.size(1))[:, None]
        for block in self.decoders:
            x = block(x, mask, memory, memory_mask)
        return self.after_norm(x)

    def forward(self, hs_pad: Tensor, hlens: Tensor, ys_in_pad: Tensor, ys_in_lens: Tensor) -> tuple[Tensor, Tensor]:
        """Token scores; arguments and result as in ParaformerSANMDecoder."""
        return self.output_layer(self.hidden(hs_pad, hlens, ys_in_pad, ys_in_lens)), ys_in_lens


class _PositionedEmbedding(nn.Sequential):
    """Token embedding (key `0.weight`), scaled, with positions: (batch, tokens) -> (batch, tokens, dim)."""

    def __init__(self, vocab_size: int, dim: int, dropout: float) -> None:
        super().__init__(nn.Embedding(vocab_size, dim), PositionalEncoding(dim, dropout))

    def forward(self, ids: Tensor) -> Tensor:
        return self[1](self[0](ids))[0]


@tables.register("decoder_classes", "ContextualParaformerDecoder", aliases=("contextual_paraformer_decoder",))
class ContextualParaformerDecoder(SANMDecoderStack):
    """ParaformerSANMDecoder whose last block with cross attention, `last_decoder`, also attends to hotwords."""

    @extends(SANMDecoderStack.__init__, without=("use_output_layer", "wo_input_layer", "attention_dim"))
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not len(self.decoders):
            raise ConfigError("decoder_conf: att_layer_num of ContextualParaformerDecoder must be at least 1")
        last: Any = self.decoders.pop(-1)
        dim = self.output_layer.in_features
        self.last_decoder: Any = last
        self.bias_decoder = _HotwordAttention(dim, last.src_attn.heads, last.src_attn.dropout)
        self.bias_output = nn.Conv1d(2 * dim, dim, 1, bias=False)
        self.dropout = nn.Dropout(last.dropout.p)

    def forward(
        self,
        hs_pad: Tensor,
        hlens: Tensor,
        ys_in_pad: Tensor,
        ys_in_lens: Tensor,
        contextual_info: Tensor,
        clas_scale: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Token scores.

        Args:
            hs_pad: encoder output (batch, frames, dim); hlens: (batch,).
            ys_in_pad: acoustic embeddings (batch, tokens, dim); ys_in_lens: (batch,).
            contextual_info: hotword vectors (hotwords, dim), the same for the whole batch.
            clas_scale: factor of what the hotwords contribute.

        Returns:
            logits (batch, tokens, vocab_size), ys_in_lens.
        """
        x, mask = ys_in_pad, length_mask(ys_in_lens, ys_in_pad.size(1))
        memory_mask = length_mask(hlens, hs_pad.size(1))[:, None]
        for block in self.decoders:
            x = block(x, mask, hs_pad, memory_mask)
        x, heard = _split(self.last_decoder, x, mask, hs_pad, memory_mask)
        biased = self.dropout(self.bias_decoder(x, contextual_info)) * clas_scale
        joined = torch.cat([heard, biased], dim=-1).transpose(1, 2)
        x = x + self.dropout(self.bias_output(joined).transpose(1, 2))
        for block in getattr(self, "decoders2", ()):
            x = block(x, mask, hs_pad, memory_mask)
        return self.output_layer(self.after_norm(self.decoders3[0](x))), ys_in_lens


def _split(
    block: SANMDecoderLayer, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor
) -> tuple[Tensor, Tensor]:
    """What a block has before its cross attention, and the output of that, (batch, tokens, dim) each."""
    assert block.src_attn is not None
    x = x + block.dropout(block.self_attn(block.norm2(block.feed_forward(block.norm1(x))), mask))
    return x, block.src_attn(block.norm3(x), *block.src_attn.keys_values(memory), memory_mask)


class _HotwordAttention(nn.Module):
    """Attention of tokens (batch, tokens, dim) to hotword vectors (hotwords, dim) -> (batch, tokens, dim)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm3 = LayerNorm(dim)
        self.src_attn = CrossAttention(heads, dim, dim, dropout)

    def forward(self, x: Tensor, hotwords: Tensor) -> Tensor:
        keys, values = (part.expand(x.size(0), -1, -1, -1) for part in self.src_attn.keys_values(hotwords[None]))
        return self.src_attn(self.norm3(x), keys, values, None)

"""Parallel decoders: from acoustic embeddings, one per token, to token scores, all tokens at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from funasr.layers.decoder_layer import DecoderLayer
from funasr.layers.embedding import PositionalEncoding
from funasr.layers.layer_norm import LayerNorm
from funasr.layers.mask import length_mask
from funasr.layers.sanm import CrossAttention, SANMDecoderLayer, SANMDecoderStack
from funasr.register import tables


@tables.register("decoder_classes", "ParaformerSANMDecoder", aliases=("paraformer_decoder_sanm",))
class ParaformerSANMDecoder(SANMDecoderStack):
    """Decoder with FSMN memories and cross attention (Gao et al., "Paraformer", 2022).

    Args:
        encoder_output_size: width of the encoder output and of the decoder.
        att_layer_num: blocks with cross attention; `num_blocks` - `att_layer_num` more (if positive) have none.
        sanm_shfit: shift of the memories of blocks with cross attention; null makes them causal.
        use_output_layer: whether there are token scores; without them `forward` gives hidden vectors.
        wo_input_layer: leave out `embed`, the token embeddings that training mixes in.
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
        use_output_layer: bool = True,
        wo_input_layer: bool = False,
        att_layer_num: int = 6,
        kernel_size: int = 21,
        sanm_shfit: int | None = 0,
    ) -> None:
        super().__init__(
            dim=encoder_output_size,
            memory_dim=encoder_output_size,
            heads=attention_heads,
            hidden=linear_units,
            kernel_size=kernel_size,
            cross_blocks=att_layer_num,
            cross_shift=(kernel_size - 1) // 2 if sanm_shfit is None else sanm_shfit,
            memory_blocks=num_blocks - att_layer_num,
            memory_shift=0,
            dropout=dropout_rate,
            self_attention_dropout=self_attention_dropout_rate,
            src_attention_dropout=src_attention_dropout_rate,
        )
        self.embed = None if wo_input_layer else nn.Sequential(nn.Embedding(vocab_size, encoder_output_size))
        self.output_layer = nn.Linear(encoder_output_size, vocab_size) if use_output_layer else None

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
    """ParaformerSANMDecoder whose last block with cross attention also attends to hotwords.

    Args:
        att_layer_num: blocks with cross attention, `last_decoder` among them; `num_blocks` - `att_layer_num` more (if
            positive) have none.

    The other arguments are those of ParaformerSANMDecoder.
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
        sanm_shfit: int | None = 0,
    ) -> None:
        dim, shift = encoder_output_size, (kernel_size - 1) // 2 if sanm_shfit is None else sanm_shfit
        dropouts = (dropout_rate, self_attention_dropout_rate, src_attention_dropout_rate)
        super().__init__(
            dim=dim,
            memory_dim=dim,
            heads=attention_heads,
            hidden=linear_units,
            kernel_size=kernel_size,
            cross_blocks=att_layer_num - 1,
            cross_shift=shift,
            memory_blocks=num_blocks - att_layer_num,
            memory_shift=0,
            dropout=dropout_rate,
            self_attention_dropout=self_attention_dropout_rate,
            src_attention_dropout=src_attention_dropout_rate,
        )
        self.embed: nn.Module | None = nn.Sequential(nn.Embedding(vocab_size, dim))
        self.last_decoder = _SplitDecoderLayer(dim, attention_heads, linear_units, kernel_size, shift, dim, *dropouts)
        self.bias_decoder = _HotwordAttention(dim, attention_heads, src_attention_dropout_rate)
        self.bias_output = nn.Conv1d(2 * dim, dim, 1, bias=False)
        self.dropout = nn.Dropout(dropout_rate)
        self.output_layer = nn.Linear(dim, vocab_size)

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
        x, heard = self.last_decoder.split(x, mask, hs_pad, memory_mask)
        biased = self.dropout(self.bias_decoder(x, contextual_info)) * clas_scale
        joined = torch.cat([heard, biased], dim=-1).transpose(1, 2)
        x = x + self.dropout(self.bias_output(joined).transpose(1, 2))
        for block in getattr(self, "decoders2", ()):
            x = block(x, mask, hs_pad, memory_mask)
        return self.output_layer(self.after_norm(self.decoders3[0](x))), ys_in_lens


class _SplitDecoderLayer(SANMDecoderLayer):
    """A decoder block that does not add up what it has and what it hears."""

    def split(self, x: Tensor, mask: Tensor, memory: Tensor, memory_mask: Tensor) -> tuple[Tensor, Tensor]:
        """The block before cross attention and the output of cross attention, (batch, tokens, dim) each."""
        assert self.src_attn is not None
        x = x + self.dropout(self.self_attn(self.norm2(self.feed_forward(self.norm1(x))), mask))
        return x, self.src_attn(self.norm3(x), *self.src_attn.keys_values(memory), memory_mask)


class _HotwordAttention(nn.Module):
    """Attention of tokens (batch, tokens, dim) to hotword vectors (hotwords, dim) -> (batch, tokens, dim)."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm3 = LayerNorm(dim)
        self.src_attn = CrossAttention(heads, dim, dim, dropout)

    def forward(self, x: Tensor, hotwords: Tensor) -> Tensor:
        keys, values = (part.expand(x.size(0), -1, -1, -1) for part in self.src_attn.keys_values(hotwords[None]))
        return self.src_attn(self.norm3(x), keys, values, None)

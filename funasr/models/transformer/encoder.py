"""The Transformer encoder (Vaswani et al., 2017) with convolutional sub-sampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from funasr.layers.attention import MultiHeadedAttention
from funasr.layers.embedding import PositionalEncoding
from funasr.layers.feed_forward import PositionwiseFeedForward
from funasr.layers.layer_norm import LayerNorm
from funasr.layers.mask import length_mask
from funasr.layers.subsampling import intermediate_layers, make_input_layer
from funasr.register import tables


class TransformerEncoderLayer(nn.Module):
    """Self-attention and feed-forward, each with a residual connection; (batch, frames, dim) -> same shape."""

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        dropout: float,
        attention_dropout: float,
        normalize_before: bool,
        concat_after: bool,
    ) -> None:
        super().__init__()
        self.self_attn = MultiHeadedAttention(heads, dim, attention_dropout)
        self.feed_forward = PositionwiseFeedForward(dim, hidden, dropout)
        self.norm1 = LayerNorm(dim)
        self.norm2 = LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.normalize_before = normalize_before
        self.concat_after = concat_after
        if concat_after:
            self.concat_linear = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x (batch, frames, dim); mask bool (batch, 1, frames) of valid frames, or None."""
        residual = x
        if self.normalize_before:
            x = self.norm1(x)
        attended = self.self_attn(x, x, x, mask)
        if self.concat_after:
            x = residual + self.concat_linear(torch.cat([x, attended], dim=-1))
        else:
            x = residual + self.dropout(attended)
        if not self.normalize_before:
            x = self.norm1(x)
            return self.norm2(x + self.dropout(self.feed_forward(x)))
        return x + self.dropout(self.feed_forward(self.norm2(x)))


@tables.register("encoder_classes", "TransformerEncoder", aliases=("transformer",))
class TransformerEncoder(nn.Module):
    """Input layer, absolute positions, `num_blocks` Transformer blocks and a final normalisation.

    Args:
        input_size: feature dimension.
        output_size: width of the blocks and of the output.
        input_layer: conv2d (a quarter of the frames), conv2d2 (half), conv2d6, conv2d8, linear, embed (token ids), or
            None (features as wide as the output, taken without positions).
        normalize_before: pre-norm blocks and a final normalisation.
        concat_after: join input and output of the attention by a linear layer instead of adding them.
        padding_idx: token id that the `embed` input layer maps to zeros.
        interctc_layer_idx: blocks, counted from 1, whose output is returned for intermediate CTC losses.
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
        concat_after: bool = False,
        padding_idx: int = -1,
        interctc_layer_idx: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self._output_size = output_size
        self.embed = make_input_layer(
            input_layer, input_size, output_size, dropout_rate, relu=True, padding_idx=padding_idx
        )
        self.positions = PositionalEncoding(output_size, positional_dropout_rate) if input_layer else None
        self.encoders = nn.ModuleList(
            TransformerEncoderLayer(
                output_size,
                attention_heads,
                linear_units,
                dropout_rate,
                attention_dropout_rate,
                normalize_before,
                concat_after,
            )
            for _ in range(num_blocks)
        )
        self.after_norm = LayerNorm(output_size) if normalize_before else nn.Identity()
        self.interctc_layer_idx = intermediate_layers(interctc_layer_idx, num_blocks)

    def output_size(self) -> int:
        return self._output_size

    def forward(self, xs: Tensor, xs_lengths: Tensor, isolate: bool = False) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Encode features.

        Args:
            xs: (batch, frames, dim), or token ids (batch, tokens) with input_layer embed; xs_lengths: (batch,).
            isolate: each utterance gets the output it has alone; otherwise padding counts as recorded trainings have
                it (see `Conv2dSubsampling.output_lengths`).

        Returns:
            output (batch, frames', output_size), its lengths (0 for an utterance shorter than the input layer needs),
            outputs of the blocks in `interctc_layer_idx`.
        """
        x, lengths = self.embed(xs, xs_lengths, isolate)
        if self.positions is not None:
            x, _ = self.positions(x)
        mask = length_mask(lengths, x.size(1))[:, None]
        intermediate = []
        for number, layer in enumerate(self.encoders, start=1):
            x = layer(x, mask)
            if number in self.interctc_layer_idx:
                intermediate.append(self.after_norm(x))
        return self.after_norm(x), lengths, intermediate

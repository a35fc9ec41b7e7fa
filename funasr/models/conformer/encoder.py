"""The Conformer encoder (Gulati et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from funasr.layers.attention import SELF_ATTENTIONS
from funasr.layers.conv_module import ConvolutionModule
from funasr.layers.embedding import POSITION_ENCODINGS
from funasr.layers.feed_forward import PositionwiseFeedForward
from funasr.layers.layer_norm import LayerNorm
from funasr.layers.mask import length_mask
from funasr.layers.subsampling import intermediate_layers, make_input_layer
from funasr.register import tables
from funasr.utils.errors import ConfigError


class ConformerEncoderLayer(nn.Module):
    """Half feed-forward (macaron), self-attention, convolution, feed-forward; each with a residual connection.

    Args:
        dim: width.
        self_attn: plain or relative self-attention of this width.
        hidden: hidden units of the feed-forward blocks.
        macaron: feed-forward blocks on both sides, each counting half.
        cnn_kernel: frames of the depth-wise convolution; 0 leaves the convolution module out.
    """

    def __init__(
        self,
        dim: int,
        self_attn: nn.Module,
        hidden: int,
        dropout: float,
        activation: str,
        macaron: bool,
        cnn_kernel: int,
        normalize_before: bool,
        concat_after: bool,
    ) -> None:
        super().__init__()
        self.self_attn = self_attn
        self.feed_forward = PositionwiseFeedForward(dim, hidden, dropout, activation)
        self.norm_ff = LayerNorm(dim)
        self.norm_mha = LayerNorm(dim)
        self.feed_forward_macaron = PositionwiseFeedForward(dim, hidden, dropout, activation) if macaron else None
        self.norm_ff_macaron = LayerNorm(dim) if macaron else None
        self.conv_module = ConvolutionModule(dim, cnn_kernel, activation) if cnn_kernel else None
        self.norm_conv = LayerNorm(dim) if cnn_kernel else None
        self.norm_final = LayerNorm(dim) if cnn_kernel else None
        self.concat_linear = nn.Linear(2 * dim, dim) if concat_after else None
        self.dropout = nn.Dropout(dropout)
        self.ff_scale = 0.5 if macaron else 1.0
        self.normalize_before = normalize_before

    def forward(
        self,
        x: Tensor,
        pos_emb: Tensor | None,
        mask: Tensor | None,
        lengths: Tensor | None = None,
    ) -> Tensor:
        """One block.

        Args:
            x: (batch, frames, dim).
            pos_emb: position embeddings of relative attention, None for plain attention.
            mask: bool (batch, 1, frames) of valid frames, or None.
            lengths: (batch,), to keep each utterance clear of its padding; None lets the convolution see it.
        """
        if self.feed_forward_macaron is not None and self.norm_ff_macaron is not None:
            x = self._residual(x, self.norm_ff_macaron, self.feed_forward_macaron, self.ff_scale)
        x = self._attend(x, pos_emb, mask, lengths)
        if self.conv_module is not None and self.norm_conv is not None:
            valid = mask[:, 0] if mask is not None and lengths is not None else None
            x = self._residual(x, self.norm_conv, self.conv_module, 1.0, valid)
        x = self._residual(x, self.norm_ff, self.feed_forward, self.ff_scale)
        return x if self.norm_final is None else self.norm_final(x)

    def _residual(self, x: Tensor, norm: nn.Module, part: nn.Module, scale: float, *args: Tensor | None) -> Tensor:
        out = self.dropout(part(norm(x) if self.normalize_before else x, *args))
        x = torch.add(x, out, alpha=scale)
        return x if self.normalize_before else norm(x)

    def _attend(self, x: Tensor, pos_emb: Tensor | None, mask: Tensor | None, lengths: Tensor | None) -> Tensor:
        residual = x
        if self.normalize_before:
            x = self.norm_mha(x)
        if pos_emb is None:
            attended = self.self_attn(x, x, x, mask)
        else:
            attended = self.self_attn(x, pos_emb, mask, lengths)
        if self.concat_linear is not None:
            x = residual + self.concat_linear(torch.cat([x, attended], dim=-1))
        else:
            x = residual + self.dropout(attended)
        return x if self.normalize_before else self.norm_mha(x)


@tables.register("encoder_classes", "ConformerEncoder", aliases=("conformer",))
class ConformerEncoder(nn.Module):
    """Input layer, `num_blocks` Conformer blocks and a final normalisation.

    Args:
        input_size: feature dimension.
        output_size: width of the blocks and of the output.
        input_layer: conv2d (a quarter of the frames), conv2d2 (half), conv2d6, conv2d8, linear, embed (token ids), or
            None (features as wide as the output).
        normalize_before: pre-norm blocks and a final normalisation.
        concat_after: join input and output of the attention by a linear layer instead of adding them.
        macaron_style: feed-forward blocks on both sides of each block, each counting half.
        rel_pos_type: which form `rel_pos` and `rel_selfattn` mean, legacy (as released checkpoints have it) or latest.
        pos_enc_layer_type: rel_pos or abs_pos; selfattention_layer_type: rel_selfattn or selfattn, to match.
        activation_type: of feed-forward and convolution modules.
        cnn_module_kernel: frames of the depth-wise convolution, odd.
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
        macaron_style: bool = False,
        rel_pos_type: str = "legacy",
        pos_enc_layer_type: str = "rel_pos",
        selfattention_layer_type: str = "rel_selfattn",
        activation_type: str = "swish",
        use_cnn_module: bool = True,
        cnn_module_kernel: int = 31,
        padding_idx: int = -1,
        interctc_layer_idx: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self._output_size = output_size
        position_type, attention_type = _attention_types(rel_pos_type, pos_enc_layer_type, selfattention_layer_type)
        self.embed = make_input_layer(input_layer, input_size, output_size, dropout_rate, padding_idx=padding_idx)
        self.positions = POSITION_ENCODINGS[position_type](output_size, positional_dropout_rate)
        self.encoders = nn.ModuleList(
            ConformerEncoderLayer(
                output_size,
                SELF_ATTENTIONS[attention_type](attention_heads, output_size, attention_dropout_rate),
                linear_units,
                dropout_rate,
                activation_type,
                macaron_style,
                cnn_module_kernel if use_cnn_module else 0,
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
                it: sub-sampled lengths by mask, convolution modules see padded frames, legacy positions start from
                the padded length.

        Returns:
            output (batch, frames', output_size), its lengths (0 for an utterance shorter than the input layer needs),
            outputs of the blocks in `interctc_layer_idx`.
        """
        x, lengths = self.embed(xs, xs_lengths, isolate)
        own_lengths = lengths if isolate else None
        x, pos_emb = self.positions(x, own_lengths)
        mask = length_mask(lengths, x.size(1))[:, None]
        intermediate = []
        for number, layer in enumerate(self.encoders, start=1):
            x = layer(x, pos_emb, mask, own_lengths)
            if number in self.interctc_layer_idx:
                intermediate.append(self.after_norm(x))
        return self.after_norm(x), lengths, intermediate


def _attention_types(rel_pos_type: str, positions: str, attention: str) -> tuple[str, str]:
    """Keys of POSITION_ENCODINGS and SELF_ATTENTIONS for the three options; ConfigError if they do not fit."""
    if rel_pos_type not in ("legacy", "latest"):
        raise ConfigError(f"encoder_conf: rel_pos_type must be legacy or latest, not '{rel_pos_type}'")
    if rel_pos_type == "legacy":
        positions = "legacy_rel_pos" if positions == "rel_pos" else positions
        attention = "legacy_rel_selfattn" if attention == "rel_selfattn" else attention
    pairs = dict(zip(POSITION_ENCODINGS, SELF_ATTENTIONS))
    if positions not in pairs or pairs[positions] != attention:
        raise ConfigError(
            f"encoder_conf: pos_enc_layer_type '{positions}' and selfattention_layer_type '{attention}' do not go "
            "together; use rel_pos with rel_selfattn, or abs_pos with selfattn"
        )
    return positions, attention

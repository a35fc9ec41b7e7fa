"""The SAN-M encoder of realtime punctuation: it looks back, and only its last block looks ahead."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from funasr.layers.layer_norm import LayerNorm
from funasr.layers.mask import causal_mask, length_mask
from funasr.layers.sanm import SANMAttention, SANMEncoderLayer, position_table
from funasr.register import tables
from funasr.utils.errors import ConfigError


class VisibleAttention(SANMAttention):
    """SAN-M attention whose mask (batch, tokens, tokens) says for each token which ones it sees, always itself."""

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if mask is None or mask.dim() == 2:
            return super().forward(x, mask)
        query, key, value = (part.unflatten(-1, (self.heads, -1)) for part in self.linear_q_k_v(x).chunk(3, dim=-1))
        memory = self.dropout(self.fsmn_block(value.flatten(2), mask.diagonal(dim1=1, dim2=2)))
        attended = nn.functional.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            # A padding row sees nothing; letting it see all keeps NaN away, and nobody reads it.
            attn_mask=(mask | ~mask.any(dim=-1, keepdim=True))[:, None],
            dropout_p=self.dropout.p if self.training else 0.0,
        )
        return self.linear_out(attended.transpose(1, 2).flatten(2)) + memory


class VisibleEncoderLayer(SANMEncoderLayer):
    """A SAN-M block with VisibleAttention."""

    def __init__(
        self,
        in_dim: int,
        dim: int,
        heads: int,
        hidden: int,
        kernel_size: int,
        shift: int,
        dropout: float,
        attention_dropout: float,
        normalize_before: bool,
    ) -> None:
        super().__init__(in_dim, dim, heads, hidden, kernel_size, shift, dropout, attention_dropout, normalize_before)
        self.self_attn = VisibleAttention(heads, in_dim, dim, attention_dropout, kernel_size, shift)


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
class SANMVadEncoder(nn.Module):
    """SAN-M blocks in which a token sees those before it; the last of several blocks sees all up to a pause.

    Chen et al., "Controllable Time-Delay Transformer for Real-Time Punctuation Prediction and Disfluency Detection",
    2020.

    Args:
        input_size: width of the token embeddings.
        output_size: width of the blocks; attention_heads must divide it.
        linear_units: hidden units of the feed-forward blocks.
        input_layer: `pe`, positions added to the embeddings, is the only one.
        kernel_size: tokens of the FSMN memory; sanm_shfit: by how many it looks further back than centred,
            (kernel_size - 1) // 2 for a memory that does not look ahead.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int = 256,
        attention_heads: int = 4,
        linear_units: int = 2048,
        num_blocks: int = 6,
        dropout_rate: float = 0.1,
        attention_dropout_rate: float = 0.0,
        input_layer: str = "pe",
        normalize_before: bool = True,
        kernel_size: int = 11,
        sanm_shfit: int = 0,
    ) -> None:
        super().__init__()
        if input_layer != "pe":
            raise ConfigError(f"SANMVadEncoder reads token embeddings: input_layer must be pe, not {input_layer}")
        self._output_size = output_size
        shape = (output_size, attention_heads, linear_units, kernel_size, sanm_shfit)
        rates = (dropout_rate, attention_dropout_rate, normalize_before)
        self.encoders0 = nn.ModuleList([VisibleEncoderLayer(input_size, *shape, *rates)])
        self.encoders = nn.ModuleList(VisibleEncoderLayer(output_size, *shape, *rates) for _ in range(num_blocks - 1))
        self.normalize_before = normalize_before
        if normalize_before:
            self.after_norm = LayerNorm(output_size)

    def output_size(self) -> int:
        return self._output_size

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
        scaled = xs.float() * math.sqrt(self._output_size) + position_table(xs.size(1), xs.size(2), xs.device)
        xs = scaled.to(xs.dtype)
        causal, last = visible_tokens(xs_lengths, xs.size(1), vad_indexes)
        blocks = [*self.encoders0, *self.encoders]
        for number, block in enumerate(blocks, start=1):
            xs = block(xs, last if 1 < number == len(blocks) else causal)
        return (self.after_norm(xs) if self.normalize_before else xs), xs_lengths, []

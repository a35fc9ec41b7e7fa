"""The Transformer decoder block shared by autoregressive and parallel decoders."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from funasr.layers.attention import MultiHeadedAttention
from funasr.layers.feed_forward import PositionwiseFeedForward
from funasr.layers.layer_norm import LayerNorm


class DecoderLayer(nn.Module):
    """Self-attention, attention to the encoder output, feed-forward; each with a residual connection.

    Args:
        dim: width.
        heads: attention heads.
        hidden: hidden units of the feed-forward block.
        normalize_before: normalise the input of each part (pre-norm) instead of the sum after it.
        concat_after: join input and attention output by a linear layer instead of adding them.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        hidden: int,
        dropout: float = 0.1,
        self_attention_dropout: float = 0.0,
        src_attention_dropout: float = 0.0,
        normalize_before: bool = True,
        concat_after: bool = False,
    ) -> None:
        super().__init__()
        self.self_attn = MultiHeadedAttention(heads, dim, self_attention_dropout)
        self.src_attn = MultiHeadedAttention(heads, dim, src_attention_dropout)
        self.feed_forward = PositionwiseFeedForward(dim, hidden, dropout)
        self.norm1 = LayerNorm(dim)
        self.norm2 = LayerNorm(dim)
        self.norm3 = LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.normalize_before = normalize_before
        self.concat_after = concat_after
        if concat_after:
            self.concat_linear1 = nn.Linear(2 * dim, dim)
            self.concat_linear2 = nn.Linear(2 * dim, dim)

    def forward(self, x: Tensor, self_mask: Tensor | None, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
        """One block over whole sequences.

        Args:
            x: (batch, tokens, dim).
            self_mask: bool (batch, tokens, tokens) causal, or (batch, 1, tokens), or None.
            memory: encoder output (batch, frames, dim); memory_mask: bool (batch, 1, frames) or None.

        Returns:
            (batch, tokens, dim).
        """
        residual, x = x, self._pre(self.norm1, x)
        x = self._join(1, residual, x, self.self_attn(x, x, x, self_mask), self.norm1)
        residual, x = x, self._pre(self.norm2, x)
        x = self._join(2, residual, x, self.src_attn(x, memory, memory, memory_mask), self.norm2)
        residual, x = x, self._pre(self.norm3, x)
        return self._post(self.norm3, residual + self.dropout(self.feed_forward(x)))

    def step(
        self, x: Tensor, self_cache: tuple[Tensor, Tensor], cross: tuple[Tensor, Tensor], memory_mask: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The block for one new token, given what earlier steps computed.

        Args:
            x: (batch, 1, dim).
            self_cache: keys and values of earlier tokens, (batch, heads, tokens, d_k) each.
            cross: keys and values of the encoder output, (batch, heads, frames, d_k) each.

        Returns:
            output (batch, 1, dim) and the cache longer by one token.
        """
        residual, x = x, self._pre(self.norm1, x)
        new_keys, new_values = self.self_attn.keys_values(x)
        keys = torch.cat([self_cache[0], new_keys], dim=2)
        values = torch.cat([self_cache[1], new_values], dim=2)
        query = self.self_attn.split_heads(self.self_attn.linear_q(x))
        x = self._join(1, residual, x, self.self_attn.attend(query, keys, values, None), self.norm1)
        residual, x = x, self._pre(self.norm2, x)
        query = self.src_attn.split_heads(self.src_attn.linear_q(x))
        x = self._join(2, residual, x, self.src_attn.attend(query, *cross, memory_mask), self.norm2)
        residual, x = x, self._pre(self.norm3, x)
        x = self._post(self.norm3, residual + self.dropout(self.feed_forward(x)))
        return x, (keys, values)

    def _pre(self, norm: nn.Module, x: Tensor) -> Tensor:
        return norm(x) if self.normalize_before else x

    def _post(self, norm: nn.Module, x: Tensor) -> Tensor:
        return x if self.normalize_before else norm(x)

    def _join(self, part: int, residual: Tensor, x: Tensor, attended: Tensor, norm: nn.Module) -> Tensor:
        if self.concat_after:
            linear = self.concat_linear1 if part == 1 else self.concat_linear2
            return self._post(norm, residual + linear(torch.cat([x, attended], dim=-1)))
        return self._post(norm, residual + self.dropout(attended))

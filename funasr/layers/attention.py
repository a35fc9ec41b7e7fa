"""Multi-head attention: plain (Vaswani et al., 2017) and with relative positions (Dai et al., 2019), in two forms."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.layers.linear import made_by_intel, plus
from funasr.utils.errors import ConfigError

SHORT_KEYS = 64
SHORT_KEYS_INTEL = 192
MOST_SCORES = 1 << 26  # 128 MiB in bfloat16


def scaled_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, bias: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """softmax(query key^T / sqrt(d_k) + bias) value, with exactly no weight on masked keys.

    Args:
        query: (batch, heads, queries, d_k); key, value: (batch, heads, keys, d_k).
        mask: bool (batch, 1 or queries, keys), True = may be attended, or None.  A query without any such key gets 0.
        bias: added to the scores before the softmax, broadcast to (batch, heads, queries, keys), or None.

    Returns:
        (batch, heads, queries, d_k).
    """
    attend = _by_products if _products_are_faster(query, key) else F.scaled_dot_product_attention
    if mask is None or (query.device.type == "cpu" and bool(mask.all())):  # an accelerator would have to be waited for
        return attend(query, key, value, attn_mask=bias, dropout_p=dropout)
    mask = mask[:, None]
    seeing = mask.any(dim=-1, keepdim=True)
    # On a CPU the usual case costs nothing more.
    answerable = None if query.device.type == "cpu" and bool(seeing.all()) else seeing
    # A query with nothing to see attends to everything and is zeroed below: no NaN arises, forward or backward.
    allowed = mask if answerable is None else mask | ~answerable
    if bias is not None:
        allowed = bias.masked_fill(~allowed, float("-inf"))
    out = attend(query, key, value, attn_mask=allowed, dropout_p=dropout)
    return out if answerable is None else out.masked_fill(~answerable, 0.0)


def _products_are_faster(query: Tensor, key: Tensor) -> bool:
    """Whether two matrix products and a softmax beat the fused kernel of torch, which on CPUs multiplies in float32.

    In bfloat16 they take as long for 50 keys and a third of its time for 1000, with gradients a quarter to a half; in
    float32 they win while all is short (167 keys of 128 on an Intel CPU: two thirds of its time for 8 utterances, half
    for one).  The scores are held in memory, so very many are left to the fused kernel.
    """
    if query.device.type != "cpu":
        return False
    if query.dtype == torch.bfloat16:
        return query[..., 0].numel() * key.size(-2) <= MOST_SCORES
    short = SHORT_KEYS_INTEL if made_by_intel() else SHORT_KEYS
    return key.size(-2) <= short and not torch.is_grad_enabled()


def _by_products(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None, dropout_p: float = 0.0) -> Tensor:
    """What `F.scaled_dot_product_attention` computes, step by step.

    In float32 that is for one utterance at a time, whose scores stay in the cache and whose heads need no copies,
    unless they are very short.
    """
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        # Far fewer elements to fill than scores, to which it is added at once.
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, float("-inf"))
    batch, heads, queries, dim = query.shape
    if dropout_p or query.dtype != torch.float32 or key.size(-2) <= SHORT_KEYS:
        return _attended(query, key, value, attn_mask, dropout_p)
    out = query.new_empty(batch, queries, heads, value.size(-1)).transpose(1, 2)  # as the heads are joined afterwards
    bias = None if attn_mask is None else attn_mask.expand(batch, heads, -1, -1)
    nothing = query.new_zeros(1)
    for i in range(batch):
        scores = torch.baddbmm(
            nothing if bias is None else bias[i], query[i], key[i].mT, beta=int(bias is not None), alpha=dim**-0.5
        )
        out[i] = scores.softmax(dim=-1) @ value[i]
    return out


def _attended(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    scores = (query * query.size(-1) ** -0.5) @ key.transpose(-2, -1)
    if bias is not None:
        scores = plus(scores, bias)
    weights = scores.softmax(dim=-1)
    return (F.dropout(weights, dropout) if dropout else weights) @ value


class _Projections(nn.Module):
    """The linear layers around `heads` heads over width `dim`, and what is done with their outputs."""

    def __init__(self, heads: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ConfigError(f"{heads} attention heads do not divide the width {dim}")
        self.heads = heads
        self.d_k = dim // heads
        self.linear_q = nn.Linear(dim, dim)
        self.linear_k = nn.Linear(dim, dim)
        self.linear_v = nn.Linear(dim, dim)
        self.linear_out = nn.Linear(dim, dim)
        self.dropout = dropout

    def split_heads(self, x: Tensor) -> Tensor:
        """(batch, length, dim) -> (batch, heads, length, d_k), a view."""
        return x.unflatten(-1, (self.heads, self.d_k)).transpose(1, 2)

    def keys_values(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Projected keys and values of memory (batch, length, dim), each (batch, heads, length, d_k)."""
        return self.split_heads(self.linear_k(memory)), self.split_heads(self.linear_v(memory))

    def attend(
        self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None, bias: Tensor | None = None
    ) -> Tensor:
        """Attention of projected query, keys and values (batch, heads, length, d_k); output (batch, queries, dim)."""
        dropout = self.dropout if self.training else 0.0
        heads = scaled_attention(query, keys, values, mask, bias, dropout)
        return self.linear_out(heads.transpose(1, 2).flatten(2))


class MultiHeadedAttention(_Projections):
    """Multi-head attention of `heads` heads over width `dim`."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from query (batch, queries, dim) to key and value (batch, keys, dim).

        Args:
            mask: bool (batch, 1, keys) or (batch, queries, keys), True = may be attended, or None.

        Returns:
            (batch, queries, dim).
        """
        keys = self.split_heads(self.linear_k(key))
        values = self.split_heads(self.linear_v(value))
        return self.attend(self.split_heads(self.linear_q(query)), keys, values, mask)


class _RelativeAttention(_Projections):
    """Self-attention whose scores are (q + u) k^T + shift((q + v) p^T), over sqrt(d_k), with positions p."""

    def __init__(self, heads: int, dim: int, dropout: float = 0.0) -> None:
        super().__init__(heads, dim, dropout)
        self.linear_pos = nn.Linear(dim, dim, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(heads, self.d_k))
        self.pos_bias_v = nn.Parameter(torch.empty(heads, self.d_k))
        nn.init.xavier_uniform_(self.pos_bias_u)
        nn.init.xavier_uniform_(self.pos_bias_v)

    def forward(self, x: Tensor, pos_emb: Tensor, mask: Tensor | None = None, lengths: Tensor | None = None) -> Tensor:
        """Self-attention of x (batch, length, dim).

        Args:
            pos_emb: (1 or batch, positions, dim) from the matching class of `funasr.layers.embedding`.
            mask: bool (batch, 1, length) or (batch, length, length), True = may be attended, or None.
            lengths: (batch,), if each utterance is to get the positions it has alone instead of in this batch.
        """
        query = self.split_heads(self.linear_q(x))
        positions = self.split_heads(self.linear_pos(pos_emb))
        # Scaling the small factor is cheaper than scaling the square of scores.
        scores = ((query + self.pos_bias_v[:, None]) * self.d_k**-0.5) @ positions.transpose(-2, -1)
        bias = self.shift(scores, lengths)
        return self.attend(query + self.pos_bias_u[:, None], *self.keys_values(x), mask, bias)

    def shift(self, scores: Tensor, lengths: Tensor | None) -> Tensor:
        """Scores by position (batch, heads, length, positions) to scores by key (batch, heads, length, length)."""
        raise NotImplementedError


class RelPositionMultiHeadedAttention(_RelativeAttention):
    """Relative self-attention over 2 * length - 1 positions (`rel_pos_type: latest`)."""

    def shift(self, scores: Tensor, lengths: Tensor | None) -> Tensor:
        return shift_two_sided(scores)


class LegacyRelPositionMultiHeadedAttention(_RelativeAttention):
    """Relative self-attention over `length` positions (`rel_pos_type: legacy`).

    Its shift takes scores of later frames from the next row, and its positions depend on the padded length; released
    checkpoints were trained with both, so both are kept.
    """

    def shift(self, scores: Tensor, lengths: Tensor | None) -> Tensor:
        return shift_one_sided(scores) if lengths is None else shift_one_sided_by_length(scores, lengths)


SELF_ATTENTIONS = {
    "selfattn": MultiHeadedAttention,
    "rel_selfattn": RelPositionMultiHeadedAttention,
    "legacy_rel_selfattn": LegacyRelPositionMultiHeadedAttention,
}


def shift_two_sided(scores: Tensor) -> Tensor:
    """Scores of relative positions, largest first, to keys: out[i, j] = scores[i, length - 1 + j - i].

    (batch, heads, length, 2 * length - 1) -> (batch, heads, length, length).
    """
    length, width = scores.shape[-2:]
    # One more column makes the next row start one position earlier when the rows are read at the old width.
    rows = F.pad(scores, (1, 0)).flatten(2)[..., length:]
    return rows.unflatten(-1, (length, width))[..., :length]


def shift_one_sided(scores: Tensor) -> Tensor:
    """The legacy shift, (batch, heads, length, length) -> same shape.

    out[i, j] = scores[i, length - 1 + j - i] up to the diagonal, then a 0, then the beginning of row i + 1.
    """
    length = scores.size(-1)
    return F.pad(scores, (1, 0)).flatten(2)[..., length:].unflatten(-1, (length, length))


def shift_one_sided_by_length(scores: Tensor, lengths: Tensor) -> Tensor:
    """`shift_one_sided` as each utterance of `lengths` (batch,) would have it alone, padding at its end."""
    length = scores.size(-1)
    row = torch.arange(length, device=scores.device)[:, None]
    offset = torch.arange(length, device=scores.device)[None, :] - row
    past = row * length + (lengths[:, None, None] - 1 + offset)
    future = (row + 1) * length + offset - 2
    index = torch.where(offset <= 0, past, future).clamp(0, length * length - 1)
    index = index.flatten(1)[:, None].expand(-1, scores.size(1), -1)
    shifted = scores.flatten(2).gather(2, index).view_as(scores)
    return shifted.masked_fill(offset == 1, 0.0)

"""The Whisper network: log-mel encoder and text decoder, with the parameter names of the released checkpoints.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.layers.layer_norm import LayerNorm
from funasr.layers.sanm import position_table
from funasr.utils.errors import ConfigError

NORM_EPS = 1e-5


@dataclass(frozen=True)
class Dims:
    """Sizes of a Whisper network, under the names that released checkpoints give them.

    n_audio_ctx: encoder frames of 20 ms (half the log-mel frames); n_text_ctx: tokens, prompt included.
    """

    n_mels: int
    n_audio_ctx: int
    n_audio_state: int
    n_audio_head: int
    n_audio_layer: int
    n_vocab: int
    n_text_ctx: int
    n_text_state: int
    n_text_head: int
    n_text_layer: int

    def __post_init__(self) -> None:
        for part in ("audio", "text"):
            width, heads = getattr(self, f"n_{part}_state"), getattr(self, f"n_{part}_head")
            if width % heads:
                raise ConfigError(f"dims: n_{part}_head {heads} does not divide n_{part}_state {width}")
        if self.n_audio_state != self.n_text_state:
            raise ConfigError(f"dims: n_audio_state {self.n_audio_state} and n_text_state {self.n_text_state} differ")


def _released(width: int, heads: int, layers: int) -> Dims:
    return Dims(80, 1500, width, heads, layers, 51865, 448, width, heads, layers)


_MULTILINGUAL = {
    "tiny": _released(384, 6, 4),
    "base": _released(512, 8, 6),
    "small": _released(768, 12, 12),
    "medium": _released(1024, 16, 24),
    "large": _released(1280, 20, 32),
}
_V3 = replace(_MULTILINGUAL["large"], n_mels=128, n_vocab=51866)
RELEASED_DIMS: dict[str, Dims] = {
    **{name: dims for name, dims in _MULTILINGUAL.items() if name != "large"},
    **{f"{name}.en": replace(dims, n_vocab=51864) for name, dims in _MULTILINGUAL.items() if name != "large"},
    "large-v1": _MULTILINGUAL["large"],
    "large-v2": _MULTILINGUAL["large"],
    "large-v3": _V3,
    "large": _V3,
    "large-v3-turbo": replace(_V3, n_text_layer=4),
}
"""Sizes of the released models by name."""


class Attention(nn.Module):
    """Multi-head attention; keys have no bias."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def keys_values(self, x: Tensor) -> Tensor:
        """Keys and values of x (batch, length, dim), stacked: (batch, 2, heads, length, dim / heads)."""
        both = torch.stack([self.key(x), self.value(x)], dim=1)
        return both.unflatten(-1, (self.heads, -1)).transpose(2, 3)

    def forward(self, x: Tensor, keys_values: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend from x (rows, length, dim) to keys_values (batch, ...), where batch divides rows.

        Rows of the same group, rows / batch in a line, attend to the same keys and values.  mask (length, keys) is
        bool, True = seen.
        """
        rows, length, dim = x.shape
        group = rows // keys_values.size(0)
        query = self.query(x).view(-1, group * length, self.heads, dim // self.heads).transpose(1, 2)
        keys, values = keys_values.to(query.dtype).unbind(dim=1)
        attended = F.scaled_dot_product_attention(query, keys, values, attn_mask=mask)
        return self.out(attended.transpose(1, 2).reshape(rows, length, dim))


class Block(nn.Module):
    """Pre-norm self-attention, optional cross-attention and feed-forward layer, each with a residual connection."""

    def __init__(self, dim: int, heads: int, cross: bool = False) -> None:
        super().__init__()
        self.attn = Attention(dim, heads)
        self.attn_ln = LayerNorm(dim, NORM_EPS)
        self.cross_attn = Attention(dim, heads) if cross else None
        self.cross_attn_ln = LayerNorm(dim, NORM_EPS) if cross else None
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.mlp_ln = LayerNorm(dim, NORM_EPS)

    def forward(
        self, x: Tensor, past: Tensor | None = None, memory: Tensor | None = None, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x (rows, length, dim) after `past` keys and values; returns the output and past with those of x added."""
        normed = self.attn_ln(x)
        present = self.attn.keys_values(normed)
        if past is not None:
            present = torch.cat([past, present], dim=3)
        x = x + self.attn(normed, present, mask)
        if self.cross_attn is not None and self.cross_attn_ln is not None and memory is not None:
            x = x + self.cross_attn(self.cross_attn_ln(x), memory)
        return x + self.mlp(self.mlp_ln(x)), present


class AudioEncoder(nn.Module):
    """Log-mel frames -> encoder output at half their rate."""

    positional_embedding: Tensor

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        width = dims.n_audio_state
        self.conv1 = nn.Conv1d(dims.n_mels, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        self.register_buffer("positional_embedding", position_table(dims.n_audio_ctx, width, first=0))
        self.blocks = nn.ModuleList(Block(width, dims.n_audio_head) for _ in range(dims.n_audio_layer))
        self.ln_post = LayerNorm(width, NORM_EPS)

    def forward(self, mel: Tensor) -> Tensor:
        """(batch, 2 * n_audio_ctx, n_mels) -> (batch, n_audio_ctx, n_audio_state)."""
        x = F.gelu(self.conv2(F.gelu(self.conv1(mel.transpose(1, 2))))).transpose(1, 2)
        x = x + self.positional_embedding.to(x.dtype)
        for block in self.blocks:
            x, _ = block(x)
        return self.ln_post(x)


class TextDecoder(nn.Module):
    """Tokens so far and encoder output -> logits of the next token; output weights are the token embeddings."""

    def __init__(self, dims: Dims) -> None:
        super().__init__()
        width = dims.n_text_state
        self.token_embedding = nn.Embedding(dims.n_vocab, width)
        self.positional_embedding = nn.Parameter(torch.zeros(dims.n_text_ctx, width))
        self.blocks = nn.ModuleList(Block(width, dims.n_text_head, cross=True) for _ in range(dims.n_text_layer))
        self.ln = LayerNorm(width, NORM_EPS)

    def project_memory(self, memory: Tensor) -> list[Tensor]:
        """Keys and values of encoder output (batch, frames, dim) for each block; once per utterance."""
        return [block.cross_attn.keys_values(memory) for block in self.blocks]  # type: ignore[union-attr,operator]

    def forward(
        self, tokens: Tensor, memory: list[Tensor], past: list[Tensor] | None = None
    ) -> tuple[Tensor, list[Tensor]]:
        """Logits after each of the new tokens.

        Args:
            tokens: ids (rows, length) that follow those in `past`.
            memory: of `project_memory`; rows are groups of hypotheses of one utterance each, in its order.
            past: second result of the call before; every tensor has rows as its first axis.

        Returns:
            (rows, length, n_vocab) float32, and keys and values of all tokens so far.
        """
        start = 0 if past is None else past[0].size(3)
        length = tokens.size(1)
        x = self.token_embedding(tokens) + self.positional_embedding[start : start + length]
        mask = None
        if length > 1:
            mask = torch.ones(length, start + length, dtype=torch.bool, device=tokens.device).tril(start)
        present = []
        for index, block in enumerate(self.blocks):
            x, keys_values = block(x, None if past is None else past[index], memory[index], mask)
            present.append(keys_values)
        return F.linear(self.ln(x), self.token_embedding.weight).float(), present

"""Sinusoidal position encodings of encoders and decoders.

Tables are computed for the length at hand and have no state-dict entries.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

# Released toolkits build legacy tables of this many rows and count positions down from the last one, so a trained
# checkpoint knows position 4999 as its first.
LEGACY_ROWS = 5000


def sinusoids(positions: Tensor, dim: int) -> Tensor:
    """Interleaved sine and cosine of positions (...): (..., dim), float32."""
    rates = torch.exp(
        torch.arange(0, dim, 2, dtype=torch.float32, device=positions.device) * -(math.log(10000.0) / dim)
    )
    angles = positions.float()[..., None] * rates
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(-2)


class PositionalEncoding(nn.Module):
    """Absolute positions: x * sqrt(dim) + sinusoid, then dropout.

    All encodings have `forward(x, lengths=None) -> (x, pos_emb)`; here `pos_emb` is None.
    """

    def __init__(self, dim: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.dim = dim
        self.scale = math.sqrt(dim)
        self.dropout = nn.Dropout(dropout)

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *args: object) -> None:
        state_dict.pop(prefix + "pe", None)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(self, x: Tensor, lengths: Tensor | None = None, start: int = 0) -> tuple[Tensor, Tensor | None]:
        """Encode x (batch, length, dim), whose first frame has position `start`; `lengths` is not needed."""
        positions = torch.arange(start, start + x.size(1), device=x.device)
        return self.dropout(x * self.scale + sinusoids(positions, self.dim).to(x.dtype)), None


class RelPositionalEncoding(PositionalEncoding):
    """Scales x (batch, length, dim); gives positions length - 1 ... -(length - 1), (1, 2 * length - 1, dim)."""

    def forward(self, x: Tensor, lengths: Tensor | None = None, start: int = 0) -> tuple[Tensor, Tensor]:
        length = x.size(1)
        positions = torch.arange(length - 1, -length, -1, device=x.device)
        pos_emb = sinusoids(positions, self.dim).to(x.dtype)[None]
        return self.dropout(x * self.scale), self.dropout(pos_emb)


class LegacyRelPositionalEncoding(PositionalEncoding):
    """Scales x (batch, length, dim); gives positions counted down from 4999, (1, length, dim).

    From 5000 frames on they count down from length - 1.  With `lengths` (batch,) each utterance counts from where it
    would alone, which makes a table per utterance, (batch, length, dim), once the longest has over 5000 frames.
    """

    def forward(self, x: Tensor, lengths: Tensor | None = None, start: int = 0) -> tuple[Tensor, Tensor]:
        length = x.size(1)
        down = torch.arange(length, device=x.device)
        if lengths is None or length <= LEGACY_ROWS:
            positions = max(LEGACY_ROWS, length) - 1 - down[None]
        else:
            positions = lengths.clamp(min=LEGACY_ROWS)[:, None] - 1 - down
        return self.dropout(x * self.scale), self.dropout(sinusoids(positions, self.dim).to(x.dtype))


POSITION_ENCODINGS: dict[str, type[PositionalEncoding]] = {
    "abs_pos": PositionalEncoding,
    "rel_pos": RelPositionalEncoding,
    "legacy_rel_pos": LegacyRelPositionalEncoding,
}

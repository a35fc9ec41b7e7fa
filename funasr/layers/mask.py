"""Boolean masks from lengths; True marks what may be used."""

from __future__ import annotations

import torch
from torch import Tensor


def length_mask(lengths: Tensor, max_len: int | None = None) -> Tensor:
    """(batch, max_len) bool, True at the first `lengths[b]` positions; `max_len` defaults to the longest length."""
    if max_len is None:
        max_len = int(lengths.max()) if lengths.numel() else 0
    return torch.arange(max_len, device=lengths.device)[None, :] < lengths[:, None]


def padding_mask(lengths: Tensor, max_len: int) -> Tensor | None:
    """`length_mask`, or None if nothing is padding: equal lengths, or an utterance alone, need no masking.

    On a GPU always the mask: looking would make the CPU wait for it.
    """
    if lengths.device.type == "cpu" and lengths.numel() and int(lengths.min()) >= max_len:
        return None
    return length_mask(lengths, max_len)


def causal_mask(size: int, device: torch.device | str | None = None) -> Tensor:
    """(size, size) bool, True on and below the diagonal: position i sees positions 0..i."""
    return torch.ones(size, size, dtype=torch.bool, device=device).tril()

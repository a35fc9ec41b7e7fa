"""A padded batch without its padding, for layers that look at each frame by itself.

Linear layers and norms take most of an encoder's time, and what they compute for padding nobody reads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from funasr.layers.mask import length_mask

WORTHWHILE = 0.05  # share of padding from which on moving the frames costs less than computing the padding
ROW_STEP = 32  # fewer different shapes: matrix libraries prepare for each at its first use


@dataclass(frozen=True)
class Packing:
    """Which frames of a padded batch (batch, max_len, ...) stand in its packed form (1, rows, ...), and where."""

    batch: int
    frames: Tensor  # (rows,) of batch * max_len
    places: Tensor  # (batch * max_len,) of rows


def worthwhile_packing(lengths: Tensor, max_len: int) -> Packing | None:
    """The packing of a batch of `lengths` (batch,) if it has much padding and wants no gradients, on a CPU; else None.

    An accelerator would have to be waited for to count the frames.
    """
    if torch.is_grad_enabled() or lengths.device.type != "cpu" or not lengths.numel():
        return None
    count = int(lengths.sum())
    rows = count + -count % ROW_STEP
    if not 0 < rows <= (1 - WORTHWHILE) * len(lengths) * max_len:
        return None
    frames = length_mask(lengths, max_len).flatten().nonzero().squeeze(1)
    # Padding repeats the last frame of its own utterance, so that not even a NaN gets into another one.
    within = torch.minimum(torch.arange(max_len)[None], lengths[:, None] - 1)
    places = ((lengths.cumsum(0) - lengths)[:, None] + within).clamp(0, count - 1).flatten()
    return Packing(len(lengths), torch.cat([frames, frames[-1:].expand(rows - count)]), places)


def packed(x: Tensor, packing: Packing | None) -> Tensor:
    """(batch, max_len, dim) -> (1, rows, dim), a copy: all frames, and a few again for a round number; None: x."""
    return x if packing is None else x.flatten(0, 1).index_select(0, packing.frames).unsqueeze(0)


def unpacked(x: Tensor, packing: Packing | None) -> Tensor:
    """(1, rows, dim) -> (batch, max_len, dim), a copy whose padding holds frames of the same utterance; None: x."""
    return x if packing is None else x.squeeze(0).index_select(0, packing.places).unflatten(0, (packing.batch, -1))

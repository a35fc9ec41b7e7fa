"""Low frame rate: neighbouring frames stacked into one, every n-th kept."""

from __future__ import annotations

import torch
from torch import Tensor


def lfr_stack(feats: Tensor, lengths: Tensor, m: int, n: int) -> tuple[Tensor, Tensor]:
    """Stack `m` frames around every `n`-th one; the first and last frame are repeated at the edges.

    Row i is the concatenation over j = 0..m-1 of frame clamp(i*n + j - (m-1)//2, 0, length-1).

    Args:
        feats: (batch, frames, dim); lengths: (batch,) valid frames.

    Returns:
        (batch, ceil(frames/n), m*dim), 0.0 in rows beyond the new lengths, and (batch,) ceil(lengths/n).
    """
    out_lengths = (lengths + n - 1) // n
    if (m, n) == (1, 1):
        return feats, lengths
    batch, frames, dim = feats.shape
    rows = (frames + n - 1) // n
    if rows == 0:
        return feats.new_zeros(batch, 0, m * dim), out_lengths
    row = torch.arange(rows, device=feats.device)
    lengths = lengths.to(feats.device)
    wanted = row[:, None] * n + torch.arange(m, device=feats.device) - (m - 1) // 2
    index = torch.minimum(wanted.clamp(min=0), (lengths - 1).clamp(min=0)[:, None, None])
    index = index + torch.arange(batch, device=feats.device)[:, None, None] * frames
    stacked = feats.reshape(batch * frames, dim).index_select(0, index.reshape(-1)).view(batch, rows, m * dim)
    if batch > 1 or int(lengths[0]) < frames:
        stacked = stacked.masked_fill_((row >= out_lengths.to(feats.device)[:, None])[..., None], 0.0)
    return stacked, out_lengths

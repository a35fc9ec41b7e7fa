"""Label sequences for attention decoders, and token accuracy."""

from __future__ import annotations

import torch
from torch import Tensor

from funasr.layers.mask import length_mask


def add_sos_eos(ys: Tensor, lengths: Tensor, sos: int, eos: int, ignore_id: int = -1) -> tuple[Tensor, Tensor]:
    """Decoder input and target of padded labels.

    Args:
        ys: label ids (batch, tokens); what lies beyond `lengths` (batch,) does not matter.

    Returns:
        (batch, tokens + 1) each: `<sos> y...` padded with eos, and `y... <eos>` padded with `ignore_id`.
    """
    valid = length_mask(lengths, ys.size(1))
    ys_in = torch.cat([ys.new_full((ys.size(0), 1), sos), ys.masked_fill(~valid, eos)], dim=1)
    ys_out = torch.cat([ys.masked_fill(~valid, ignore_id), ys.new_full((ys.size(0), 1), ignore_id)], dim=1)
    ys_out = ys_out.scatter(1, lengths[:, None].to(ys.device), eos)
    return ys_in, ys_out


def token_accuracy(logits: Tensor, targets: Tensor, ignore_id: int = -1) -> Tensor:
    """Share of targets (batch, tokens) that are the arg-max of logits (batch, tokens, vocab); a detached scalar."""
    valid = targets != ignore_id
    correct = (logits.detach().argmax(dim=-1) == targets) & valid
    return correct.sum() / valid.sum().clamp(min=1)

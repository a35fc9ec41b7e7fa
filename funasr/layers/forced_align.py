"""CTC forced alignment: which frame says which of the given labels."""

from __future__ import annotations

import torch
from torch import Tensor

from funasr.layers.mask import length_mask
from funasr.utils.errors import DataError


def forced_align(log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor, blank: int = 0) -> Tensor:
    """The likeliest CTC path of each utterance that says exactly its labels (Viterbi; Graves et al., 2006).

    Args:
        log_probs: (batch, frames, vocab); lengths: (batch,).
        targets: label ids (batch, labels); what lies beyond target_lengths (batch,) does not matter.
        blank: id of the blank.

    Returns:
        One label per frame (batch, frames), blank between and around labels and beyond `lengths`.

    Raises:
        DataError: an utterance has fewer frames than labels plus the blanks that repeated labels need between them.
    """
    lengths, target_lengths = lengths.to(log_probs.device), target_lengths.to(log_probs.device)
    _check_frames(lengths, targets, target_lengths)
    batch, frames, _ = log_probs.shape
    # States: blank, label, blank, label, ..., blank.
    states = targets.new_full((batch, 2 * targets.size(1) + 1), blank)
    states[:, 1::2] = targets.masked_fill(~length_mask(target_lengths, targets.size(1)), blank)
    if batch == 0 or frames == 0:
        return targets.new_full((batch, frames), blank)
    emitted = log_probs.float().gather(2, states[:, None].expand(-1, frames, -1))
    came_from = _forward_steps(emitted, states, lengths, target_lengths, blank)
    return states.gather(1, came_from).masked_fill(~length_mask(lengths, frames), blank)


def _forward_steps(emitted: Tensor, states: Tensor, lengths: Tensor, target_lengths: Tensor, blank: int) -> Tensor:
    """State of each frame (batch, frames) on the best path, for emitted log-probabilities (batch, frames, states).

    Every frame needs the one before, hence the two loops; utterances and states go in parallel.
    """
    batch, frames, count = emitted.shape
    may_skip = states.ne(blank)
    may_skip[:, 2:] &= states[:, 2:] != states[:, :-2]
    may_skip[:, :2] = False
    scores = torch.full_like(emitted[:, 0], -torch.inf)
    scores[:, :2] = emitted[:, 0, :2]
    moves = torch.zeros(frames, batch, count, dtype=torch.uint8, device=emitted.device)
    for frame in range(1, frames):
        one = torch.nn.functional.pad(scores, (1, 0), value=-torch.inf)[:, :count]
        two = torch.nn.functional.pad(scores, (2, 0), value=-torch.inf)[:, :count].masked_fill(~may_skip, -torch.inf)
        best, move = torch.stack([scores, one, two]).max(dim=0)
        running = (frame < lengths)[:, None]
        scores = torch.where(running, best + emitted[:, frame], scores)
        moves[frame] = move.to(torch.uint8).masked_fill(~running, 0)
    last = 2 * target_lengths[:, None]
    ends = torch.cat([last, (last - 1).clamp(min=0)], dim=1)
    state = ends.gather(1, scores.gather(1, ends).argmax(dim=1, keepdim=True))
    path = [state]
    for frame in range(frames - 1, 0, -1):
        state = state - moves[frame].gather(1, state).long()
        path.append(state)
    return torch.cat(path[::-1], dim=1)


def _check_frames(lengths: Tensor, targets: Tensor, target_lengths: Tensor) -> None:
    repeats = (targets[:, 1:] == targets[:, :-1]) & length_mask(target_lengths - 1, max(targets.size(1) - 1, 0))
    needed = target_lengths + repeats.sum(dim=1)
    if bool((lengths < needed).any()):
        row = int((lengths < needed).nonzero()[0])
        raise DataError(
            f"utterance {row} of the batch has {int(lengths[row])} frames, but its {int(target_lengths[row])} labels "
            f"need {int(needed[row])}"
        )

"""CTC decoding without another model: best path, and prefix beam search.

Both take a batch. Prefix search: Graves, "Sequence transduction with recurrent neural networks" (2012), in the form of
Hannun et al., "First-pass large vocabulary continuous speech recognition using bi-directional recurrent DNNs" (2014),
without a language model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from funasr.decode.hypothesis import Hypothesis
from funasr.layers.mask import length_mask
from funasr.utils.errors import ConfigError

EMPTY = -1  # stands for "no token": after the end of a prefix, and as the last token of the empty prefix


def ctc_greedy_search(log_probs: Tensor, lengths: Tensor, blank: int = 0) -> list[list[int]]:
    """Best path: the most likely label per frame, repeats merged, blanks dropped.

    log_probs: (batch, frames, vocab), lengths: (batch,) valid frames. Any monotone score does (logits too).
    """
    batch, frames, _ = log_probs.shape
    if batch == 0 or frames == 0:
        return [[] for _ in range(batch)]
    labels = log_probs.argmax(-1)
    keep = (labels != blank) & length_mask(lengths.to(labels.device), frames)
    keep[:, 1:] &= labels[:, 1:] != labels[:, :-1]
    tokens = labels[keep].tolist()
    ends = keep.sum(1).cumsum(0).tolist()
    return [tokens[begin:end] for begin, end in zip([0, *ends[:-1]], ends)]


@dataclass
class _Prefixes:
    """The beam of each utterance. A slot that holds nothing has both log-probabilities -inf."""

    ids: Tensor  # (batch, beam, max tokens), EMPTY after the end
    sizes: Tensor  # (batch, beam) number of tokens
    last: Tensor  # (batch, beam) last token or EMPTY
    log_blank: Tensor  # (batch, beam) log-probability of all paths that end in blank
    log_label: Tensor  # (batch, beam) log-probability of all paths that end in `last`

    @property
    def total(self) -> Tensor:
        return torch.logaddexp(self.log_blank, self.log_label)

    def is_parent(self, frames_seen: int) -> Tensor:
        """(batch, beam, beam): entry [i, j] is true if prefix j is prefix i and one more token."""
        # After t frames a prefix has at most t tokens, so nothing behind column t needs to be compared.
        ids = self.ids[..., : frames_seen + 1]
        columns = torch.arange(ids.size(-1), device=ids.device)
        shortened = ids.masked_fill(columns == (self.sizes - 1).unsqueeze(-1), EMPTY)
        same = (ids.unsqueeze(2) == shortened.unsqueeze(1)).all(-1)
        alive = self.total > -torch.inf
        nonempty = alive & (self.sizes > 0)
        return same & alive.unsqueeze(2) & nonempty.unsqueeze(1)


@torch.no_grad()
def ctc_prefix_beam_search(
    log_probs: Tensor, lengths: Tensor, beam_size: int = 10, nbest: int = 1, blank: int = 0
) -> list[list[Hypothesis]]:
    """The most likely label sequences, each with the probability of all its alignments that stayed in the beam.

    log_probs: (batch, frames, vocab) log-probabilities, lengths: (batch,) valid frames.
    Returns for each utterance at most `nbest` hypotheses, best first, without <s> and </s>. With a beam as large as
    the number of label sequences the probabilities are exact. Raises ConfigError if beam_size or nbest is below 1.
    """
    if beam_size < 1 or nbest < 1:
        raise ConfigError(f"beam_size and nbest must be at least 1, not {beam_size} and {nbest}")
    batch, frames, vocab = log_probs.shape
    log_probs = log_probs.float()
    lengths = lengths.to(log_probs.device)
    prefixes = _empty_prefixes(batch, beam_size, frames, log_probs.device)
    # For one prefix, extensions are ranked by the token's log-probability alone, except for its own last token.
    # So only the beam_size + 1 best labels of a frame can enter the beam, and the pre-selection loses nothing.
    labels = log_probs.index_fill(2, torch.tensor([blank], device=log_probs.device), -torch.inf)
    best_labels = labels.topk(min(beam_size + 1, vocab), dim=-1).indices if frames else labels.long()
    # A loop over frames: the beam after frame t decides what is extended at t + 1.
    for t in range(frames):
        after = _prefix_step(prefixes, log_probs[:, t], best_labels[:, t], t, blank)
        prefixes = _where(t < lengths, after, prefixes)
    return _prefix_results(prefixes, nbest)


def _empty_prefixes(batch: int, beam: int, frames: int, device: torch.device) -> _Prefixes:
    log_blank = torch.full((batch, beam), -torch.inf, device=device)
    log_blank[:, 0] = 0.0
    return _Prefixes(
        ids=torch.full((batch, beam, frames + 1), EMPTY, dtype=torch.long, device=device),
        sizes=torch.zeros(batch, beam, dtype=torch.long, device=device),
        last=torch.full((batch, beam), EMPTY, dtype=torch.long, device=device),
        log_blank=log_blank,
        log_label=torch.full((batch, beam), -torch.inf, device=device),
    )


def _prefix_step(beam: _Prefixes, frame: Tensor, labels: Tensor, t: int, blank: int) -> _Prefixes:
    """The beam after frame number `t`, `frame` (batch, vocab), with `labels` (batch, few) to extend prefixes by."""
    width = beam.last.size(1)
    total = beam.total
    log_last = torch.where(beam.last == EMPTY, -torch.inf, frame.gather(1, beam.last.clamp(min=0)))
    parent = beam.is_parent(t)

    # Prefix j again: by a blank, by its last label once more, or by its parent i (if in the beam) growing into it.
    repeats = beam.last.unsqueeze(2) == beam.last.unsqueeze(1)
    grown = torch.where(repeats, beam.log_blank.unsqueeze(2), total.unsqueeze(2)).masked_fill(~parent, -torch.inf)
    stay_blank = total + frame[:, blank : blank + 1]
    stay_label = torch.logaddexp(beam.log_label, grown.logsumexp(1)) + log_last

    # Prefix i and label k, unless that is a prefix of the beam (counted above).
    repeats = beam.last.unsqueeze(2) == labels.unsqueeze(1)
    log_frame = frame.gather(1, labels).masked_fill(labels == blank, -torch.inf)
    extended = torch.where(repeats, beam.log_blank.unsqueeze(2), total.unsqueeze(2)) + log_frame.unsqueeze(1)
    known = torch.bmm(parent.float(), repeats.float()) > 0
    extended = extended.masked_fill(known, -torch.inf)

    scores = torch.cat([torch.logaddexp(stay_blank, stay_label), extended.flatten(1)], dim=1)
    chosen = scores.topk(width, dim=1).indices
    is_stay = chosen < width
    extension = (chosen - width).clamp(min=0)
    few = labels.size(1)
    source = torch.where(is_stay, chosen, extension // few)
    token = torch.where(is_stay, beam.last.gather(1, source), labels.gather(1, extension % few))

    sizes = beam.sizes.gather(1, source)
    ids = beam.ids.gather(1, source.unsqueeze(2).expand_as(beam.ids))
    # The column behind a prefix takes the new label; for a prefix that stays it takes EMPTY, which it holds already.
    ids = ids.scatter(2, sizes.unsqueeze(2), torch.where(is_stay, EMPTY, token).unsqueeze(2))
    log_blank = torch.where(is_stay, stay_blank.gather(1, source), -torch.inf)
    log_label = torch.where(is_stay, stay_label.gather(1, source), extended.flatten(1).gather(1, extension))
    return _Prefixes(ids, sizes + (~is_stay).long(), token, log_blank, log_label)


def _where(use_new: Tensor, new: _Prefixes, old: _Prefixes) -> _Prefixes:
    """`new` for the utterances in `use_new` (batch,) bool, `old` for the others."""
    row = use_new.unsqueeze(1)
    return _Prefixes(
        ids=torch.where(row.unsqueeze(2), new.ids, old.ids),
        sizes=torch.where(row, new.sizes, old.sizes),
        last=torch.where(row, new.last, old.last),
        log_blank=torch.where(row, new.log_blank, old.log_blank),
        log_label=torch.where(row, new.log_label, old.log_label),
    )


def _prefix_results(beam: _Prefixes, nbest: int) -> list[list[Hypothesis]]:
    total, order = beam.total.sort(dim=1, descending=True, stable=True)
    ids = beam.ids.gather(1, order.unsqueeze(2).expand_as(beam.ids)).tolist()
    sizes = beam.sizes.gather(1, order).tolist()
    return [
        [
            Hypothesis(tuple(tokens[:size]), score, {"ctc": score})
            for tokens, size, score in zip(utt_ids[:nbest], utt_sizes, utt_scores)
            if score > -torch.inf
        ]
        for utt_ids, utt_sizes, utt_scores in zip(ids, sizes, total.tolist())
    ]

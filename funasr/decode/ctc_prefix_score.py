"""CTC prefix scores for label-synchronous search, batched over utterances, hypotheses and candidate tokens.

The prefix score of a token sequence g is log P(all label sequences that begin with g | speech); see Watanabe et al.,
"Hybrid CTC/attention architecture for end-to-end speech recognition" (2017), algorithm 2, and Hori et al., "Joint
CTC/attention decoding for end-to-end speech recognition" (2017).

Two observations make it cheap. The score of a candidate needs only a sum over frames of (paths of the prefix that end
just before) x (the candidate here), so the forward variables are worked out for the hypotheses that are kept, not for
all candidates. And their recursion r[t] = logaddexp(r[t-1], u[t]) + a[t] has the closed form
r[t] = A[t] + logcumsumexp(u[s] - A[s-1]) with A = cumsum(a), so there is no loop over frames; A reaches thousands,
hence float64 inside (devices without it cannot run this scorer).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

LOGZERO = -1e10  # finite, so that differences of two impossible scores are no NaN
NO_TOKEN = -1


@dataclass(frozen=True)
class CTCPrefixState:
    """Forward variables of each hypothesis; N = utterances x hypotheses, the hypotheses of an utterance together."""

    log_label: Tensor  # (N, frames) log-probability of all paths up to a frame that end in the last token
    log_blank: Tensor  # (N, frames) of all that end in blank
    last: Tensor  # (N,) last token, NO_TOKEN if there is none
    score: Tensor  # (N,) prefix score of the hypothesis

    @property
    def log_prefix(self) -> Tensor:
        """(N, frames) log-probability of having produced exactly the prefix up to each frame."""
        return torch.logaddexp(self.log_label, self.log_blank)

    def select(self, index: Tensor) -> CTCPrefixState:
        """The state with hypotheses re-ordered, repeated or dropped: row n becomes row index[n]."""
        return CTCPrefixState(self.log_label[index], self.log_blank[index], self.last[index], self.score[index])


class CTCPrefixScorer:
    """Scores how much CTC likes each candidate as the next token of each hypothesis.

    log_probs: (utterances, frames, vocab), lengths: (utterances,) valid frames, at least 1 each. Every utterance has
    `beam` hypotheses, so a state has utterances x beam rows.
    """

    def __init__(self, log_probs: Tensor, lengths: Tensor, beam: int, eos: int, blank: int = 0) -> None:
        frames = log_probs.size(1)
        beyond = torch.arange(frames, device=log_probs.device) >= lengths.to(log_probs.device).unsqueeze(1)
        # Frames last: what is gathered per candidate lies together in memory.
        log_probs = log_probs.float().masked_fill(beyond.unsqueeze(2), LOGZERO).nan_to_num(nan=LOGZERO, neginf=LOGZERO)
        self.log_probs = log_probs.mT.contiguous()
        self.lengths = lengths.to(log_probs.device)
        self.beam, self.eos, self.blank = beam, eos, blank

    def select(self, utterances: Tensor) -> CTCPrefixScorer:
        """The scorer of some of the utterances (index tensor)."""
        return CTCPrefixScorer(self.log_probs[utterances].mT, self.lengths[utterances], self.beam, self.eos, self.blank)

    @cached_property
    def _utterance(self) -> Tensor:
        """(N,) utterance of each hypothesis."""
        utterances = torch.arange(self.log_probs.size(0), device=self.log_probs.device)
        return utterances.repeat_interleave(self.beam)

    @cached_property
    def _scaled_probs(self) -> tuple[Tensor, Tensor]:
        """Probabilities (utterances, vocab, frames) divided by their largest over frames, and the log of that."""
        log_probs = self.log_probs.double()
        peak = log_probs.amax(2, keepdim=True)
        return (log_probs - peak).exp_(), peak.squeeze(2)

    def init_state(self) -> CTCPrefixState:
        """State of the empty prefix, for every hypothesis of every utterance."""
        log_blank = self.log_probs[self._utterance, self.blank].double().cumsum(1)
        last = torch.full_like(self._utterance, NO_TOKEN)
        return CTCPrefixState(torch.full_like(log_blank, LOGZERO), log_blank, last, log_blank.new_zeros(last.shape))

    def score(self, state: CTCPrefixState, candidates: Tensor | None = None) -> Tensor:
        """Increment of the prefix score for each candidate, (N, candidates) float32.

        candidates: (N, few) token ids, or None for the whole vocabulary. </s> gets the probability that the prefix
        is the whole sequence; blank is impossible.
        """
        return (self._prefix_score(state, candidates) - state.score.unsqueeze(1)).float()

    def advance(self, state: CTCPrefixState, tokens: Tensor) -> CTCPrefixState:
        """The state after each hypothesis took `tokens` (N,)."""
        score = self._prefix_score(state, tokens.unsqueeze(1)).squeeze(1)
        before = self._before(state, state.log_prefix, 0.0)
        before = torch.where((tokens == state.last).unsqueeze(1), self._before(state, state.log_blank, LOGZERO), before)
        # Blank is no label: no path leads behind it, or what follows would win back the score it cost.
        before = before.masked_fill((tokens == self.blank).unsqueeze(1), LOGZERO)
        log_label = _forward(before, self.log_probs[self._utterance, tokens].double())
        before = torch.nn.functional.pad(log_label[:, :-1], (1, 0), value=LOGZERO)
        log_blank = _forward(before, self.log_probs[self._utterance, self.blank].double())
        return CTCPrefixState(log_label, log_blank, tokens, score)

    def _before(self, state: CTCPrefixState, log_paths: Tensor, at_start: float) -> Tensor:
        """(N, frames) log-probability of the paths after which a new token can begin at a frame: `log_paths` one
        frame later. Only the empty prefix is there before the first frame (with log-probability `at_start`)."""
        first = torch.where(state.last == NO_TOKEN, at_start, LOGZERO).to(log_paths.dtype)
        return torch.cat([first.unsqueeze(1), log_paths[:, :-1]], dim=1)

    def _prefix_score(self, state: CTCPrefixState, candidates: Tensor | None) -> Tensor:
        before = self._before(state, state.log_prefix, 0.0)
        if candidates is None:
            score = self._all_prefix_scores(before)
            candidates = torch.arange(score.size(1), device=score.device).expand_as(score)
        else:
            log_probs = self.log_probs[self._utterance.unsqueeze(1), candidates]
            # The largest sum here; relative to the peak float32 is precise enough, and twice as fast.
            peak = before.amax(1, keepdim=True)
            score = ((before - peak).float().unsqueeze(1) + log_probs).logsumexp(2) + peak
        # The last token again: a blank must stand between, or the two are one.
        log_last = self.log_probs[self._utterance, state.last.clamp(min=0)]
        repeated = (self._before(state, state.log_blank, LOGZERO) + log_last).logsumexp(1, keepdim=True)
        score = torch.where(candidates == state.last.unsqueeze(1), repeated, score)
        whole = state.log_prefix.gather(1, self.lengths[self._utterance].unsqueeze(1) - 1)
        score = torch.where(candidates == self.eos, whole, score)
        return score.masked_fill(candidates == self.blank, LOGZERO).clamp(min=LOGZERO)

    def _all_prefix_scores(self, before: Tensor) -> Tensor:
        """(N, vocab): the sum over frames as a matrix product, in linear scale with the peaks taken out.

        In float64 only terms 1e-300 times smaller than the product of the peaks are lost.
        """
        probs, log_peak = self._scaled_probs
        before = before.unflatten(0, (-1, self.beam))
        peak = before.amax(2, keepdim=True)
        score = torch.matmul((before - peak).exp(), probs.mT).log() + peak + log_peak.unsqueeze(1)
        return score.flatten(0, 1)


def _forward(before: Tensor, log_probs: Tensor) -> Tensor:
    """r[t] = logaddexp(r[t-1], before[t]) + log_probs[t] along the last axis, r[-1] = log 0, without a loop."""
    total = log_probs.cumsum(1)
    return total + (before - (total - log_probs)).logcumsumexp(1)

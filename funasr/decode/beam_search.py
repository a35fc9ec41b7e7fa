"""Joint CTC-attention beam search over a batch of utterances.

Label-synchronous search of Watanabe et al., "Hybrid CTC/attention architecture for end-to-end speech recognition"
(2017): at each step every hypothesis of every utterance is extended by one token, all of them in one decoder call.
Utterances that are finished leave the batch, so that neither result nor cost of the others depends on them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from funasr.decode.ctc_prefix_score import LOGZERO, CTCPrefixScorer, CTCPrefixState
from funasr.decode.hypothesis import Hypothesis
from funasr.utils.errors import ConfigError

END_MARGIN = 10.0  # natural log: a length whose best result is this much worse than the best of all is hopeless
END_LENGTHS = 3  # this many hopeless lengths in a row end the search
SCORERS = ("decoder", "ctc", "length_bonus")  # columns of `parts`


class StepDecoder(Protocol):
    """A decoder that can be asked for one token at a time. N is the number of hypotheses.

    `step` changes no tensor of the state in place: it returns new ones for what depends on the tokens. One that it
    passes on as it is (keys and values of the encoder output) is taken to be the same for all hypotheses of an
    utterance, and is not copied when hypotheses change places.
    """

    def init_state(self, memory: Tensor, memory_lengths: Tensor) -> dict[str, Tensor]:
        """State before <s>, for memory (N, frames, dim) and lengths (N,); the first axis of every tensor is N."""

    def step(self, last_ids: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """Log-probabilities (N, vocab) of the token after `last_ids` (N,), and the new state."""


@dataclass(frozen=True)
class BeamSearchOptions:
    """How to search.

    beam_size: hypotheses kept per utterance.
    ctc_weight: c in (1 - c) * decoder + c * CTC; 0 leaves CTC out, 1 the decoder.
    penalty: added to the score for each token (a bonus for length, if positive).
    maxlenratio: at most this share of the encoder frames as tokens; 0: as many as frames, stopping when longer results
        get hopeless; negative: -maxlenratio tokens.
    minlenratio: at least this share of the encoder frames as tokens; negative: -minlenratio tokens.
    nbest: hypotheses returned per utterance, at most.
    """

    beam_size: int = 10
    ctc_weight: float = 0.5
    penalty: float = 0.0
    maxlenratio: float = 0.0
    minlenratio: float = 0.0
    nbest: int = 1

    def __post_init__(self) -> None:
        if self.beam_size < 1 or self.nbest < 1:
            raise ConfigError(f"beam_size and nbest must be at least 1, not {self.beam_size} and {self.nbest}")
        if not 0.0 <= self.ctc_weight <= 1.0:
            raise ConfigError(f"ctc_weight must lie between 0 and 1, not {self.ctc_weight}")


@dataclass(frozen=True)
class SearchWeights:
    """Weight of each scorer's log-probability; `length` is added per token."""

    decoder: float
    ctc: float
    length: float

    def as_tensor(self, like: Tensor) -> Tensor:
        return like.new_tensor([self.decoder, self.ctc, self.length])


@torch.no_grad()
def joint_beam_search(
    memory: Tensor,
    lengths: Tensor,
    decoder: StepDecoder | None,
    ctc_log_probs: Tensor | None,
    options: BeamSearchOptions,
    sos: int,
    eos: int,
    blank: int = 0,
) -> list[list[Hypothesis]]:
    """The n-best token sequences of each utterance, best first, each from <s> to </s>.

    memory: (batch, frames, dim) encoder output, lengths: (batch,) valid frames; ctc_log_probs: (batch, frames, vocab).
    Without `ctc_log_probs` the decoder alone is used (still weighted 1 - ctc_weight), without `decoder` CTC alone.
    Every utterance gets at least one hypothesis; one without frames gets (sos, eos) with score 0.
    In the last step that maxlenratio allows, hypotheses are closed with </s> without scoring it.
    Raises ConfigError if the options leave nothing to score with.
    """
    c = options.ctc_weight
    weights = SearchWeights(
        decoder=1.0 - c if decoder is not None else 0.0,
        ctc=c if ctc_log_probs is not None else 0.0,
        length=options.penalty,
    )
    if weights.decoder == 0.0 and weights.ctc == 0.0:
        missing = "a decoder" if decoder is None else "a CTC head"
        raise ConfigError(f"ctc_weight {c} leaves no scorer: the model has not {missing}; choose another ctc_weight")
    lengths = lengths.to(memory.device)
    limits = length_limits(lengths, options)
    results = [[Hypothesis((sos, eos), 0.0, {})] for _ in range(len(lengths))]
    spoken = (lengths > 0).nonzero().squeeze(1)
    if len(spoken) == 0:
        return results
    lengths = lengths[spoken]
    frames = int(lengths.max())
    scorer = None
    if weights.ctc > 0.0 and ctc_log_probs is not None:
        scorer = CTCPrefixScorer(ctc_log_probs[spoken, :frames], lengths, options.beam_size, eos, blank)
    use_decoder = decoder if weights.decoder > 0.0 else None
    state = use_decoder.init_state(memory[spoken, :frames], lengths) if use_decoder is not None else {}
    search = BeamSearch(use_decoder, scorer, weights, options.beam_size, options.nbest, sos, eos)
    found = search.run(state, limits[0][spoken], limits[1][spoken], stop_early=options.maxlenratio == 0)
    for row, hypotheses in zip(spoken.tolist(), found):
        results[row] = hypotheses
    return results


def length_limits(lengths: Tensor, options: BeamSearchOptions) -> tuple[Tensor, Tensor]:
    """(fewest, most) tokens between <s> and </s> for each utterance, int64 (batch,)."""

    def scaled(ratio: float) -> Tensor:
        if ratio < 0:
            return torch.full_like(lengths, int(-ratio))
        return (lengths.double() * ratio).long()

    most = lengths if options.maxlenratio == 0 else scaled(options.maxlenratio)
    most = most.clamp(min=1)
    return torch.minimum(scaled(options.minlenratio), most), most


@dataclass
class _Running:
    """Unfinished hypotheses of the utterances still searched; a slot without one has score -inf."""

    ids: Tensor  # (utterances, beam, longest + 2)
    score: Tensor  # (utterances, beam)
    parts: Tensor  # (utterances, beam, scorers) unweighted sums
    decoder: dict[str, Tensor]  # first axis utterances * beam
    shared: set[str]  # names in `decoder` that no step has replaced: the same for all hypotheses of an utterance
    ctc: CTCPrefixState | None


class _Finished:
    """The `nbest` best finished hypotheses of every utterance, and the best score per length for the stopping rule."""

    def __init__(self, batch: int, nbest: int, longest: int, like: Tensor) -> None:
        self.score = like.new_full((batch, nbest), -torch.inf)
        self.parts = like.new_zeros(batch, nbest, len(SCORERS))
        self.ids = torch.zeros(batch, nbest, longest + 2, dtype=torch.long, device=like.device)
        self.sizes = torch.zeros(batch, nbest, dtype=torch.long, device=like.device)
        self.best_of_size = like.new_full((batch, longest + 3), -torch.inf)

    def add(self, rows: Tensor, ids: Tensor, sizes: Tensor, score: Tensor, parts: Tensor) -> None:
        """Enter hypotheses (len(rows), beam, ...) of the utterances `rows`; those with score -inf are ignored."""
        self.best_of_size[rows] = self.best_of_size[rows].scatter_reduce(1, sizes, score, "amax")
        best, order = torch.cat([self.score[rows], score], 1).topk(self.score.size(1), dim=1)
        self.score[rows] = best
        self.sizes[rows] = torch.cat([self.sizes[rows], sizes], 1).gather(1, order)
        self.ids[rows] = _take(torch.cat([self.ids[rows], ids], 1), order)
        self.parts[rows] = _take(torch.cat([self.parts[rows], parts], 1), order)

    def is_hopeless(self, rows: Tensor, size: int) -> Tensor:
        """(len(rows),) bool: the results with `size`, `size` - 1, ... tokens are all far worse than the best."""
        if size < END_LENGTHS:
            return torch.zeros_like(rows, dtype=torch.bool)
        recent = self.best_of_size[rows, size - END_LENGTHS + 1 : size + 1]
        far_worse = recent - self.score[rows, :1] < -END_MARGIN
        return (far_worse & recent.isfinite()).all(1)

    def results(self, used: Mapping[str, bool]) -> list[list[Hypothesis]]:
        columns = [(name, SCORERS.index(name)) for name, is_used in used.items() if is_used]
        rows = zip(self.ids.tolist(), self.sizes.tolist(), self.score.tolist(), self.parts.tolist())
        return [
            [
                Hypothesis(tuple(tokens[:size]), value, {name: part[column] for name, column in columns})
                for tokens, size, value, part in zip(ids, sizes, score, parts)
                if value > -torch.inf
            ]
            for ids, sizes, score, parts in rows
        ]


@dataclass(frozen=True)
class BeamSearch:
    """The search proper, with the scorers and weights given; `joint_beam_search` is the door for models."""

    decoder: StepDecoder | None
    scorer: CTCPrefixScorer | None
    weights: SearchWeights
    beam: int
    nbest: int
    sos: int
    eos: int

    def run(
        self, decoder_state: dict[str, Tensor], fewest: Tensor, most: Tensor, stop_early: bool
    ) -> list[list[Hypothesis]]:
        """Search from `decoder_state` (first axis: utterances) with `fewest` to `most` tokens per utterance."""
        batch, longest = len(most), int(most.max())
        scorer, running = self.scorer, self._start(decoder_state, most, longest)
        finished = _Finished(batch, self.nbest, longest, running.score)
        rows = torch.arange(batch, device=most.device)  # the utterances still searched
        # A loop over steps: what a token is scored with depends on the tokens before it.
        for step in range(longest):
            tokens, parents = self._extend(running, scorer, step, step < fewest)
            last = most == step + 1
            size = torch.where(last.unsqueeze(1) & (tokens != self.eos), step + 3, step + 2)
            running.ids[:, :, step + 1] = tokens
            running.ids[:, :, step + 2] = self.eos  # closes the unfinished in the last step; otherwise overwritten
            ends = last.unsqueeze(1) | (tokens == self.eos)
            finished.add(rows, running.ids, size, running.score.masked_fill(~ends, -torch.inf), running.parts)
            running.score = running.score.masked_fill(ends, -torch.inf)
            keep = (running.score > -torch.inf).any(1)
            if stop_early:
                keep &= ~finished.is_hopeless(rows, step)
            kept = keep.nonzero().squeeze(1)
            if len(kept) == 0:
                break
            scorer = self._follow(running, scorer, kept, tokens, parents)
            rows, fewest, most = rows[kept], fewest[kept], most[kept]
        used = {
            "decoder": self.decoder is not None,
            "ctc": self.scorer is not None,
            "length_bonus": self.weights.length != 0,
        }
        return finished.results(used)

    def _start(self, decoder_state: dict[str, Tensor], most: Tensor, longest: int) -> _Running:
        batch, device = len(most), most.device
        score = torch.full((batch, self.beam), -torch.inf, device=device)
        score[:, 0] = 0.0
        copies = torch.arange(batch, device=device).repeat_interleave(self.beam)
        return _Running(
            ids=torch.full((batch, self.beam, longest + 2), self.sos, dtype=torch.long, device=device),
            score=score,
            parts=torch.zeros(batch, self.beam, len(SCORERS), device=device),
            decoder={name: value.index_select(0, copies) for name, value in decoder_state.items()},
            shared=set(decoder_state),
            ctc=self.scorer.init_state() if self.scorer is not None else None,
        )

    def _extend(
        self, running: _Running, scorer: CTCPrefixScorer | None, step: int, too_short: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Replace hypotheses, scores and parts by their best extensions; the states still belong to the parents.

        Returns the new tokens and the slots of the parents, both (utterances, beam).
        """
        candidates, parts = self._candidates(running, scorer, step, too_short.repeat_interleave(self.beam))
        total = (parts * self.weights.as_tensor(parts)).sum(-1).view(*running.score.shape, -1)
        total = (total + running.score.unsqueeze(2)).flatten(1)
        few = candidates.size(1)
        if total.size(1) < self.beam:
            total = torch.nn.functional.pad(total, (0, self.beam - total.size(1)), value=-torch.inf)
        running.score, chosen = total.topk(self.beam, dim=1)
        # Padding (a vocabulary smaller than the beam) is chosen with score -inf only; any valid index will do for it.
        chosen = chosen.clamp(max=self.beam * few - 1)
        parents = chosen // few
        running.ids = _take(running.ids, parents)
        running.parts = _take(running.parts, parents) + _take(parts.view(len(chosen), self.beam * few, -1), chosen)
        return candidates.view(len(chosen), -1).gather(1, chosen), parents

    def _candidates(
        self, running: _Running, scorer: CTCPrefixScorer | None, step: int, too_short: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens worth trying for each hypothesis (N, few) and what each scorer says of them (N, few, scorers).

        With both scorers, the decoder chooses int(1.5 * beam) tokens for CTC to score; with one, it chooses `beam`.
        A hypothesis that is `too_short` (N,) gets -inf for </s>.
        """
        decoder = ctc = None
        if self.decoder is not None:
            before = running.decoder
            decoder, running.decoder = self.decoder.step(running.ids[:, :, step].flatten(), before)
            running.shared = {name for name in running.shared if running.decoder.get(name) is before[name]}
        elif scorer is not None and running.ctc is not None:
            ctc = scorer.score(running.ctc)
        log_probs = decoder if decoder is not None else ctc
        if log_probs is None:
            raise ConfigError("a beam search needs a decoder or a CTC scorer")
        # One utterance with damaged numbers must not disturb the others; its result shows a score of -1e10.
        log_probs = log_probs.float().nan_to_num(nan=LOGZERO, neginf=LOGZERO)
        is_end = torch.arange(log_probs.size(1), device=log_probs.device) == self.eos
        log_probs = log_probs.masked_fill(too_short.unsqueeze(1) & is_end, -torch.inf)
        few = int(1.5 * self.beam) if decoder is not None and scorer is not None else self.beam
        best, candidates = log_probs.topk(min(few, log_probs.size(1)), dim=1)
        nothing, one = torch.zeros_like(best), torch.ones_like(best)
        if decoder is None:
            return candidates, torch.stack([nothing, best, one], dim=2)
        if scorer is not None and running.ctc is not None:
            return candidates, torch.stack([best, scorer.score(running.ctc, candidates), one], dim=2)
        return candidates, torch.stack([best, nothing, one], dim=2)

    def _follow(
        self, running: _Running, scorer: CTCPrefixScorer | None, kept: Tensor, tokens: Tensor, parents: Tensor
    ) -> CTCPrefixScorer | None:
        """Drop all utterances but `kept` and let the scorers' states follow the chosen extensions."""
        hypotheses = (kept.unsqueeze(1) * self.beam + parents[kept]).flatten()
        # Parent and child are of one utterance, so what its hypotheses share (keys and values of the encoder output,
        # the largest tensors there are) is copied only when utterances leave.
        moved = running.decoder.keys() - running.shared if len(kept) == len(running.ids) else running.decoder.keys()
        running.decoder = running.decoder | {name: running.decoder[name].index_select(0, hypotheses) for name in moved}
        if len(kept) < len(running.ids):
            running.ids, running.score, running.parts = running.ids[kept], running.score[kept], running.parts[kept]
            scorer = scorer.select(kept) if scorer is not None else None
        if scorer is not None and running.ctc is not None:
            running.ctc = scorer.advance(running.ctc.select(hypotheses), tokens[kept].flatten())
        return scorer


def _take(values: Tensor, index: Tensor) -> Tensor:
    """values (batch, n, size) at index (batch, m) along the second axis: (batch, m, size)."""
    return values.gather(1, index.unsqueeze(2).expand(-1, -1, values.size(2)))

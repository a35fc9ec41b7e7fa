"""CTC decoding equals brute-force sums over all alignments, and does not depend on the rest of the batch."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict

import pytest
import torch

from funasr.decode.ctc import ctc_greedy_search, ctc_prefix_beam_search
from funasr.decode.ctc_prefix_score import LOGZERO, CTCPrefixScorer
from funasr.utils.errors import ConfigError

EOS = 2


def random_log_probs(batch: int, frames: int, vocab: int, seed: int = 0, sharp: float = 2.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (sharp * torch.randn(batch, frames, vocab, generator=generator)).log_softmax(-1)


def sequence_probabilities(log_probs: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Label sequence -> probability, by listing every alignment of one utterance (frames, vocab)."""
    frames, vocab = log_probs.shape
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for path in itertools.product(range(vocab), repeat=frames):
        labels = tuple(label for label, _ in itertools.groupby(path) if label != 0)
        found[labels] += math.exp(sum(float(log_probs[t, label]) for t, label in enumerate(path)))
    return dict(found)


def prefix_probability(sequences: dict[tuple[int, ...], float], prefix: tuple[int, ...]) -> float:
    return sum(p for labels, p in sequences.items() if labels[: len(prefix)] == prefix)


def test_greedy_merges_repeats_and_drops_blanks() -> None:
    labels = torch.tensor([[0, 3, 3, 0, 3, 4, 4], [5, 5, 0, 0, 1, 1, 1]])
    log_probs = torch.nn.functional.one_hot(labels, 6).float()
    assert ctc_greedy_search(log_probs, torch.tensor([7, 4])) == [[3, 3, 4], [5]]
    assert ctc_greedy_search(log_probs, torch.tensor([0, 1])) == [[], [5]]
    assert ctc_greedy_search(log_probs[:, :0], torch.tensor([0, 0])) == [[], []]
    assert ctc_greedy_search(log_probs[:0], torch.tensor([], dtype=torch.long)) == []


@pytest.mark.parametrize("seed", range(5))
def test_prefix_search_with_a_huge_beam_is_exact(seed: int) -> None:
    log_probs = random_log_probs(2, 5, 3, seed)
    lengths = torch.tensor([5, 3])
    results = ctc_prefix_beam_search(log_probs, lengths, beam_size=100, nbest=100)
    for utterance, hypotheses in enumerate(results):
        expected = sequence_probabilities(log_probs[utterance, : lengths[utterance]])
        assert {h.ids for h in hypotheses} == set(expected)
        for h in hypotheses:
            assert math.exp(h.score) == pytest.approx(expected[h.ids], rel=1e-4)
        scores = [h.score for h in hypotheses]
        assert scores == sorted(scores, reverse=True)


def reference_prefix_search(log_probs: torch.Tensor, beam: int) -> list[tuple[tuple[int, ...], float]]:
    """Textbook prefix search with dictionaries, one utterance (frames, vocab)."""
    beams = {(): (0.0, -math.inf)}
    for frame in log_probs.double():
        new: dict[tuple[int, ...], list[float]] = defaultdict(lambda: [-math.inf, -math.inf])

        def add(prefix: tuple[int, ...], which: int, value: float) -> None:
            new[prefix][which] = float(torch.logaddexp(torch.tensor(new[prefix][which]), torch.tensor(value)))

        for prefix, (blank, label) in beams.items():
            total = float(torch.logaddexp(torch.tensor(blank), torch.tensor(label)))
            add(prefix, 0, total + float(frame[0]))
            for token in range(1, len(frame)):
                if prefix and token == prefix[-1]:
                    add(prefix, 1, label + float(frame[token]))
                    add((*prefix, token), 1, blank + float(frame[token]))
                else:
                    add((*prefix, token), 1, total + float(frame[token]))
        ranked = sorted(new.items(), key=lambda item: -sum(map(math.exp, item[1])))
        beams = {prefix: (b, n) for prefix, (b, n) in ranked[:beam]}
    return [(prefix, math.log(math.exp(b) + math.exp(n))) for prefix, (b, n) in beams.items()]


@pytest.mark.parametrize("seed", range(4))
def test_prefix_search_with_a_small_beam_equals_the_textbook(seed: int) -> None:
    log_probs = random_log_probs(1, 12, 7, seed, sharp=1.0)
    expected = reference_prefix_search(log_probs[0], beam=4)
    (found,) = ctc_prefix_beam_search(log_probs, torch.tensor([12]), beam_size=4, nbest=4)
    assert [h.ids for h in found] == [ids for ids, _ in expected]
    assert [h.score for h in found] == pytest.approx([score for _, score in expected], abs=1e-4)


def test_prefix_search_of_a_batch_equals_one_by_one() -> None:
    log_probs = random_log_probs(4, 20, 9)
    lengths = torch.tensor([20, 0, 7, 13])
    together = ctc_prefix_beam_search(log_probs, lengths, beam_size=5, nbest=3)
    for utterance, size in enumerate(lengths.tolist()):
        alone = ctc_prefix_beam_search(
            log_probs[utterance : utterance + 1, :size], lengths[utterance : utterance + 1], 5, 3
        )
        assert [h.ids for h in alone[0]] == [h.ids for h in together[utterance]]
        assert [h.score for h in alone[0]] == pytest.approx([h.score for h in together[utterance]], abs=1e-5)
    assert [(h.ids, h.score) for h in together[1]] == [((), 0.0)]


def test_prefix_search_refuses_an_empty_beam() -> None:
    with pytest.raises(ConfigError):
        ctc_prefix_beam_search(random_log_probs(1, 2, 3), torch.tensor([2]), beam_size=0)


@pytest.mark.parametrize("prefix", [(), (1,), (1, 1), (3, 1), (1, 3, 3)])
@pytest.mark.parametrize("whole_vocabulary", [True, False])
def test_prefix_scores_equal_sums_over_alignments(prefix: tuple[int, ...], whole_vocabulary: bool) -> None:
    log_probs = random_log_probs(2, 6, 4, seed=3)
    lengths = torch.tensor([6, 5])
    scorer = CTCPrefixScorer(log_probs, lengths, beam=2, eos=EOS)
    state = scorer.init_state()
    for token in prefix:
        state = scorer.advance(state, torch.full((4,), token))
    candidates = None if whole_vocabulary else torch.tensor([3, 1, EOS, 0]).expand(4, 4)
    increments = scorer.score(state, candidates)
    assert increments.dtype == torch.float32
    order = range(4) if whole_vocabulary else (3, 1, EOS, 0)
    for row in range(4):
        sequences = sequence_probabilities(log_probs[row // 2, : lengths[row // 2]])
        base = math.log(prefix_probability(sequences, prefix)) if prefix else 0.0
        assert float(state.score[row]) == pytest.approx(base, abs=1e-5)
        for column, token in enumerate(order):
            value = float(increments[row, column])
            if token == 0:
                assert value < 0.9 * LOGZERO
                continue
            wanted = sequences.get(prefix, 0.0) if token == EOS else prefix_probability(sequences, (*prefix, token))
            if wanted == 0.0:  # more labels than fit in the frames
                assert value < 0.9 * LOGZERO
            else:
                assert value == pytest.approx(math.log(wanted) - base, abs=1e-4)


def test_impossible_prefixes_have_finite_scores() -> None:
    scorer = CTCPrefixScorer(random_log_probs(1, 2, 4), torch.tensor([2]), beam=1, eos=EOS)
    state = scorer.init_state()
    for token in (1, 1, 3, 3):
        state = scorer.advance(state, torch.tensor([token]))
    assert float(state.score) < 0.9 * LOGZERO
    assert scorer.score(state).isfinite().all()


def test_long_utterances_keep_their_precision() -> None:
    """The closed form of the recursion against the loop that defines it, over 2000 frames."""
    log_probs = random_log_probs(1, 2000, 6, sharp=6.0)
    scorer = CTCPrefixScorer(log_probs, torch.tensor([2000]), beam=1, eos=EOS)
    state = scorer.advance(scorer.init_state(), torch.tensor([4]))
    label, blank = torch.tensor(LOGZERO).double(), torch.tensor(LOGZERO).double()
    frames = log_probs[0].double()
    ready = torch.tensor(0.0).double()  # paths of the empty prefix
    for t in range(2000):
        label, blank = (
            torch.logaddexp(label, ready) + frames[t, 4],
            torch.logaddexp(label, blank) + frames[t, 0],
        )
        ready = ready + frames[t, 0]
    assert float(state.log_label[0, -1]) == pytest.approx(float(label), abs=1e-6)
    assert float(state.log_blank[0, -1]) == pytest.approx(float(blank), abs=1e-6)

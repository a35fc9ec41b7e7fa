"""Joint beam search with a toy decoder: exact with a huge beam, bound by its limits, the same in a batch as alone."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from funasr.decode.beam_search import BeamSearchOptions, joint_beam_search
from funasr.decode.ctc_prefix_score import CTCPrefixScorer
from funasr.decode.hypothesis import Hypothesis
from funasr.decode.paraformer_beam import paraformer_beam_search
from funasr.utils.errors import ConfigError

SOS, EOS = 1, 2


class ToyDecoder:
    """A recurrent network whose prediction depends on the whole history and on the encoder output."""

    def __init__(self, vocab: int, dim: int = 8, seed: int = 0, eos_bias: float = 0.0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.embed = torch.randn(vocab, dim, generator=generator)
        self.recurrent = torch.randn(dim, dim, generator=generator)
        self.output = 1.5 * torch.randn(dim, vocab, generator=generator)
        self.output_bias = torch.zeros(vocab)
        self.output_bias[EOS] = eos_bias

    def init_state(self, memory: Tensor, memory_lengths: Tensor) -> dict[str, Tensor]:
        valid = (torch.arange(memory.size(1)) < memory_lengths.unsqueeze(1)).unsqueeze(2)
        context = (memory * valid).sum(1) / memory_lengths.unsqueeze(1)
        return {"context": context, "hidden": torch.zeros_like(context)}

    def step(self, last_ids: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        hidden = torch.tanh(state["hidden"] @ self.recurrent + self.embed[last_ids] + state["context"])
        return (hidden @ self.output + self.output_bias).log_softmax(-1), {**state, "hidden": hidden}

    def log_prob(self, memory: Tensor, ids: tuple[int, ...]) -> float:
        """Sum over the transitions of `ids`, which begins with <s>; memory (frames, dim)."""
        state = self.init_state(memory.unsqueeze(0), torch.tensor([len(memory)]))
        total = 0.0
        for last, token in itertools.pairwise(ids):
            log_probs, state = self.step(torch.tensor([last]), state)
            total += float(log_probs[0, token])
        return total


def ctc_log_prob(log_probs: Tensor, ids: tuple[int, ...]) -> float:
    scorer = CTCPrefixScorer(log_probs.unsqueeze(0), torch.tensor([len(log_probs)]), beam=1, eos=EOS)
    state = scorer.init_state()
    total = 0.0
    for token in ids[1:]:
        total += float(scorer.score(state, torch.tensor([[token]])))
        state = scorer.advance(state, torch.tensor([token]))
    return total


def toy_inputs(batch: int, frames: int, vocab: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed + 100)
    memory = torch.randn(batch, frames, 8, generator=generator)
    return memory, (2 * torch.randn(batch, frames, vocab, generator=generator)).log_softmax(-1)


def search(
    memory: Tensor, lengths: Tensor, decoder: ToyDecoder | None, ctc: Tensor | None, **options: float
) -> list[list[Hypothesis]]:
    return joint_beam_search(memory, lengths, decoder, ctc, BeamSearchOptions(**options), SOS, EOS)


def assert_same(found: list[Hypothesis], expected: list[Hypothesis]) -> None:
    assert [h.ids for h in found] == [h.ids for h in expected]
    assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1e-4)


@pytest.mark.parametrize("ctc_weight", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("penalty", [0.0, 0.7])
@pytest.mark.parametrize("shortest", [0, 2])
def test_a_huge_beam_is_exhaustive(ctc_weight: float, penalty: float, shortest: int) -> None:
    vocab, most, frames = 5, 3, 4
    memory, ctc = toy_inputs(1, frames, vocab)
    decoder = ToyDecoder(vocab)
    labels = [0, 1, 3, 4] if ctc_weight == 0.0 else [1, 3, 4]  # blank means nothing to the decoder alone
    expected = []
    for size in range(shortest, most + 1):
        for tokens in itertools.product(labels, repeat=size):
            # The </s> behind the last token that is allowed is free.
            scored = (SOS, *tokens) if size == most else (SOS, *tokens, EOS)
            score = (1 - ctc_weight) * decoder.log_prob(memory[0], scored) + penalty * (len(scored) - 1)
            score += ctc_weight * ctc_log_prob(ctc[0], scored)
            if score > -1e8:  # CTC can fit it into the frames
                expected.append(Hypothesis((SOS, *tokens, EOS), score))
    expected.sort(key=lambda h: -h.score)
    options = {"ctc_weight": ctc_weight, "penalty": penalty, "beam_size": 300, "nbest": len(expected)}
    lengths = torch.tensor([frames])
    (found,) = search(memory, lengths, decoder, ctc, maxlenratio=-most, minlenratio=-shortest, **options)
    assert_same(found, expected)


@pytest.mark.parametrize("ctc_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("ratios", [(0.0, 0.0), (0.5, 0.2), (-6, -3)])
def test_each_utterance_of_a_batch_gets_what_it_gets_alone(ctc_weight: float, ratios: tuple[float, float]) -> None:
    vocab = 20
    lengths = torch.tensor([12, 1, 30, 0, 7, 21])
    memory, ctc = toy_inputs(len(lengths), 30, vocab)
    decoder = ToyDecoder(vocab, eos_bias=2.0)
    options = {"ctc_weight": ctc_weight, "beam_size": 4, "nbest": 6, "maxlenratio": ratios[0], "minlenratio": ratios[1]}
    together = search(memory, lengths, decoder, ctc, **options)
    noise = torch.arange(30)[None, :, None] >= lengths[:, None, None]
    noisy = search(memory.masked_fill(noise, 5.0), lengths, decoder, ctc.masked_fill(noise, 0.0), **options)
    for row, size in enumerate(lengths.tolist()):
        one = slice(row, row + 1)
        (alone,) = search(memory[one, :size], lengths[one], decoder, ctc[one, :size], **options)
        assert_same(together[row], alone)
        assert_same(noisy[row], alone)
        scores = [h.score for h in alone]
        assert scores == sorted(scores, reverse=True)
    assert together[3] == [Hypothesis((SOS, EOS), 0.0, {})]


def test_nothing_to_decode() -> None:
    memory, ctc = toy_inputs(2, 3, 6)
    decoder = ToyDecoder(6)
    assert search(memory[:0], torch.zeros(0, dtype=torch.long), decoder, ctc[:0]) == []
    empty = [[Hypothesis((SOS, EOS), 0.0, {})]] * 2
    assert search(memory, torch.tensor([0, 0]), decoder, ctc) == empty
    assert search(memory[:, :0], torch.tensor([0, 0]), decoder, ctc[:, :0]) == empty


@pytest.mark.parametrize("ctc_weight", [0.0, 0.5, 1.0])
def test_length_limits_hold(ctc_weight: float) -> None:
    memory, ctc = toy_inputs(1, 20, 10)
    eager, shy = ToyDecoder(10, eos_bias=20.0), ToyDecoder(10, eos_bias=-20.0)
    (found,) = search(memory, torch.tensor([20]), eager, ctc, minlenratio=0.3, ctc_weight=ctc_weight, nbest=5)
    assert found and min(len(h.ids) for h in found) >= 2 + 6
    (found,) = search(memory, torch.tensor([20]), shy, ctc, maxlenratio=0.3, ctc_weight=ctc_weight, nbest=5)
    assert found and max(len(h.ids) for h in found) <= 2 + 6
    assert all(h.ids[0] == SOS and h.ids[-1] == EOS and EOS not in h.ids[1:-1] for h in found)
    # A minimum above the maximum: the maximum holds.
    (found,) = search(memory, torch.tensor([20]), shy, ctc, maxlenratio=-2, minlenratio=-5, ctc_weight=ctc_weight)
    assert len(found[0].ids) == 2 + 2


def test_scores_are_the_weighted_parts() -> None:
    memory, ctc = toy_inputs(1, 15, 12)
    decoder = ToyDecoder(12, eos_bias=1.0)
    (found,) = search(memory, torch.tensor([15]), decoder, ctc, ctc_weight=0.3, penalty=0.2, nbest=4)
    for h in found:
        assert set(h.scores) == {"decoder", "ctc", "length_bonus"}
        total = 0.7 * h.scores["decoder"] + 0.3 * h.scores["ctc"] + 0.2 * h.scores["length_bonus"]
        assert h.score == pytest.approx(total, abs=1e-4)
        scored = h.ids if h.scores["length_bonus"] == len(h.ids) - 1 else h.ids[:-1]
        assert h.scores["decoder"] == pytest.approx(decoder.log_prob(memory[0], scored), abs=1e-4)
        assert h.scores["ctc"] == pytest.approx(ctc_log_prob(ctc[0], scored), abs=1e-4)


def test_search_stops_when_longer_results_are_hopeless() -> None:
    class Counting(ToyDecoder):
        steps = 0

        def step(self, last_ids: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
            self.steps += 1
            return super().step(last_ids, state)

    memory, _ = toy_inputs(1, 200, 12)
    decoder = Counting(12, eos_bias=3.0)
    search(memory, torch.tensor([200]), decoder, None, ctc_weight=0.0)
    assert decoder.steps < 60
    decoder.steps = 0
    search(memory, torch.tensor([200]), decoder, None, ctc_weight=0.0, maxlenratio=1.0)
    assert decoder.steps == 200


def test_without_ctc_the_decoder_keeps_its_weight_and_without_decoder_ctc_decides() -> None:
    memory, ctc = toy_inputs(1, 10, 12)
    lengths = torch.tensor([10])
    decoder = ToyDecoder(12, eos_bias=1.0)
    (found,) = search(memory, lengths, decoder, None, ctc_weight=0.5)
    assert found[0].score == pytest.approx(0.5 * found[0].scores["decoder"], abs=1e-5)
    (found,) = search(memory, lengths, None, ctc, ctc_weight=1.0, beam_size=5)
    assert_same(found, search(memory, lengths, decoder, ctc, ctc_weight=1.0, beam_size=5)[0])
    with pytest.raises(ConfigError, match="CTC head"):
        search(memory, lengths, decoder, None, ctc_weight=1.0)
    with pytest.raises(ConfigError, match="decoder"):
        search(memory, lengths, None, ctc, ctc_weight=0.0)


def test_damaged_numbers_of_one_utterance_leave_the_others_alone() -> None:
    memory, ctc = toy_inputs(2, 8, 12)
    lengths = torch.tensor([8, 8])
    decoder = ToyDecoder(12, eos_bias=1.0)
    good = search(memory, lengths, decoder, ctc)
    memory[0], ctc[0] = torch.nan, torch.nan
    bad = search(memory, lengths, decoder, ctc)
    assert bad[0][0].score < -1e9
    assert_same(bad[1], good[1])


@pytest.mark.parametrize("options", [{"beam_size": 0}, {"nbest": 0}, {"ctc_weight": 1.5}, {"ctc_weight": -0.1}])
def test_impossible_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        BeamSearchOptions(**options)


def test_paraformer_search_with_a_huge_beam_is_exhaustive() -> None:
    _, am = toy_inputs(1, 3, 5, seed=1)
    _, ctc = toy_inputs(1, 6, 5, seed=2)
    expected = []
    for size in range(4):
        for tokens in itertools.product([1, 3, 4], repeat=size):
            scored = (SOS, *tokens) if size == 3 else (SOS, *tokens, EOS)
            score = sum(float(am[0, i, token]) for i, token in enumerate(scored[1:])) + 0.3 * (len(scored) - 1)
            score += 0.6 * ctc_log_prob(ctc[0], scored)
            if score > -1e8:
                expected.append(Hypothesis((SOS, *tokens, EOS), score))
    expected.sort(key=lambda h: -h.score)
    found = paraformer_beam_search(am[0], ctc[0], 0.6, 300, len(expected), 0.3, SOS, EOS)
    assert_same(found, expected)


def test_paraformer_search_without_positions_or_frames() -> None:
    _, am = toy_inputs(1, 3, 5)
    nothing = [Hypothesis((SOS, EOS), 0.0, {})]
    assert paraformer_beam_search(am[0, :0], am[0], 0.5, 4, 2, 0.0, SOS, EOS) == nothing
    assert paraformer_beam_search(am[0], am[0, :0], 0.5, 4, 2, 0.0, SOS, EOS) == nothing
    with pytest.raises(ConfigError):
        paraformer_beam_search(am[0], am[0], 0.5, 0, 1, 0.0, SOS, EOS)


def test_paraformer_search_without_ctc_weight_takes_the_best_token_of_each_position() -> None:
    _, am = toy_inputs(1, 6, 9)
    am[:, :, EOS] -= 20
    (best,) = paraformer_beam_search(am[0], am[0], 0.0, 3, 1, 0.0, SOS, EOS)
    assert best.ids == (SOS, *am[0].argmax(-1).tolist(), EOS)

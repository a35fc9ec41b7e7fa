"""Continuous integrate-and-fire: against a frame-by-frame definition, recorded timestamps, and its promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from funasr.layers.cif import CifPredictor, CifPredictorV2, cif_length_loss, integrate_and_fire
from funasr.layers.timestamps import cif_timestamps


def frame_by_frame(
    hidden: torch.Tensor, alphas: torch.Tensor, threshold: float
) -> tuple[list[torch.Tensor], list[float]]:
    """The published algorithm for one utterance: (frames, dim), (frames,)."""
    integrated, vector, fires, peaks = 0.0, torch.zeros(hidden.size(1)), [], []
    for frame, alpha in zip(hidden, alphas.tolist()):
        missing = 1.0 - integrated
        integrated += alpha
        peaks.append(integrated)
        if integrated >= threshold:
            fires.append(vector + missing * frame)
            vector = (alpha - missing) * frame
            integrated -= 1.0
        else:
            vector = vector + alpha * frame
    return fires, peaks


@pytest.mark.parametrize("threshold", [1.0, 0.8, 1.3])
def test_equals_the_frame_by_frame_definition(threshold: float) -> None:
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(4, 30, 5, generator=generator)
    alphas = torch.rand(4, 30, generator=generator) * 0.7
    alphas[2, 20:] = 0.0
    wanted = [frame_by_frame(h, a, threshold) for h, a in zip(hidden, alphas)]
    counts = torch.tensor([len(fires) for fires, _ in wanted])
    embeds, peaks = integrate_and_fire(hidden, alphas, counts, int(counts.max()) + 1, threshold)
    for row, (fires, integrator) in enumerate(wanted):
        torch.testing.assert_close(embeds[row, : len(fires)], torch.stack(fires), atol=1e-5, rtol=1e-5)
        assert not embeds[row, len(fires) :].any()
        torch.testing.assert_close(peaks[row], torch.tensor(integrator), atol=1e-5, rtol=1e-5)


def test_gradients_are_right() -> None:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 9, 3, generator=generator, dtype=torch.double, requires_grad=True)
    alphas = (torch.rand(2, 9, generator=generator, dtype=torch.double) * 0.5 + 0.1).requires_grad_()
    tokens = torch.tensor([2, 2])
    assert torch.autograd.gradcheck(lambda h, a: integrate_and_fire(h, a, tokens, 2)[0], (hidden, alphas))


@pytest.mark.parametrize("cls", [CifPredictor, CifPredictorV2])
def test_all_target_tokens_fire(cls: type) -> None:
    """Whatever rounding does, also with more tokens than fit below one per frame, and with long utterances."""
    torch.manual_seed(0)
    predictor = cls(8)
    hidden = torch.randn(3, 900, 8)
    mask = torch.arange(900) < torch.tensor([900, 700, 5])[:, None]
    for _ in range(5):
        targets = torch.cat([torch.randint(1, 400, (2,)), torch.tensor([7])])
        out = predictor(hidden + 1.0, targets, mask)
        peaks = (out.peaks >= 1.0 - 1e-5).sum(dim=1)
        assert peaks[:2].tolist() == targets[:2].tolist()
        exists = torch.arange(out.embeds.size(1)) < targets[:, None]
        assert out.embeds[exists].any(dim=1).all() and not out.embeds[~exists].any()
        torch.testing.assert_close(out.alphas.sum(1), targets.float(), rtol=1e-4, atol=1e-4)
        # The vectors are weighted sums with weight 1 each: of a constant they are that constant.
        flat = integrate_and_fire(torch.ones(3, 900, 1), out.alphas.double(), targets, 400, force=True)[0][..., 0]
        torch.testing.assert_close(flat[:, : exists.size(1)][exists], torch.ones(int(exists.sum())), atol=1e-3, rtol=0)


@pytest.mark.parametrize("cls", [CifPredictor, CifPredictorV2])
@pytest.mark.parametrize("tail", [0.0, 0.45])
def test_an_utterance_is_the_same_in_any_batch(cls: type, tail: float) -> None:
    torch.manual_seed(1)
    predictor = cls(6, l_order=2, r_order=1, smooth_factor=1.1, noise_threshold=0.05, tail_threshold=tail).eval()
    hidden, lengths = torch.randn(3, 20, 6), [20, 12, 1]
    batch = predictor(hidden, mask=torch.arange(20) < torch.tensor(lengths)[:, None])
    assert batch.alphas.size(1) == (21 if tail else 20)
    for row, length in enumerate(lengths):
        one = predictor(hidden[row : row + 1, :length])
        rows = one.embeds.size(1)
        torch.testing.assert_close(batch.token_num[row], one.token_num[0])
        torch.testing.assert_close(batch.embeds[row, :rows], one.embeds[0])
        torch.testing.assert_close(batch.alphas[row, : one.alphas.size(1)], one.alphas[0])
        assert not batch.embeds[row, rows:].any()


def test_the_tail_completes_a_last_token_and_token_num_counts_fires() -> None:
    predictor = CifPredictorV2(2, tail_threshold=0.45).eval()
    for parameter in predictor.parameters():
        torch.nn.init.zeros_(parameter)  # every weight is then 0.5
    assert predictor(torch.ones(1, 3, 2)).token_num.tolist() == [1.0]
    predictor.tail_threshold = 0.5
    out = predictor(torch.ones(1, 3, 2))
    assert out.token_num.tolist() == [2.0]
    torch.testing.assert_close(out.embeds[0], torch.tensor([[1.0, 1.0], [0.5, 0.5]]))  # half of it is silence
    assert (out.peaks[0] >= 1.0).nonzero().flatten().tolist() == [1, 3]


def test_half_precision_does_not_reach_the_weights() -> None:
    torch.manual_seed(0)
    predictor, hidden = CifPredictorV2(8, tail_threshold=0.45).eval(), torch.randn(2, 50, 8)
    full = predictor(hidden)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(predictor(hidden).alphas, full.alphas)
    low = predictor.bfloat16()(hidden.bfloat16())
    assert low.alphas.dtype == torch.float32 and low.embeds.dtype == torch.bfloat16


def test_weights_that_are_all_zero_give_no_token_and_finite_gradients() -> None:
    predictor = CifPredictorV2(4, noise_threshold=1.0)
    hidden = torch.randn(2, 5, 4, requires_grad=True)
    assert predictor(hidden).embeds.shape == (2, 0, 4)
    out = predictor(hidden, torch.tensor([2, 3]))
    out.embeds.sum().backward()
    assert out.embeds.isfinite().all() and hidden.grad is not None and hidden.grad.isfinite().all()


def test_dropout_option_acts_in_training_only() -> None:
    predictor, hidden = CifPredictor(8, dropout=0.5), torch.randn(1, 10, 8)
    assert not torch.equal(predictor(hidden).alphas, predictor(hidden).alphas)
    predictor.eval()
    assert torch.equal(predictor(hidden).alphas, predictor(hidden).alphas)


def test_length_loss() -> None:
    loss = cif_length_loss(torch.tensor([3.5, 4.0]), torch.tensor([3, 6]))
    assert loss.item() == pytest.approx(2.5 / 2)
    loss = cif_length_loss(torch.tensor([3.5, 4.0]), torch.tensor([3, 6]), normalize_length=True)
    assert loss.item() == pytest.approx(2.5 / 9)


def test_timestamps_equal_the_recordings(parity: Path) -> None:
    """The recorded integrator curve is that of the weights with threshold 0.9999, taking off 0.9999."""
    cases = json.loads((parity / "text-postprocess/expected/expected.json").read_text())["ts_prediction_lfr6_standard"]
    assert len(cases) > 20
    for case in cases:
        alphas = torch.tensor(case["alphas"])
        peaks = torch.tensor(frame_by_frame(torch.zeros(len(alphas), 1), alphas / 0.9999, 1.0)[1]) * 0.9999
        frame_ms = 60 / case["upsample_rate"]
        found = cif_timestamps(alphas, peaks, case["n_chars"], frame_ms, case["vad_offset"])
        assert len(found) == case["n_chars"]
        assert found == case["timestamp"]


def test_timestamps_stay_in_the_audio_whatever_the_curves() -> None:
    generator = torch.Generator().manual_seed(0)
    for frames, tokens in ((1, 1), (1, 4), (6, 3), (40, 50), (30, 0), (0, 2)):
        alphas = torch.rand(frames, generator=generator)
        before = alphas.clone()
        duration = max(frames - 1, 0) * 60.0
        found = cif_timestamps(alphas, alphas, tokens, 60.0, 100.0, duration)
        times = [t for pair in found for t in pair]
        assert len(found) == tokens and times == sorted(times) and torch.equal(alphas, before)
        assert not times or (times[0] >= 100 and times[-1] <= 100 + duration)
    assert len(cif_timestamps(torch.zeros(5), torch.zeros(5), 3, 60.0)) == 3

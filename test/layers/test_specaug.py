"""SpecAugment: masks of the asked number and width in the real length, a warp that keeps order, input untouched."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from funasr.layers import specaug
from funasr.layers.specaug import SpecAug, SpecAugLFR, random_spans, time_warp
from funasr.register import tables
from funasr.utils.errors import ConfigError

OFF: dict[str, Any] = {"apply_time_warp": False, "apply_freq_mask": False, "apply_time_mask": False}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def ones(batch: int = 8, frames: int = 100, dim: int = 40) -> Tensor:
    return torch.ones(batch, frames, dim)


def test_frequency_masks_span_all_frames_and_differ_between_utterances() -> None:
    augment = SpecAug(**{**OFF, "apply_freq_mask": True}, freq_mask_width_range=(1, 11), num_freq_mask=2)
    out, _ = augment(ones(64), torch.full((64,), 100))
    masked = out == 0
    assert torch.equal(masked, masked[:, :1].expand_as(masked))
    width = masked[:, 0].sum(1)
    assert width.min() >= 1
    assert 10 < width.max() <= 20
    assert len({tuple(row.tolist()) for row in masked[:, 0]}) > 50


def test_time_masks_stay_within_the_real_length() -> None:
    lengths = torch.tensor([100, 50, 10, 1] * 16)
    augment = SpecAug(**{**OFF, "apply_time_mask": True}, time_mask_width_range=[8, 9], num_time_mask=1)
    out, _ = augment(ones(64), lengths)
    masked = (out == 0).all(2)
    for row, length in zip(masked, lengths.tolist(), strict=True):
        assert row[:length].sum() == min(8, length)
    first = masked[lengths == 50].int().argmax(1)
    assert first.max() <= 42


def test_ratio_is_of_the_real_length() -> None:
    lengths = torch.tensor([100, 40, 4] * 20)
    conf = {**OFF, "apply_time_mask": True}
    out, _ = SpecAug(**conf, time_mask_width_ratio_range=(0.0, 0.2), num_time_mask=1)(ones(60), lengths)
    count = (out == 0).all(2).sum(1)
    assert 0 < count[lengths == 100].max() < 20
    assert 0 < count[lengths == 40].max() < 8
    assert count[lengths == 4].max() == 0  # floor(0.2 * 4) = 0: no mask


def test_lfr_masks_the_same_bins_in_each_slot() -> None:
    augment = SpecAugLFR(**{**OFF, "apply_freq_mask": True}, freq_mask_width_range=10, lfr_rate=6)
    out, _ = augment(ones(8, 10, 280), torch.full((8,), 10))
    slots = (out == 0)[:, 0].view(8, 7, 40)
    assert slots.any()
    assert torch.equal(slots, slots[:, :1].expand_as(slots))
    with pytest.raises(ConfigError, match="lfr_rate"):
        augment(ones(1, 10, 281), torch.tensor([10]))


def test_warp_is_interpolation_of_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 40, 6)
    draws = iter([torch.tensor([15, 20]), torch.tensor([17, 15])])  # centre; new position less one
    monkeypatch.setattr(specaug, "_uniform", lambda low, high: next(draws))
    out = time_warp(x, torch.tensor([40, 33]), 5, "bicubic")
    for row, length, centre, target in ((0, 40, 15, 18), (1, 33, 20, 16)):
        parts = [
            interpolate(part[None, None], (size, 6), mode="bicubic", align_corners=False)[0, 0]
            for part, size in ((x[row, :centre], target), (x[row, centre:length], length - target))
        ]
        torch.testing.assert_close(out[row, :length], torch.cat(parts), atol=1e-5, rtol=1e-5)
    assert not out[1, 33:].any()


@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_warp_moves_frames_a_little_and_keeps_short_ones(mode: str) -> None:
    ramp = torch.arange(60.0)[None, :, None].repeat(16, 1, 2)
    lengths = torch.tensor([60, 10] * 8)
    out = time_warp(ramp, lengths, 5, mode)
    long, short = out[lengths == 60], out[lengths == 10]
    assert (long - ramp[:8]).abs().max() < 6.5
    assert not torch.equal(long, ramp[:8])
    assert (long.diff(dim=1) > 0).all()
    assert torch.equal(short[:, :10], ramp[:8, :10])


def test_input_is_untouched_and_evaluation_changes_nothing() -> None:
    x, lengths = torch.randn(3, 50, 40), torch.tensor([50, 40, 0])
    before = x.clone()
    augment = SpecAug(time_mask_width_range=(0, 10))
    out, out_lengths = augment(x, lengths)
    assert torch.equal(x, before)
    assert not torch.equal(out, x)
    assert torch.equal(out_lengths, lengths)
    assert augment.eval()(x, lengths)[0] is x
    assert augment.train()(x[:, :0], torch.zeros(3, dtype=torch.int64))[0].shape == (3, 0, 40)


def test_spans_reach_every_place() -> None:
    edge = torch.full((2000,), 3)
    spans = random_spans(torch.full((2000,), 10), 10, edge, edge + 1, 1)
    assert torch.equal(spans.sum(1), edge)
    assert spans.any(0)[:9].all()


@pytest.mark.parametrize(
    "conf",
    [
        OFF,
        {},
        {"time_mask_width_range": 5, "time_mask_width_ratio_range": 0.1},
        {"time_mask_width_range": [5, 5]},
        {"time_mask_width_ratio_range": 1.5},
        {"time_mask_width_range": 5, "freq_mask_width_range": [1, 2, 3]},
        {"time_mask_width_range": 5, "time_warp_mode": "nearest"},
    ],
)
def test_wrong_options(conf: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="specaug"):
        SpecAug(**conf)


def test_names() -> None:
    assert tables.specaug_classes["specaug"] is SpecAug
    assert tables.specaug_classes["specaug_lfr"] is SpecAugLFR

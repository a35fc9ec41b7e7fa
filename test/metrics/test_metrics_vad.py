"""Frame counts, the trade-off curve and boundary errors against their definitions."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest

from funasr.metrics.vad import BoundaryErrors, FrameCounts, count_frames, det_curve, det_svg, span_frames


def test_a_frame_is_speech_if_its_centre_is() -> None:
    assert span_frames([(0.004, 0.016), (0.03, 0.05)], 6).tolist() == [True, True, False, True, True, False]
    assert span_frames([(0.006, 0.014)], 3).tolist() == [False, False, False]
    assert span_frames([(0.0, 9.0)], 3).all()
    whole = span_frames([(0.29, 3.32)], 400)
    assert (int(whole.argmax()), int(whole.sum())) == (29, 303)


def test_rates_follow_their_definitions() -> None:
    reference = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
    found = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], dtype=bool)
    counts = count_frames(reference, found)
    assert counts == FrameCounts(3, 1, 2, 4)
    assert (counts.precision, counts.recall) == (3 / 5, 3 / 4)
    assert counts.f1 == pytest.approx(2 * 0.6 * 0.75 / 1.35)
    assert (counts.miss_rate, counts.false_alarm_rate, counts.frame_error) == (1 / 4, 2 / 6, 3 / 10)
    assert counts + counts == FrameCounts(6, 2, 4, 8)
    with pytest.raises(ValueError, match="9 frames"):
        count_frames(reference, found[:9])


def test_rates_without_speech_are_not_defined() -> None:
    silence = count_frames(np.zeros(5, dtype=bool), np.zeros(5, dtype=bool))
    assert math.isnan(silence.f1) and silence.false_alarm_rate == 0.0
    assert silence.to_dict()["f1"] is None


def test_det_curve_equals_counting_at_each_threshold() -> None:
    rng = np.random.default_rng(0)
    speech = rng.random(500) < 0.4
    scores = np.round(rng.random(500) * 0.7 + 0.3 * speech, 2)  # with ties
    curve = det_curve(scores, speech)
    for threshold, miss, alarm in zip(curve.thresholds, curve.miss, curve.false_alarm):
        counts = count_frames(speech, scores >= threshold)
        assert (miss, alarm) == (pytest.approx(counts.miss_rate), pytest.approx(counts.false_alarm_rate))
    best, at = curve.best_f1(int(speech.sum()), int((~speech).sum()))
    assert best == pytest.approx(count_frames(speech, scores >= at).f1)
    assert best == pytest.approx(max(count_frames(speech, scores >= t).f1 for t in curve.thresholds))
    near = int(np.argmin(abs(curve.miss - curve.false_alarm)))
    assert abs(curve.equal_error_rate - (curve.miss[near] + curve.false_alarm[near]) / 2) < 0.02


def test_perfect_and_useless_scores() -> None:
    speech = np.array([True, False] * 50)
    assert det_curve(speech.astype(float), speech).equal_error_rate == 0.0
    assert det_curve(np.zeros(100), speech).equal_error_rate == pytest.approx(0.5)
    with pytest.raises(ValueError, match="with and without"):
        det_curve(np.zeros(3), np.ones(3, dtype=bool))


def test_boundaries_are_matched_once_the_nearest_first() -> None:
    errors = BoundaryErrors()
    errors.add([(1.0, 2.0), (5.0, 6.0)], [(0.9, 2.2), (1.3, 1.4), (8.0, 9.0)])
    assert errors.starts_ms == pytest.approx([-100.0])
    assert errors.ends_ms == pytest.approx([200.0])
    values = errors.to_dict()
    assert (values["true_segments"], values["found_segments"], values["start_matched"]) == (2, 3, 1)
    assert (values["start_abs_ms"], values["start_bias_ms"], values["end_bias_ms"]) == (100.0, -100.0, 200.0)


def test_picture_is_an_svg_with_every_system() -> None:
    rng = np.random.default_rng(0)
    speech = rng.random(200) < 0.5
    picture = det_svg({"a <b>": det_curve(rng.random(200) + speech, speech)}, {"c & d": (0.1, 0.2)}, "set")
    root = ElementTree.fromstring(picture)
    text = " ".join(root.itertext())
    assert "a <b>: equal error" in text and "c & d: 10.0 %, 20.0 %" in text

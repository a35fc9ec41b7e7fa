"""Precision, recall and F1 of marks agree with scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

from funasr.metrics.punctuation import ALL, PLACES, score_marks, to_dict

MARKS = ["_", "，", "。", "？"]


def test_equal_to_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    pairs = [(rng.choice(MARKS, n).tolist(), rng.choice(MARKS, n).tolist()) for n in (50, 1, 300)]
    found = score_marks(pairs, skip_last=False)
    refs, hyps = ([mark for pair in pairs for mark in pair[side]] for side in (0, 1))
    wanted = metrics.precision_recall_fscore_support(refs, hyps, labels=MARKS[1:])
    for index, mark in enumerate(MARKS[1:]):
        score = found[mark]
        assert (score.precision, score.recall, score.f1) == pytest.approx([column[index] for column in wanted[:3]])
        assert score.wanted == wanted[3][index]
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(refs, hyps, labels=MARKS[1:], average="micro")
    assert (found[ALL].precision, found[ALL].recall, found[ALL].f1) == pytest.approx([precision, recall, f1])
    there = [[mark != "_" for mark in side] for side in (refs, hyps)]
    assert found[PLACES].f1 == pytest.approx(metrics.f1_score(*there))
    assert found.words == 351


def test_the_last_word_does_not_count() -> None:
    found = score_marks([(["_", "，", "。"], ["_", "。", "。"]), (["。"], ["，"])])
    assert found.words == 2
    assert (found["，"].right, found["，"].given, found["，"].wanted) == (0, 0, 1)
    assert (found["。"].right, found["。"].given, found["。"].wanted) == (0, 1, 0)
    assert found[PLACES].f1 == 1.0 and found[ALL].f1 == 0.0


def test_nothing_to_score() -> None:
    found = score_marks([])
    assert found.words == 0 and found[ALL].f1 == found[ALL].precision == found[ALL].recall == 0.0
    assert to_dict(found)["marks"]["all"]["f1"] == 0.0


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="2 marks given, but the text has 3 words"):
        score_marks([(["_"] * 3, ["_"] * 2)])

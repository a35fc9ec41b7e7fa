"""Trials, cosine scores, equal error rate and detection cost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from funasr.metrics.verification import (
    Trial,
    adaptive_s_norm,
    cosine_scores,
    equal_error_rate,
    error_curve,
    make_trials,
    min_dcf,
    read_trials,
    single_utterance_speakers,
    trial_line,
)
from funasr.utils.errors import DataError


def curve(targets: list[float], others: list[float]):
    return error_curve(np.array(targets + others), np.array([True] * len(targets) + [False] * len(others)))


def test_equal_error_rate_by_hand() -> None:
    assert equal_error_rate(curve([3, 4, 5], [0, 1, 2])) == 0.0
    assert equal_error_rate(curve([0, 1, 2], [3, 4, 5])) == 1.0
    # at threshold 3 one of four targets (2) is missed and one of four others (3) accepted
    assert equal_error_rate(curve([2, 3, 4, 5], [0, 1, 1, 3])) == pytest.approx(0.25)
    # all scores the same: the line from (miss 0, false alarm 1) to (1, 0) crosses at a half
    assert equal_error_rate(curve([1, 1], [1, 1, 1])) == pytest.approx(0.5)


def test_equal_error_rate_of_two_normal_distributions() -> None:
    """Means 2 deviations apart: the threshold in the middle is wrong in Phi(-1) = 15.87 % of either kind."""
    rng = np.random.default_rng(0)
    found = equal_error_rate(curve(rng.normal(2, 1, 40000).tolist(), rng.normal(0, 1, 60000).tolist()))
    assert found == pytest.approx(0.1587, abs=0.004)


def test_detection_cost_by_hand() -> None:
    # best threshold 3: 1/4 missed, 0 false alarms, or threshold 2: 0 missed, 1/4 accepted
    scores = curve([2, 3, 4, 5], [0, 1, 1, 2])
    assert min_dcf(scores, 0.5) == pytest.approx(0.5 * 0.25 / 0.5)
    assert min_dcf(scores, 0.01) == pytest.approx(0.01 * 0.25 / 0.01)  # a false alarm would cost 99 times a miss
    assert min_dcf(scores, 0.01, c_fa=1e-4) == pytest.approx(1e-4 * 0.99 * 0.25 / (1e-4 * 0.99))
    assert min_dcf(curve([0, 0], [1, 1]), 0.01) == 1.0  # accepting none is as good as it gets


def test_curve_needs_both_kinds_and_finite_scores() -> None:
    with pytest.raises(DataError, match="3 of 3 trials are target trials"):
        curve([1, 2, 3], [])
    with pytest.raises(DataError, match="not finite"):
        curve([1, float("nan")], [0])


def test_trial_files(tmp_path: Path) -> None:
    path = tmp_path / "trials"
    path.write_text("1 a b\n0 a c\n\nb c nontarget\na d target\n")
    trials = read_trials(path)
    assert trials == [Trial("a", "b", True), Trial("a", "c", False), Trial("b", "c", False), Trial("a", "d", True)]
    assert [trial_line(trial) for trial in trials[:2]] == ["1 a b", "0 a c"]
    path.write_text("1 a b\n2 a b\n")
    with pytest.raises(DataError, match="trials:2: a trial reads"):
        read_trials(path)


def test_all_pairs_once() -> None:
    utt2spk = {"a1": "a", "a2": "a", "b1": "b", "b2": "b", "c1": "c"}
    trials = make_trials(utt2spk)
    assert {trial_line(trial) for trial in trials if trial.target} == {"1 a1 a2", "1 b1 b2"}
    assert len(trials) == 10 and len({frozenset((t.enroll, t.test)) for t in trials}) == 10
    assert all(trial.target == (utt2spk[trial.enroll] == utt2spk[trial.test]) for trial in trials)
    assert single_utterance_speakers(utt2spk) == ["c"]


def test_a_draw_of_trials_is_even_and_repeats() -> None:
    utt2spk = {f"s{s}u{u}": f"s{s}" for s in range(12) for u in range(12)}
    trials = make_trials(utt2spk, most=300, seed=3)
    assert trials == make_trials(utt2spk, most=300, seed=3) != make_trials(utt2spk, most=300, seed=4)
    assert Counter(trial.target for trial in trials) == {True: 300, False: 300}
    assert len(set(trials)) == 600
    assert len({trial.enroll for trial in trials}) > 100


@pytest.mark.parametrize(
    "utt2spk, message",
    [({"a": "x", "b": "y"}, "no speaker has two utterances"), ({"a": "x", "b": "x"}, "no trial of two speakers")],
)
def test_sets_that_give_no_trials(utt2spk: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_trials(utt2spk)


def test_cosines_and_an_unknown_utterance() -> None:
    embeddings = {"a": np.array([3.0, 0.0]), "b": np.array([1.0, 1.0]), "z": np.zeros(2)}
    scores = cosine_scores(embeddings, [Trial("a", "b", True), Trial("a", "a", True), Trial("a", "z", False)])
    assert scores == pytest.approx([np.sqrt(0.5), 1.0, 0.0])
    with pytest.raises(DataError, match="trial '0 a nobody': there is no embedding of test utterance 'nobody'"):
        cosine_scores(embeddings, [Trial("a", "nobody", False)])


def test_score_normalisation_gives_groups_one_threshold() -> None:
    """Strangers of a group that is much alike score as high as one person of another group; the cohort tells."""
    rng = np.random.default_rng(1)
    common = 2.5 * rng.normal(size=16)  # what all of group "a" share
    embeddings = {}
    for group in "ab":
        for speaker in range(8):
            centre = rng.normal(size=16) + (common if group == "a" else 0.0)
            embeddings |= {f"{group}{speaker}-{take}": centre + 0.5 * rng.normal(size=16) for take in range(4)}
    cohort = rng.normal(size=(200, 16)) + np.where(np.arange(200) < 100, 1.0, 0.0)[:, None] * common
    trials = make_trials({name: name[:2] for name in embeddings})
    scores = cosine_scores(embeddings, trials)
    targets = np.array([trial.target for trial in trials])
    before = equal_error_rate(error_curve(scores, targets))
    after = equal_error_rate(error_curve(adaptive_s_norm(embeddings, trials, scores, cohort, 50), targets))
    assert after < before - 0.05

"""Speaker verification: trials, scores, and how often a threshold on the scores is wrong.

A trial asks whether two utterances are of one speaker ("target") or not.  At a threshold on the score some targets are
missed and some others falsely accepted; the equal error rate is where both shares are equal, the detection cost weighs
them by what they cost and how often targets are expected (NIST SRE).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from funasr.utils.data_dir import read_lines
from funasr.utils.errors import DataError

_LABELS = {"1": True, "target": True, "0": False, "nontarget": False}


@dataclass(frozen=True)
class Trial:
    """Two utterances and whether they are of one speaker."""

    enroll: str
    test: str
    target: bool


@dataclass(frozen=True)
class ErrorCurve:
    """Shares of errors at each threshold, ascending: a trial is accepted if its score is at least the threshold.

    miss: of the targets, ascending; false_alarm: of the others, descending.  The last threshold is infinite.
    """

    thresholds: np.ndarray
    miss: np.ndarray
    false_alarm: np.ndarray


def read_trials(path: str | Path) -> list[Trial]:
    """Trials of a file: `1 ENROLL TEST` or `0 ENROLL TEST` (VoxCeleb), or `ENROLL TEST target|nontarget` (Kaldi).

    Raises DataError, naming file and line, for a line that is neither, and if there is none.
    """
    trials = []
    for number, line in read_lines(path):
        words = line.split()
        if not words:
            continue
        if len(words) == 3 and words[0] in ("0", "1"):
            trials.append(Trial(words[1], words[2], words[0] == "1"))
        elif len(words) == 3 and words[2] in _LABELS:
            trials.append(Trial(words[0], words[1], _LABELS[words[2]]))
        else:
            raise DataError(
                f"{path}:{number}: a trial reads '1 ENROLL TEST', or 'ENROLL TEST target', not '{line[:80]}'"
            )
    if not trials:
        raise DataError(f"{path} holds no trials")
    return trials


def trial_line(trial: Trial) -> str:
    """What `read_trials` reads."""
    return f"{int(trial.target)} {trial.enroll} {trial.test}"


def make_trials(utt2spk: Mapping[str, str], most: int | None = None, seed: int = 0) -> list[Trial]:
    """Each utterance with each other one, once: target trials first, then the others.

    Args:
        most: so many of either kind at most, drawn at random.

    Raises DataError if there would be no target trial, or no other.
    """
    ids = list(utt2spk)
    names, speakers = np.unique([utt2spk[uid] for uid in ids], return_inverse=True)
    if len(names) < 2:
        raise DataError(f"there are {len(names)} speakers: no trial of two speakers can be formed")
    if np.bincount(speakers).max() < 2:
        raise DataError("no speaker has two utterances: no target trial can be formed")
    rng = np.random.default_rng(seed)
    trials = []
    for target in (True, False):
        pairs = _Draw(most)
        for i in range(len(ids)):
            others = i + 1 + np.flatnonzero((speakers[i + 1 :] == speakers[i]) == target)
            pairs.add(np.stack([np.full(len(others), i), others], axis=1), rng)
        trials += [Trial(ids[i], ids[j], target) for i, j in pairs.drawn()]
    return trials


class _Draw:
    """A random `most` of the rows that are added (None: all), holding not many more at any time."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self.rows, self.lots, self.count = [np.zeros((0, 2), dtype=np.int64)], [np.zeros(0)], 0

    def add(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        self.rows.append(rows)
        self.lots.append(rng.random(len(rows)))
        self.count += len(rows)
        if self.most is not None and self.count > 2 * self.most + 10000:
            self._drop()

    def drawn(self) -> np.ndarray:
        """The rows, in order."""
        self._drop()
        rows = self.rows[0]
        return rows[np.lexsort((rows[:, 1], rows[:, 0]))]

    def _drop(self) -> None:
        rows, lots = np.concatenate(self.rows), np.concatenate(self.lots)
        kept = np.argsort(lots, kind="stable")[: self.most]
        self.rows, self.lots, self.count = [rows[kept]], [lots[kept]], len(kept)


def single_utterance_speakers(utt2spk: Mapping[str, str]) -> list[str]:
    """The speakers with one utterance: they are in no target trial."""
    speakers, counts = np.unique(list(utt2spk.values()), return_counts=True)
    return [str(speaker) for speaker, count in zip(speakers, counts) if count == 1]


def cosine_scores(embeddings: Mapping[str, np.ndarray], trials: Sequence[Trial]) -> np.ndarray:
    """Cosine of the embeddings (dim,) of each trial: (trials,) float64.

    Raises DataError naming the first utterance that has no embedding.
    """
    names = list(embeddings)
    places = {name: place for place, name in enumerate(names)}
    for trial in trials:
        for name in (trial.enroll, trial.test):
            if name not in places:
                side = "enroll" if name == trial.enroll else "test"
                raise DataError(f"trial '{trial_line(trial)}': there is no embedding of {side} utterance '{name}'")
    unit = unit_vectors(np.stack([embeddings[name] for name in names]))
    enroll = np.array([places[trial.enroll] for trial in trials])
    test = np.array([places[trial.test] for trial in trials])
    return np.einsum("td,td->t", unit[enroll], unit[test])


def adaptive_s_norm(
    embeddings: Mapping[str, np.ndarray],
    trials: Sequence[Trial],
    scores: np.ndarray,
    cohort: np.ndarray,
    top_n: int = 300,
) -> np.ndarray:
    """Scores in units of how the two utterances score against their nearest strangers (AS-Norm1).

    Matejka et al., "Analysis of Score Normalization in Multilingual Speaker Recognition", 2017.

    Args:
        scores: (trials,) from `cosine_scores`.
        cohort: embeddings (speakers, dim) of people who are in no trial.
        top_n: how many of the best scores of the cohort count.

    Returns: (trials,): the mean of (score - mean) / deviation of both sides.
    """
    used = sorted({name for trial in trials for name in (trial.enroll, trial.test)})
    against = unit_vectors(np.stack([embeddings[name] for name in used])) @ unit_vectors(cohort).T
    best = np.sort(against, axis=1)[:, -top_n:]
    mean, deviation = best.mean(axis=1), np.maximum(best.std(axis=1), 1e-6)
    places = {name: place for place, name in enumerate(used)}
    enroll = np.array([places[trial.enroll] for trial in trials])
    test = np.array([places[trial.test] for trial in trials])
    return 0.5 * ((scores - mean[enroll]) / deviation[enroll] + (scores - mean[test]) / deviation[test])


def unit_vectors(vectors: np.ndarray) -> np.ndarray:
    """Vectors (n, dim) of length 1, float64; those of length 0 stay."""
    vectors = np.asarray(vectors, dtype=np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float64).tiny)


def error_curve(scores: np.ndarray, targets: np.ndarray) -> ErrorCurve:
    """Errors at every threshold that makes a difference.

    Args:
        scores: (trials,); targets: (trials,) bool.

    Raises DataError without a target trial or without another, and for scores that are not finite.
    """
    scores, targets = np.asarray(scores, dtype=np.float64), np.asarray(targets, dtype=bool)
    if not targets.any() or targets.all():
        raise DataError(f"{int(targets.sum())} of {len(targets)} trials are target trials; both kinds are needed")
    if not np.isfinite(scores).all():
        raise DataError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    thresholds, place = np.unique(scores, return_inverse=True)
    hits = np.bincount(place, weights=targets, minlength=len(thresholds))
    others = np.bincount(place, weights=~targets, minlength=len(thresholds))
    miss = np.concatenate([[0.0], np.cumsum(hits)]) / targets.sum()
    false_alarm = 1.0 - np.concatenate([[0.0], np.cumsum(others)]) / (~targets).sum()
    return ErrorCurve(np.append(thresholds, np.inf), miss, false_alarm)


def equal_error_rate(curve: ErrorCurve) -> float:
    """The share of errors where misses and false alarms are equal, on the line between the two nearest thresholds."""
    gap = curve.miss - curve.false_alarm  # ascends from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = after - 1
    share = -gap[before] / (gap[after] - gap[before])
    return float(curve.miss[before] + share * (curve.miss[after] - curve.miss[before]))


def min_dcf(curve: ErrorCurve, p_target: float, c_miss: float = 1.0, c_fa: float = 1.0) -> float:
    """The lowest cost of any threshold, in units of what it costs to accept all or none, whichever is cheaper.

    Args:
        p_target: how often a trial is expected to be a target.
        c_miss, c_fa: what a miss and a false alarm cost.
    """
    cost = c_miss * p_target * curve.miss + c_fa * (1.0 - p_target) * curve.false_alarm
    return float(cost.min() / min(c_miss * p_target, c_fa * (1.0 - p_target)))

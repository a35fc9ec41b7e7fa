"""Diarization error rate: speech given to nobody, silence given to somebody, speech given to the wrong one.

Time is cut at every boundary of a reference or system turn.  In a piece with R reference and S system speakers,
max(0, R - S) of them are missed, max(0, S - R) are false alarms, and of the other min(R, S) those are confused whose
system speaker is not there.  Which system speaker stands for which reference speaker is chosen so that they share as
much scored time as possible (Kuhn, "The Hungarian method for the assignment problem", 1955).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from funasr.utils.data_dir import read_lines
from funasr.utils.errors import DataError
from funasr.utils.rttm import Span, Turn, merge_spans

Turns = Mapping[str, Sequence[Turn]]


@dataclass(frozen=True)
class DiarizationErrors:
    """Seconds of speech, each speaker counted, and of what is wrong with it."""

    speech: float = 0.0
    miss: float = 0.0
    false_alarm: float = 0.0
    confusion: float = 0.0

    def __add__(self, other: DiarizationErrors) -> DiarizationErrors:
        return DiarizationErrors(
            self.speech + other.speech,
            self.miss + other.miss,
            self.false_alarm + other.false_alarm,
            self.confusion + other.confusion,
        )

    @property
    def rate(self) -> float:
        """DER: all errors as a share of the speech; NaN if there is none."""
        return self.share(self.miss + self.false_alarm + self.confusion)

    def share(self, seconds: float) -> float:
        """Seconds as a share of the speech; NaN if there is none."""
        return seconds / self.speech if self.speech > 0 else math.nan


@dataclass(frozen=True)
class Condition:
    """What is scored.

    collar: s on both sides of a reference boundary that are left out.
    overlap: whether time in which several reference speakers speak is scored.
    """

    collar: float = 0.0
    overlap: bool = True

    def __str__(self) -> str:
        return f"collar {self.collar:g} s, {'with' if self.overlap else 'without'} overlap"


CONDITIONS = tuple(Condition(collar, overlap) for collar in (0.25, 0.0) for overlap in (False, True))


def read_uem(path: str | Path) -> dict[str, list[Span]]:
    """Recording -> spans (start, end) in s that are scored; lines `recording channel start end`.

    Raises DataError, naming file and line, for a line that is not so.
    """
    spans: dict[str, list[Span]] = {}
    for number, line in read_lines(path):
        words = line.split()
        if not words or words[0].startswith((";", "#")):
            continue
        try:
            recording, _, start, end = words[0], words[1], float(words[2]), float(words[3])
        except (IndexError, ValueError):
            raise DataError(f"{path}:{number}: a line reads 'recording channel start end', not '{line[:80]}'") from None
        if not 0 <= start < end < math.inf:
            raise DataError(f"{path}:{number}: start {start:g} and end {end:g} must ascend from 0")
        spans.setdefault(recording, []).append((start, end))
    if not spans:
        raise DataError(f"{path} names no recording")
    return {recording: merge_spans(found) for recording, found in spans.items()}


def scored_recordings(ref: Turns, hyp: Turns, uem: Mapping[str, list[Span]] | None) -> dict[str, list[Span]]:
    """Recording -> what is scored of it: the UEM's, or else from the first to the last moment that any turn touches.

    A recording without system turns is scored: its speech is missed.

    Raises DataError for recordings of the reference that the UEM lacks, and of the system that the rest lacks.
    """
    known = ref.keys() if uem is None else uem.keys()
    for recordings, owner, other in (
        (() if uem is None else ref, "the reference has", "the UEM does not"),
        (hyp, "the system output has", "the reference does not" if uem is None else "the UEM does not"),
    ):
        strange = sorted(name for name in recordings if name not in known)
        if strange:
            raise DataError(
                f"{owner} {len(strange)} recording(s) that {other}: {', '.join(strange[:5])}; it has "
                f"{', '.join(sorted(known)[:5])}"
            )
    if uem is not None:
        return dict(uem)
    regions = {}
    for recording in ref:
        turns = [*ref[recording], *hyp.get(recording, ())]
        regions[recording] = [(min(turn.start for turn in turns), max(turn.end for turn in turns))]
    return regions


def score_recording(
    ref: Iterable[Turn], hyp: Iterable[Turn], scored: Sequence[Span], condition: Condition
) -> DiarizationErrors:
    """Errors in one recording.

    Args:
        ref, hyp: turns; those of one speaker that overlap or touch are one turn.
        scored: spans (start, end) in s; nothing outside of them counts.
    """
    ref_spans, hyp_spans = _by_speaker(ref), _by_speaker(hyp)
    boundaries = sorted({edge for spans in ref_spans.values() for span in spans for edge in span})
    unscored = [(edge - condition.collar, edge + condition.collar) for edge in boundaries if condition.collar > 0]
    everything = [*ref_spans.values(), *hyp_spans.values(), list(scored), unscored]
    edges = np.unique([edge for spans in everything for span in spans for edge in span])
    if len(edges) < 2:
        return DiarizationErrors()
    seconds = np.diff(edges) * _active([list(scored)], edges)[0] * ~_active([unscored], edges)[0]
    said, found = _active(ref_spans.values(), edges), _active(hyp_spans.values(), edges)
    if not condition.overlap:
        seconds = seconds * (said.sum(axis=0) < 2)
    return _errors(said, found, seconds)


def _errors(said: np.ndarray, found: np.ndarray, seconds: np.ndarray) -> DiarizationErrors:
    """From who speaks in which piece, bool (speakers, pieces), by reference and system; `seconds` (pieces,)."""
    from scipy.optimize import linear_sum_assignment

    shared = (said * seconds) @ found.T.astype(np.float64)
    rows, columns = linear_sum_assignment(shared, maximize=True)
    right = float(shared[rows, columns].sum())
    speakers, answers = said.sum(axis=0), found.sum(axis=0)
    return DiarizationErrors(
        speech=float(seconds @ speakers),
        miss=float(seconds @ np.maximum(speakers - answers, 0)),
        false_alarm=float(seconds @ np.maximum(answers - speakers, 0)),
        confusion=max(0.0, float(seconds @ np.minimum(speakers, answers)) - right),
    )


def score_diarization(
    ref: Turns, hyp: Turns, uem: Mapping[str, list[Span]] | None, condition: Condition
) -> dict[str, DiarizationErrors]:
    """Recording -> its errors.  Raises DataError as `scored_recordings`."""
    regions = scored_recordings(ref, hyp, uem)
    return {name: score_recording(ref.get(name, ()), hyp.get(name, ()), regions[name], condition) for name in regions}


def _by_speaker(turns: Iterable[Turn]) -> dict[str, list[Span]]:
    spans: dict[str, list[Span]] = {}
    for turn in turns:
        spans.setdefault(turn.speaker, []).append((turn.start, turn.end))
    return {speaker: merge_spans(found) for speaker, found in spans.items()}


def _active(groups: Iterable[Sequence[Span]], edges: np.ndarray) -> np.ndarray:
    """Whether each group of spans holds each piece between two edges: bool (groups, pieces)."""
    rows = []
    for spans in groups:
        row = np.zeros(len(edges) - 1, dtype=bool)
        for start, end in spans:
            row[np.searchsorted(edges, start) : np.searchsorted(edges, end)] = True
        rows.append(row)
    return np.array(rows).reshape(len(rows), len(edges) - 1)

"""How good is voice activity detection: frames, detection error trade-off, boundaries of segments.

Time is cut into frames of 10 ms; a frame is speech if its centre lies in a speech span.  Spans are (start, end) in
seconds, in order and without overlap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

FRAME_S = 0.01
NEAR_S = 0.5  # a found boundary belongs to a true one at most this far away

Spans = Sequence[tuple[float, float]]


def span_frames(spans: Spans, frames: int, shift_s: float = FRAME_S) -> np.ndarray:
    """Whether each frame is speech, bool (frames,)."""
    speech = np.zeros(frames, dtype=bool)
    for start, end in spans:
        # the first frame whose centre is at `start` or later, the first whose centre is at `end` or later
        first, stop = (max(0, math.ceil(round(time / shift_s - 0.5, 6))) for time in (start, end))
        speech[first:stop] = True
    return speech


@dataclass(frozen=True)
class FrameCounts:
    """Frames by what they are and what they were taken for."""

    hit: int = 0  # speech, found
    miss: int = 0  # speech, not found
    false_alarm: int = 0  # no speech, taken for it
    correct_rejection: int = 0

    def __add__(self, other: FrameCounts) -> FrameCounts:
        return FrameCounts(
            self.hit + other.hit,
            self.miss + other.miss,
            self.false_alarm + other.false_alarm,
            self.correct_rejection + other.correct_rejection,
        )

    @property
    def frames(self) -> int:
        return self.hit + self.miss + self.false_alarm + self.correct_rejection

    @property
    def speech(self) -> int:
        return self.hit + self.miss

    @property
    def precision(self) -> float:
        """Share of what was found that is speech; NaN if nothing was found."""
        return _share(self.hit, self.hit + self.false_alarm)

    @property
    def recall(self) -> float:
        """Share of the speech that was found; NaN if there is none."""
        return _share(self.hit, self.speech)

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; NaN if there is no speech and none was found."""
        return _share(2 * self.hit, 2 * self.hit + self.miss + self.false_alarm)

    @property
    def miss_rate(self) -> float:
        """Share of the speech frames that were missed."""
        return _share(self.miss, self.speech)

    @property
    def false_alarm_rate(self) -> float:
        """Share of the frames without speech that were taken for it."""
        return _share(self.false_alarm, self.false_alarm + self.correct_rejection)

    @property
    def frame_error(self) -> float:
        """Share of all frames that are wrong."""
        return _share(self.miss + self.false_alarm, self.frames)

    def to_dict(self) -> dict[str, float | int | None]:
        """Counts and rates, for JSON; a rate that is not defined is None."""
        counts: dict[str, float | int | None] = {
            "hit": self.hit,
            "miss": self.miss,
            "false_alarm": self.false_alarm,
            "correct_rejection": self.correct_rejection,
        }
        for name in ("frame_error", "precision", "recall", "f1", "miss_rate", "false_alarm_rate"):
            value = getattr(self, name)
            counts[name] = None if math.isnan(value) else round(value, 6)
        return counts


def count_frames(reference: np.ndarray, found: np.ndarray) -> FrameCounts:
    """Counts of two bool arrays (frames,).  Raises ValueError if their lengths differ."""
    if reference.shape != found.shape:
        raise ValueError(f"{len(found)} frames were judged, but the reference has {len(reference)}")
    hit, miss = int((reference & found).sum()), int((reference & ~found).sum())
    false_alarm = int((~reference & found).sum())
    return FrameCounts(hit, miss, false_alarm, len(reference) - hit - miss - false_alarm)


@dataclass
class BoundaryErrors:
    """Distances in ms of found boundaries from the true ones they belong to."""

    starts_ms: list[float] = field(default_factory=list)
    ends_ms: list[float] = field(default_factory=list)
    true_segments: int = 0
    found_segments: int = 0

    def add(self, reference: Spans, found: Spans, near_s: float = NEAR_S) -> None:
        """Add one recording; each boundary is matched with at most one other, the nearest pairs first."""
        self.true_segments += len(reference)
        self.found_segments += len(found)
        for errors, side in ((self.starts_ms, 0), (self.ends_ms, 1)):
            true, ours = ([span[side] for span in spans] for spans in (reference, found))
            pairs = sorted((abs(a - b), i, j) for i, a in enumerate(true) for j, b in enumerate(ours))
            used: set[tuple[str, int]] = set()
            for distance, i, j in pairs:
                if distance > near_s:
                    break
                if ("true", i) not in used and ("ours", j) not in used:
                    used |= {("true", i), ("ours", j)}
                    errors.append(1000.0 * (ours[j] - true[i]))

    def to_dict(self) -> dict[str, float | int | None]:
        """For JSON: mean absolute error and mean (positive: late) in ms, and how many boundaries were matched."""
        found: dict[str, float | int | None] = {
            "true_segments": self.true_segments,
            "found_segments": self.found_segments,
        }
        for name, errors in (("start", self.starts_ms), ("end", self.ends_ms)):
            found[f"{name}_matched"] = len(errors)
            found[f"{name}_abs_ms"] = round(float(np.abs(errors).mean()), 1) if errors else None
            found[f"{name}_bias_ms"] = round(float(np.mean(errors)), 1) if errors else None
        return found


@dataclass(frozen=True)
class DetCurve:
    """Detection error trade-off: for each threshold (falling) the miss and false-alarm rates, all (points,)."""

    thresholds: np.ndarray
    miss: np.ndarray
    false_alarm: np.ndarray

    @property
    def equal_error_rate(self) -> float:
        """Where both rates are the same, between the two points around it."""
        gap = self.miss - self.false_alarm  # falls from 1 to -1
        after = int(np.argmax(gap <= 0))
        if after == 0:
            return float(self.false_alarm[0])
        share = gap[after - 1] / (gap[after - 1] - gap[after])
        return float(self.false_alarm[after - 1] + share * (self.false_alarm[after] - self.false_alarm[after - 1]))

    def best_f1(self, speech: int, other: int) -> tuple[float, float]:
        """(F1, threshold) of the best threshold, for that many frames with and without speech."""
        hit, alarms = (1 - self.miss) * speech, self.false_alarm * other
        f1 = 2 * hit / np.maximum(2 * hit + self.miss * speech + alarms, 1e-12)
        best = int(np.argmax(f1))
        return float(f1[best]), float(self.thresholds[best])


def det_curve(scores: np.ndarray, speech: np.ndarray) -> DetCurve:
    """The curve of scores (frames,), higher for speech, against bool (frames,).

    A frame is taken for speech if its score is at least the threshold.  Raises ValueError if one class is missing.
    """
    total, other = int(speech.sum()), int((~speech).sum())
    if not total or not other:
        raise ValueError("a detection error trade-off needs frames with and without speech")
    order = np.argsort(-scores, kind="stable")
    hits, values = np.cumsum(speech[order]), scores[order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True))  # frames of equal score fall together
    miss = np.concatenate([[1.0], 1.0 - hits[last] / total])
    false_alarm = np.concatenate([[0.0], (last + 1 - hits[last]) / other])
    return DetCurve(np.concatenate([[np.inf], values[last]]), miss, false_alarm)


def det_svg(curves: Mapping[str, DetCurve], points: Mapping[str, tuple[float, float]], title: str = "") -> str:
    """A picture of curves, and of systems that are a single point (false-alarm rate, miss rate).

    Both axes are scaled by the inverse of the normal distribution, on which two normal score distributions give a
    straight line (Martin et al. 1997).
    """
    size, left, top = 420, 70, 40
    low, high = _probit(0.002), _probit(0.9)

    def place(rate: float) -> float:
        return size * (min(max(_probit(rate), low), high) - low) / (high - low)

    grid, marks, legend = [], [], []
    for rate in (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8):
        x, y, label = left + place(rate), top + size - place(rate), f"{100 * rate:g}"
        grid.append(f'<path d="M{x:.1f} {top}V{top + size}M{left} {y:.1f}H{left + size}" stroke="#ddd"/>')
        grid.append(f'<text x="{x:.1f}" y="{top + size + 16}" text-anchor="middle">{label}</text>')
        grid.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    for i, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        keep = np.unique(np.linspace(0, len(curve.miss) - 1, 400).astype(int))
        path = " ".join(
            f"{left + place(fa):.1f},{top + size - place(miss):.1f}"
            for fa, miss in zip(curve.false_alarm[keep], curve.miss[keep])
        )
        marks.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
        legend.append((colour, f"{name}: equal error {100 * curve.equal_error_rate:.1f} %"))
    for i, (name, (fa, miss)) in enumerate(points.items(), len(curves)):
        colour = _COLOURS[i % len(_COLOURS)]
        x, y = left + place(fa), top + size - place(miss)
        marks.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')
        legend.append((colour, f"{name}: {100 * fa:.1f} %, {100 * miss:.1f} %"))
    for i, (colour, text) in enumerate(legend):
        y = top + size + 56 + 18 * i
        marks.append(f'<rect x="{left}" y="{y - 9}" width="10" height="10" fill="{colour}"/>')
        marks.append(f'<text x="{left + 16}" y="{y}">{_escape(text)}</text>')
    height = top + size + 56 + 18 * len(legend)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + size + 30}" height="{height}" font-family="sans-serif"'
        f' font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="{left}" y="22" font-size="15">{_escape(title)}</text>{"".join(grid)}'
        f'<rect x="{left}" y="{top}" width="{size}" height="{size}" fill="none" stroke="black"/>'
        f'<text x="{left + size / 2}" y="{top + size + 34}" text-anchor="middle">false alarms, % of the frames '
        f'without speech</text><text transform="translate(20 {top + size / 2}) rotate(-90)" text-anchor="middle">'
        f"missed, % of the speech frames</text>{''.join(marks)}</svg>\n"
    )


_COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f")


def _probit(rate: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(min(max(rate, 1e-6), 1 - 1e-6))


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


def total_frames(counts: Iterable[FrameCounts]) -> FrameCounts:
    """The sum over recordings."""
    return sum(counts, FrameCounts())


def rates_line(values: Mapping[str, Any]) -> str:
    """`F1 93.1 precision ... ` in per cent, of what `FrameCounts.to_dict` gave."""
    names = ("f1", "precision", "recall", "miss_rate", "false_alarm_rate", "frame_error")
    shown = ((name, values.get(name)) for name in names)
    return ", ".join(f"{name} {'-' if value is None else f'{100 * value:.2f}'}" for name, value in shown)

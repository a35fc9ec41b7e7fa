"""How much silence ends a segment: always the same, or less the longer somebody has been speaking."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from funasr.utils.errors import ConfigError

Schedule = Sequence[Sequence[float]]
"""Rows (duration_ms, silence_ms), durations rising: the silence of the first row that is not exceeded."""

SCHEDULE: Schedule = (
    (10000, 2000),
    (20000, 1000),
    (30000, 800),
    (40000, 600),
    (50000, 400),
    (60000, 200),
    (math.inf, 100),
)
SPEECH_NOISE_THRES = 0.5  # of sessions whose end silence follows a schedule


class EndSilence(Protocol):
    """Asked before each piece of a session, told after it."""

    def before_piece(self, piece_ms: float, segment_ms: float | None) -> float:
        """Silence in ms that closes a segment, counted from where the vote turned to silence.

        Args:
            piece_ms: duration of a piece; segment_ms: from the start of the open segment to the end of the audio so
                far, None if none is open.
        """

    def after_piece(self, has_event: bool) -> None:
        """`has_event`: the piece opened (if openings are reported) or closed a segment."""


@dataclass
class FixedSilence:
    """The same silence throughout."""

    silence_ms: float

    def before_piece(self, piece_ms: float, segment_ms: float | None) -> float:
        return self.silence_ms

    def after_piece(self, has_event: bool) -> None:
        pass


@dataclass
class ScheduledSilence:
    """By the pieces that began inside a segment since the last event; `turn_ms` is what the vote takes off."""

    schedule: Schedule
    turn_ms: float
    accumulated_ms: float = 0.0
    in_speech: bool = False

    def before_piece(self, piece_ms: float, segment_ms: float | None) -> float:
        if segment_ms is not None or self.in_speech:
            self.in_speech = True
            self.accumulated_ms += piece_ms
        return max(scheduled(self.schedule, self.accumulated_ms) - self.turn_ms, 0.0)

    def after_piece(self, has_event: bool) -> None:
        if has_event:
            self.accumulated_ms, self.in_speech = 0.0, False


@dataclass
class SegmentAgeSilence:
    """By the age of the open segment."""

    schedule: Schedule
    turn_ms: float

    def before_piece(self, piece_ms: float, segment_ms: float | None) -> float:
        return max(scheduled(self.schedule, segment_ms or 0.0) - self.turn_ms, 0.0)

    def after_piece(self, has_event: bool) -> None:
        pass


def scheduled(schedule: Schedule, duration_ms: float) -> float:
    """The silence of the first row whose duration is not exceeded, else of the last row."""
    return next((silence for limit, silence in schedule if duration_ms <= limit), schedule[-1][1])


def check_schedule(schedule: Schedule) -> Schedule:
    """The schedule; ConfigError unless it has rows of two numbers with rising durations."""
    rows = [tuple(row) for row in schedule]
    if not rows or any(len(row) != 2 for row in rows) or [r[0] for r in rows] != sorted(r[0] for r in rows):
        raise ConfigError(f"silence_schedule must be rows (duration_ms, silence_ms) with rising durations, not {rows}")
    return schedule

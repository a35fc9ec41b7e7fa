"""RTTM files: who speaks when in which recording (NIST Rich Transcription Time Marked).

    SPEAKER recording channel start duration <NA> <NA> speaker <NA> <NA>

Times are in seconds from the start of the recording.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from funasr.utils.data_dir import read_lines
from funasr.utils.errors import DataError
from funasr.utils.io import write_text

Span = tuple[float, float]
_FIELDS = 8  # up to the speaker; confidence and look-ahead may be left out


@dataclass(frozen=True)
class Turn:
    """One stretch of speech of one speaker: from `start` to `end`, in seconds."""

    start: float
    end: float
    speaker: str


def read_rttm(path: str | Path) -> dict[str, list[Turn]]:
    """Recording -> its turns, sorted by start; turns of several speakers (or of one) may overlap.

    Records of another type than SPEAKER, comments (`;;`, `#`), blank lines and turns without duration are skipped.
    Raises DataError, naming file and line, for a record that cannot be read, and for a missing file.
    """
    turns: dict[str, list[Turn]] = {}
    for number, line in read_lines(path):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            _check_kind(fields, f"{path}:{number}")
            continue
        recording, turn = _turn(fields, f"{path}:{number}")
        if turn.end > turn.start:
            turns.setdefault(recording, []).append(turn)
    return {recording: sorted(found, key=lambda turn: (turn.start, turn.end)) for recording, found in turns.items()}


def write_rttm(path: str | Path, turns: Mapping[str, Iterable[Turn]]) -> None:
    """Write recording -> turns, atomically; what `read_rttm` reads, to the millisecond."""
    write_text(path, "".join(rttm_line(recording, turn) + "\n" for recording in turns for turn in turns[recording]))


def rttm_line(recording: str, turn: Turn) -> str:
    """The SPEAKER record of one turn."""
    duration = turn.end - turn.start
    return f"SPEAKER {recording} 1 {turn.start:.3f} {duration:.3f} <NA> <NA> {turn.speaker} <NA> <NA>"


def speech_spans(turns: Iterable[Turn]) -> list[Span]:
    """Where anybody speaks: (start, end) in s, in order, overlapping and touching turns joined."""
    return merge_spans((turn.start, turn.end) for turn in turns)


def merge_spans(spans: Iterable[Span]) -> list[Span]:
    """The union of spans (start, end): in order, without overlap, those that touch joined."""
    merged: list[Span] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _check_kind(fields: list[str], where: str) -> None:
    """A record type is a word in capitals; anything else is another kind of file."""
    if fields and not fields[0].startswith((";", "#")) and fields[0] != fields[0].upper():
        raise DataError(
            f"{where}: '{fields[0]}' is no RTTM record type; a line reads SPEAKER recording 1 start duration"
        )


def _turn(fields: list[str], where: str) -> tuple[str, Turn]:
    if len(fields) < _FIELDS:
        raise DataError(
            f"{where}: {len(fields)} fields; a SPEAKER record has at least {_FIELDS}: "
            "SPEAKER recording channel start duration <NA> <NA> speaker"
        )
    try:
        start, duration = float(fields[3]), float(fields[4])
    except ValueError:
        raise DataError(f"{where}: start '{fields[3]}' and duration '{fields[4]}' must be numbers, in s") from None
    if not (math.isfinite(start) and math.isfinite(duration)) or start < 0 or duration < 0:
        raise DataError(f"{where}: start {fields[3]} and duration {fields[4]} must not be negative")
    return fields[1], Turn(start, start + duration, fields[7])

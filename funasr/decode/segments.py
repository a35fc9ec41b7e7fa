"""Speech segments joined to longer ones, so that a recogniser has more context."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class MergedSegment:
    """Start and end in ms; `speech` says whether a detected segment lies in it, or it is all pause."""

    start_ms: int
    end_ms: int
    speech: bool = True


class SegmentMerger:
    """Joins the segments of one recording as they come.

    The rule of released FunASR: pieces follow each other without gaps from 0 on, each as long as it can be within
    `max_ms`, and are cut at the starts and ends of segments; where one segment is longer, so is its piece.  A single
    segment stays as it is.
    """

    def __init__(self, max_ms: float) -> None:
        self.max_ms = max_ms
        self._first: Sequence[int] | None = None  # until there is a second one
        self._count = 0
        self._begin = 0
        self._last: int | None = None  # the boundary before, where a piece can end
        self._speech = False

    @property
    def held(self) -> tuple[int, int] | None:
        """[start_ms, end_ms] of the audio in the piece that is not complete; None if that is a long pause."""
        if self._first is not None:
            start, end = self._first
            return (0 if end < self.max_ms else start, end)
        if self._last is None or (not self._speech and self._last - self._begin > self.max_ms):
            return None
        return self._begin, self._last

    def push(self, segment: Sequence[int]) -> list[MergedSegment]:
        """Take the next segment [start_ms, end_ms]; the pieces that it completes."""
        self._count += 1
        if self._count == 1:
            self._first = segment
            return []
        pieces = []
        if self._first is not None:
            pieces += self._take(self._first)
            self._first = None
        return pieces + self._take(segment)

    def flush(self) -> list[MergedSegment]:
        """The last piece, if there is one."""
        if self._first is not None:
            return [MergedSegment(self._first[0], self._first[1], True)]
        return [] if self._last is None else [MergedSegment(self._begin, self._last, self._speech)]

    def _take(self, segment: Sequence[int]) -> list[MergedSegment]:
        pieces = []
        for boundary, ends_segment in ((segment[0], False), (segment[1], True)):
            if boundary == self._last:
                continue
            if self._last is not None and boundary - self._begin >= self.max_ms:
                if self._last > self._begin:
                    pieces.append(MergedSegment(self._begin, self._last, self._speech))
                self._begin, self._speech = self._last, False
            self._speech = self._speech or ends_segment
            self._last = boundary
        return pieces


def merge_segments(segments: Iterable[Sequence[int]], max_ms: float) -> list[MergedSegment]:
    """All pieces of a recording whose segments, [start_ms, end_ms] in order, are known; see SegmentMerger."""
    merger = SegmentMerger(max_ms)
    return [piece for segment in segments for piece in merger.push(segment)] + merger.flush()

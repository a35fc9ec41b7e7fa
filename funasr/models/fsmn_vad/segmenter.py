"""From speech decisions of frames to segments: a vote over a window, then a machine that opens and closes segments.

The machine is defined frame by frame; here it jumps from one change of the vote to the next, since what happens in
between follows from the length of the run.  The result is that of the definition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from funasr.models.fsmn_vad.options import VADOptions

BLOCK_FRAMES = 4096  # after each segment the votes of the rest of the block are counted again


class State(Enum):
    """Of the machine: before a segment, in one, or done (single-utterance mode)."""

    WAIT = 0
    IN = 1
    END = 2


@dataclass(frozen=True)
class _Votes:
    """Sorted positions in a block where the vote would turn to speech, and where to silence."""

    speech: np.ndarray
    silence: np.ndarray
    size: int

    def next(self, to_speech: bool, position: int) -> int:
        """The first such position from `position` on; `size` if there is none."""
        found = self.speech if to_speech else self.silence
        index = int(np.searchsorted(found, position))
        return int(found[index]) if index < len(found) else self.size


@dataclass
class Segmenter:
    """State of the machine in one session.  Frames are counted from the start of the session."""

    options: VADOptions
    state: State = State.WAIT
    start: int = 0  # first frame of the open segment
    frames: int = 0  # done so far; positions below count from here
    floor: int = 0  # first frame at which a segment may start
    silence: int = 0  # frames of silence in a row
    speaking: bool = False  # what the vote says
    recent: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=bool))  # decisions still in the window

    @property
    def is_open(self) -> bool:
        """Whether a segment has begun and not ended."""
        return self.state is State.IN

    def push(self, speech: np.ndarray, end_silence_ms: float, last: bool = False) -> list[tuple[int, int]]:
        """Take the next frames.

        Args:
            speech: bool (frames,).
            end_silence_ms: silence after the vote has turned that closes a segment; may be 0 or less.
            last: no more frames follow, so an open segment is closed.

        Returns:
            Segments that were closed: (first frame, frame after the last).
        """
        closed: list[tuple[int, int]] = []
        for begin in range(0, len(speech), BLOCK_FRAMES):
            self._push_block(speech[begin : begin + BLOCK_FRAMES], end_silence_ms, closed)
        if last and self.is_open:
            closed.append((self.start, self.frames))
            self.state = State.END
        return closed

    def _push_block(self, speech: np.ndarray, end_silence_ms: float, closed: list[tuple[int, int]]) -> None:
        while len(speech) and self.state is not State.END:
            closing = self._next_close(self._count_votes(speech), end_silence_ms)
            if closing is None:
                self._remember(speech)
                break
            at, end = closing
            self.floor = self.frames + end + 1
            closed.append((self.start, self.floor))
            self.silence, self.speaking, self.recent = 0, False, self.recent[:0]
            self.state = State.WAIT if self.options.detect_mode == 1 else State.END
            self.frames += at + 1
            speech = speech[at + 1 :]
        self.frames += len(speech)

    def _count_votes(self, speech: np.ndarray) -> _Votes:
        options = self.options
        window = options.window_frames
        before = np.zeros(window - len(self.recent), dtype=bool)
        total = np.cumsum(np.concatenate([before, self.recent, speech]), dtype=np.int32)
        inside = total[window:] - total[: len(speech)]
        return _Votes(
            np.flatnonzero(inside >= options.frames(options.sil_to_speech_time_thres)),
            np.flatnonzero(inside <= options.frames(options.speech_to_sil_time_thres)),
            len(speech),
        )

    def _remember(self, speech: np.ndarray) -> None:
        known = np.concatenate([self.recent, speech])
        self.recent = known[max(0, len(known) - self.options.window_frames + 1) :]

    def _next_close(self, votes: _Votes, end_silence_ms: float) -> tuple[int, int] | None:
        """The position where the open or next segment is closed, and that of its last frame; None if it is not."""
        position = 0
        while position < votes.size and self.state is not State.END:
            change = votes.next(not self.speaking, position)
            if self.speaking:
                closing = self._hear_speech(position, min(change + 1, votes.size))
            else:
                closing = self._hear_silence(position, change, end_silence_ms)
                if closing is None and change < votes.size and self.state is not State.END:
                    closing = self._hear_onset(change)
            if closing is not None:
                return closing
            if change < votes.size:
                self.speaking = not self.speaking
            position = change + 1
        return None

    def _too_long(self, begin: int, stop: int) -> int:
        """The first frame in [begin, stop) at which the open segment is longer than allowed, or `stop`."""
        return min(max(begin, self.start + self.options.limit_frames - self.frames), stop)

    def _hear_speech(self, begin: int, stop: int) -> tuple[int, int] | None:
        """Frames whose vote stays with speech, and the one where it turns to silence."""
        self.silence = 0
        at = self._too_long(begin, stop)
        return (at, at) if at < stop else None

    def _hear_onset(self, at: int) -> tuple[int, int] | None:
        """The frame where the vote turns to speech."""
        self.silence = 0
        if self.is_open:
            return (at, at) if self._too_long(at, at + 1) == at else None
        self.start = max(self.floor, self.frames + at - self.options.lookback_frames)
        self.state = State.IN
        return None

    def _hear_silence(self, begin: int, stop: int, end_silence_ms: float) -> tuple[int, int] | None:
        """Frames whose vote stays with silence."""
        options, count = self.options, stop - begin
        if not count:
            return None
        if not self.is_open:
            patience = int(options.max_start_silence_time // options.frame_in_ms)
            if options.detect_mode == 0 and self.silence + count > patience:
                self.state = State.END
                return None
            self.silence += count
            self.floor = max(self.floor, self.frames + stop - 1 - options.lookback_frames)
            return None
        enough = math.ceil(end_silence_ms / options.frame_in_ms)
        at = begin + max(enough - self.silence, 1) - 1
        too_long = self._too_long(begin, stop)
        if at <= too_long and at < stop:
            return at, at - self._kept_silence(end_silence_ms)
        if too_long < stop:
            return too_long, too_long
        self.silence += count
        return None

    def _kept_silence(self, end_silence_ms: float) -> int:
        """From the frame that closes a segment back to its last frame."""
        options = self.options
        back = options.frames(end_silence_ms)
        if options.do_extend:
            back -= options.frames(options.lookahead_time_end_point) + 1
        return max(back, 0)

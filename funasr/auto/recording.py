"""Speech of a recording of any length: read in blocks, detected on the way, cut out and handed on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch

from funasr.audio.download import is_url
from funasr.audio.stream import stream_array, stream_file
from funasr.auto.engine import Engine
from funasr.auto.inputs import Reading, Source, read_source
from funasr.decode.segments import MergedSegment, SegmentMerger

MARGIN_MS = 5000.0
LONGEST_SEGMENT_MS = 60000.0
PIECE_MS = 60000.0  # in which a detector works, and so the delay of its answers


@dataclass(frozen=True)
class Stretch:
    """Samples (samples,) at `fs` Hz from start_ms to end_ms of a recording."""

    start_ms: int
    end_ms: int
    wave: np.ndarray
    fs: int

    @property
    def seconds(self) -> float:
        return len(self.wave) / self.fs


class RollingAudio:
    """The last samples of a stream, and older ones that are still wanted."""

    def __init__(self) -> None:
        self._blocks: deque[tuple[int, np.ndarray]] = deque()
        self.length = 0

    def append(self, block: np.ndarray) -> None:
        self._blocks.append((self.length, block))
        self.length += len(block)

    def cut(self, begin: int, end: int) -> np.ndarray:
        """A copy of samples [begin, end), as far as the stream goes."""
        parts = [
            block[max(0, begin - start) : end - start]
            for start, block in self._blocks
            if start < end and start + len(block) > begin
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    def forget(self, before: int, kept: tuple[int, int] | None = None) -> None:
        """Drop blocks that end by sample `before` and lie outside of samples `kept` (begin, end)."""
        self._blocks = deque(
            (start, block)
            for start, block in self._blocks
            if start + len(block) > before or (kept is not None and start < kept[1] and start + len(block) > kept[0])
        )


Blocks = Callable[[], Iterator[np.ndarray]]


@contextmanager
def readable(source: Source, fs: int, how: Reading) -> Iterator[Blocks]:
    """A function that gives the waveform of an input piece by piece, from its start at each call.

    The pieces are mono float32 at `fs` Hz.  Files are read as they are needed, what comes from an address is fetched
    once.
    """
    with ExitStack() as stack:
        data = stack.enter_context(how.downloaded(source.data)) if is_url(source.data) else source.data
        if isinstance(data, (str, Path)):
            yield partial(stream_file, data, fs)
        else:
            yield partial(stream_array, read_source(source, fs, how).numpy(), int(PIECE_MS * fs // 1000))


def whole(source: Source, fs: int, how: Reading) -> Stretch:
    """All of an input."""
    wave = read_source(source, fs, how).numpy()
    return Stretch(0, round(1000 * len(wave) / fs), wave, fs)


def can_stream(vad: Engine, options: Mapping[str, Any]) -> bool:
    """Whether the model finds segments in a recording that it is given piece by piece, with these options."""
    stream: Any = getattr(vad.model, "stream", None)
    return stream is not None and set(options) <= set(signature(stream).parameters)


def segments_of(source: Source, vad: Engine, options: Mapping[str, Any], how: Reading) -> Iterator[Sequence[int]]:
    """[start_ms, end_ms] of the segments of an input; the file is read in pieces if the model takes them.

    Args:
        vad: a model with `stream`, as FsmnVADStreaming has, which takes constant memory, or one whose `inference`
            gives `value`: [[start_ms, end_ms], ...].
        options: of the detector.
    """
    with readable(source, vad.fs, how) as blocks:
        yield from _detected(blocks(), source.key, vad, options)


def speech_of(
    source: Source, vad: Engine, options: Mapping[str, Any], merge_ms: float | None, how: Reading
) -> Iterator[Stretch]:
    """Stretches of speech of an input, in order, each as soon as it is complete.

    Args:
        vad, options: as for `segments_of`.
        merge_ms: join segments to stretches of about this length; None: leave them.
    """
    fs = vad.fs
    audio = RollingAudio()
    merger = None if merge_ms is None else SegmentMerger(merge_ms)

    def heard(blocks: Iterable[np.ndarray], reach: int) -> Iterator[np.ndarray]:
        for block in blocks:
            audio.append(block)
            held = None if merger is None else merger.held
            audio.forget(audio.length - reach, None if held is None else (held[0] * fs // 1000, held[1] * fs // 1000))
            yield block

    def wanted(piece: MergedSegment) -> bool:
        # Pauses between long segments are recognised too, as in released FunASR, but not an hour of silence.
        return piece.speech or (merger is not None and piece.end_ms - piece.start_ms <= merger.max_ms)

    def cut(piece: MergedSegment, blocks: Iterator[np.ndarray]) -> Stretch:
        begin, end = piece.start_ms * fs // 1000, piece.end_ms * fs // 1000
        while audio.length < end and (block := next(blocks, None)) is not None:
            audio.append(block)
            audio.forget(begin)
        return Stretch(piece.start_ms, piece.end_ms, audio.cut(begin, end), fs)

    with readable(source, fs, how) as read:
        if _answers_at_end(vad):  # it hears the recording first, which is then read again and cut
            segments: Iterable[Sequence[int]] = list(_detected(read(), source.key, vad, options))
            blocks = read()
        else:
            blocks = read()
            segments = _detected(heard(blocks, _reach_ms(vad, options) * fs // 1000), source.key, vad, options)
        for start_ms, end_ms in segments:
            if merger is None:
                yield cut(MergedSegment(start_ms, end_ms), blocks)
            else:
                yield from (cut(piece, blocks) for piece in merger.push((start_ms, end_ms)) if wanted(piece))
        if merger is not None:
            yield from (cut(piece, blocks) for piece in merger.flush() if wanted(piece))


def _detected(
    blocks: Iterable[np.ndarray], key: str, vad: Engine, options: Mapping[str, Any]
) -> Iterator[Sequence[int]]:
    stream: Any = getattr(vad.model, "stream", None)
    waves = (torch.from_numpy(block) for block in blocks)
    if stream is None:
        found = vad.infer([torch.cat([*waves, torch.zeros(0)])], [key], options)
        yield from found[0]["value"] if found else ()
    else:
        accepted = signature(stream).parameters
        yield from stream(waves, vad.frontend, **{name: v for name, v in options.items() if name in accepted})


def _answers_at_end(vad: Engine) -> bool:
    """Whether a segment may be known only when the recording has ended."""
    return not hasattr(vad.model, "stream") or getattr(vad.model, "answers_at_end", False)


def _reach_ms(vad: Engine, options: Mapping[str, Any]) -> int:
    """How far back the segments of a detector with `stream` may begin."""
    longest = float(getattr(getattr(vad.model, "options", None), "max_single_segment_time", LONGEST_SEGMENT_MS))
    return int(longest + 2 * float(options.get("chunk_size", PIECE_MS)) + MARGIN_MS)

"""Speech of a recording of any length: read in blocks, detected on the way, cut out and handed on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import torch

from funasr.audio.download import downloaded, is_url
from funasr.audio.stream import BLOCK_S, stream_array, stream_file
from funasr.auto.engine import Engine
from funasr.auto.inputs import Source, read_source
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


def blocks_of(source: Source, fs: int, input_fs: int | None) -> Iterator[np.ndarray]:
    """The waveform of an input piece by piece, mono float32 at `fs` Hz; files are read as they are needed."""
    if is_url(source.data):
        with downloaded(source.data) as path:
            yield from stream_file(path, fs)
    elif isinstance(source.data, (str, Path)):
        yield from stream_file(source.data, fs)
    else:
        yield from stream_array(read_source(source, fs, input_fs).numpy(), int(BLOCK_S * fs))


def whole(source: Source, fs: int, input_fs: int | None) -> Stretch:
    """All of an input."""
    wave = read_source(source, fs, input_fs).numpy()
    return Stretch(0, round(1000 * len(wave) / fs), wave, fs)


def speech_of(
    source: Source, vad: Engine, options: Mapping[str, Any], merge_ms: float | None, input_fs: int | None
) -> Iterator[Stretch]:
    """Stretches of speech of an input, in order, each as soon as it is complete.

    Args:
        vad: a model with `stream`, as FsmnVADStreaming has, which takes constant memory, or one whose `inference`
            gives `value`: [[start_ms, end_ms], ...].
        options: of the detector.
        merge_ms: join segments to stretches of about this length; None: leave them.
    """
    fs = vad.fs
    audio = RollingAudio()
    merger = None if merge_ms is None else SegmentMerger(merge_ms)
    stream: Any = getattr(vad.model, "stream", None)
    stream_takes = () if stream is None else tuple(signature(stream).parameters)
    longest = float(getattr(getattr(vad.model, "options", None), "max_single_segment_time", LONGEST_SEGMENT_MS))
    reach_ms = longest + 2 * float(options.get("chunk_size", PIECE_MS)) + MARGIN_MS
    reach = int(reach_ms * fs / 1000)

    def samples() -> Iterator[torch.Tensor]:
        for block in blocks_of(source, fs, input_fs):
            audio.append(block)
            held = None if merger is None else merger.held
            audio.forget(audio.length - reach, None if held is None else (held[0] * fs // 1000, held[1] * fs // 1000))
            yield torch.from_numpy(block)

    def wanted(piece: MergedSegment) -> bool:
        # Pauses between long segments are recognised too, as in released FunASR, but not an hour of silence.
        return piece.speech or (merger is not None and piece.end_ms - piece.start_ms <= merger.max_ms)

    def cut(piece: MergedSegment) -> Stretch:
        wave = audio.cut(piece.start_ms * fs // 1000, piece.end_ms * fs // 1000)
        return Stretch(piece.start_ms, piece.end_ms, wave, fs)

    if stream_takes:
        taken = {name: value for name, value in options.items() if name in stream_takes}
        segments = stream(samples(), vad.frontend, **taken)
    else:
        reach = 1 << 62
        found = vad.infer([torch.cat([*samples(), torch.zeros(0)])], [source.key], options)
        segments = iter(found[0]["value"] if found else ())
    for start_ms, end_ms in segments:
        if merger is None:
            yield cut(MergedSegment(start_ms, end_ms))
        else:
            yield from (cut(piece) for piece in merger.push((start_ms, end_ms)) if wanted(piece))
    if merger is not None:
        yield from (cut(piece) for piece in merger.flush() if wanted(piece))

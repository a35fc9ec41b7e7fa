"""Audio that libsndfile does not read (m4a, mp4, webm, amr, wma, ...), decoded with PyAV (extra `media`)."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from funasr.utils.errors import DamagedUtteranceError

# Only containers with the sound inside: a play list would make the decoder open other files and addresses.
CONTAINERS = (
    "aac,ac3,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,flac,flv,gsm,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mp3,mpeg,"
    "mpegts,ogg,rm,tta,w64,wav,wv"
)
BLOCK_S = 10.0
PREROLL_S = 0.5  # decoders need some packets before what they give is right

MediaSource = str | os.PathLike | bytes | BinaryIO


def has_decoder() -> bool:
    """Whether PyAV is installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        return False
    return True


def media_info(source: MediaSource, name: str) -> tuple[int, int]:
    """(samples per channel, rate in Hz) of the first audio track; the samples are counted by decoding it.

    Raises DamagedUtteranceError naming `name`.
    """
    samples = rate = 0
    for block, rate in media_blocks(source, name):  # noqa: B007 - the rate is wanted
        samples += len(block)
    return samples, rate


def read_media(
    source: MediaSource, name: str, start_s: float = 0.0, end_s: float | None = None
) -> tuple[np.ndarray, int, int]:
    """A part of the first audio track, (samples, channels) float32; the sample it begins at; the rate in Hz.

    Raises DamagedUtteranceError naming `name`.
    """
    blocks = list(media_blocks(source, name, start_s, end_s))
    if not blocks:
        raise DamagedUtteranceError(f"{name}: has no samples")
    rate = blocks[0][1]
    return np.concatenate([block for block, _ in blocks]), round(start_s * rate), rate


def media_blocks(
    source: MediaSource, name: str, start_s: float = 0.0, end_s: float | None = None, block_s: float = BLOCK_S
) -> Iterator[tuple[np.ndarray, int]]:
    """Consecutive blocks (samples, channels), float32, with the rate in Hz, from `start_s` to `end_s` (seconds).

    Parts of a file fit together as well as its time stamps allow (1 ms in WebM).  Memory does not grow with the
    length.  Raises DamagedUtteranceError naming `name`.
    """
    held: list[np.ndarray] = []
    rate = 0
    for piece, rate in _pieces(source, name, start_s, end_s):
        held.append(piece)
        if sum(map(len, held)) >= block_s * rate:
            yield np.concatenate(held), rate
            held = []
    if held:
        yield np.concatenate(held), rate


def _pieces(source: MediaSource, name: str, start_s: float, end_s: float | None) -> Iterator[tuple[np.ndarray, int]]:
    """The same, as it is coded: some hundred samples at a time."""
    import av

    with _opened(source, name) as (container, stream):
        start_at_s, position, rate = 0.0, 0, 0
        begin, end = 0, None
        try:
            for frame in _frames_from(container, stream, start_s):
                if isinstance(frame, float):
                    start_at_s = frame
                    continue
                if not rate:  # as decoded; what the header says may be half of it
                    rate = int(frame.sample_rate)
                    position, begin = round(start_at_s * rate), round(start_s * rate)
                    end = None if end_s is None else round(end_s * rate)
                samples = _float_samples(frame)
                first, position = position, position + len(samples)  # frames follow on; their time stamps are rounded
                if end is not None and first >= end:
                    return
                piece = samples[max(0, begin - first) : None if end is None else end - first]
                if len(piece):
                    yield piece, rate
        except av.FFmpegError as error:
            raise DamagedUtteranceError(f"{name}: cannot be decoded: {error}") from error


def _frames_from(container: Any, stream: Any, start_s: float) -> Iterator[Any]:
    """Decoded frames from a little before `start_s` on, after the time in seconds at which the first of them is."""
    import av

    frames = container.decode(stream)
    first = next(frames, None)
    if first is None:
        return
    if start_s <= PREROLL_S or first.pts is None:
        yield 0.0
        yield first
        yield from frames
        return
    origin_s = float(first.pts * stream.time_base)  # not the track's start time, which may count samples left out
    container.seek(int((origin_s + start_s - PREROLL_S) * av.time_base))
    frames = container.decode(stream)
    first = next(frames, None)
    if first is not None:
        yield max(0.0, float(first.pts * stream.time_base) - origin_s)
        yield first
        yield from frames


@contextmanager
def _opened(source: MediaSource, name: str) -> Iterator[tuple[Any, Any]]:
    """The open container and its first audio track."""
    import av

    with ExitStack() as stack:
        handle: Any = io.BytesIO(source) if isinstance(source, bytes) else source
        if isinstance(source, (str, os.PathLike)):
            handle = stack.enter_context(Path(source).open("rb"))  # a name could be read as an address
        try:
            container = av.open(handle, mode="r", options={"format_whitelist": CONTAINERS, "protocol_whitelist": ""})
        except (av.FFmpegError, ValueError) as error:
            raise DamagedUtteranceError(f"{name}: is not audio that can be decoded: {error}") from error
        stack.enter_context(container)
        if not container.streams.audio:
            raise DamagedUtteranceError(f"{name}: has no audio track")
        yield container, container.streams.audio[0]


def _float_samples(frame: Any) -> np.ndarray:
    """The samples of a decoded frame, (samples, channels) float32 in [-1, 1]."""
    samples = frame.to_ndarray()  # (channels, samples), or (1, samples * channels) when packed
    channels = len(frame.layout.channels)
    samples = samples.T if samples.shape[0] == channels and frame.format.is_planar else samples.reshape(-1, channels)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128.0) / 128.0
    if np.issubdtype(samples.dtype, np.integer):
        return samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    return samples.astype(np.float32)

"""Audio of any length, piece by piece in constant memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import chain
from math import ceil, gcd
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from funasr.audio.media import media_blocks
from funasr.audio.read import RAW_FS, UnknownFormatError, require_decoder, sound_info
from funasr.audio.resample import resample
from funasr.utils.errors import DamagedUtteranceError

BLOCK_S = 10.0
FILTER_SPAN = 8  # input periods of the lower rate that the resampling filter reaches to each side, with room to spare


def stream_file(path: str | os.PathLike, fs: int, block_s: float = BLOCK_S) -> Iterator[np.ndarray]:
    """Consecutive waveforms (samples,), mono float32 at `fs` Hz, that make up `read_audio(path, fs)`.

    Raises DamagedUtteranceError naming the file as `read_audio` does, at the latest when the damage is reached.
    """
    path = Path(path)
    blocks: Iterator[np.ndarray]
    try:
        frames, source_fs = sound_info(path, fs)
    except UnknownFormatError as error:
        require_decoder(error)
        pieces = media_blocks(path, str(path), block_s=block_s)
        first = next(pieces, None)
        if first is None:
            raise DamagedUtteranceError(f"{path}: has no samples") from None
        blocks, source_fs = (block for block, _ in chain([first], pieces)), first[1]
    else:
        blocks = _sound_blocks(path, frames, source_fs, block_s)
    yield from resample_stream((_mono(block, path) for block in blocks), source_fs, fs)


def stream_array(wave: np.ndarray, block: int) -> Iterator[np.ndarray]:
    """An array (samples,) in pieces of `block` samples."""
    for start in range(0, len(wave), block):
        yield wave[start : start + block]


def _mono(block: np.ndarray, path: Path) -> np.ndarray:
    if not np.isfinite(block).all():
        raise DamagedUtteranceError(f"{path}: has samples that are not finite numbers")
    return np.ascontiguousarray(block if block.ndim == 1 else block.mean(1))


def _sound_blocks(path: Path, frames: int, source_fs: int, block_s: float) -> Iterator[np.ndarray]:
    raw: dict[str, Any] = {}
    if path.suffix.lower() == ".pcm":
        raw = {"samplerate": source_fs or RAW_FS, "channels": 1, "format": "RAW", "subtype": "PCM_16"}
    done = 0
    with soundfile.SoundFile(os.fspath(path), **raw) as file:
        while done < frames:
            try:
                block = file.read(min(frames - done, max(1, int(block_s * source_fs))), dtype="float32")
            except (soundfile.LibsndfileError, RuntimeError) as error:
                raise DamagedUtteranceError(f"{path}: cannot be decoded: {error}") from error
            if not len(block):
                raise DamagedUtteranceError(f"{path}: truncated: {frames} samples expected, {done} found")
            done += len(block)
            yield block


def resample_stream(blocks: Iterator[np.ndarray], orig_fs: int, new_fs: int) -> Iterator[np.ndarray]:
    """The resampled signal of consecutive blocks (samples,), the same as `resample` gives for all of them at once.

    Each block is converted together with as much of its neighbours as the filter reaches; blocks begin at multiples
    of the reduced rate, where input and output samples coincide.
    """
    if orig_fs == new_fs:
        yield from blocks
        return
    divisor = gcd(orig_fs, new_fs)
    orig, new = orig_fs // divisor, new_fs // divisor
    margin = ceil((FILTER_SPAN * orig / min(orig, new) + orig) / orig) * orig
    held = np.zeros(0, dtype=np.float32)  # begins `before` samples ahead of what is converted next
    before = 0
    for block in blocks:
        held = np.concatenate([held, block])
        ready = (len(held) - before - margin) // orig * orig
        if ready <= 0:
            continue
        converted = resample(held[: before + ready + margin], orig, new)
        yield converted[before // orig * new : (before + ready) // orig * new]
        drop = max(0, before + ready - margin)
        held, before = held[drop:], before + ready - drop
    if len(held) > before:
        yield resample(held, orig, new)[before // orig * new :]

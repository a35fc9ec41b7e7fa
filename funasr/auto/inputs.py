"""Anything that holds audio, as utterances: paths, lists of them, wav.scp and jsonl files, bytes, arrays, tensors."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from funasr.audio.read import read_audio
from funasr.audio.resample import resample
from funasr.utils.data_dir import read_table
from funasr.utils.errors import DamagedUtteranceError, DataError

LIST_FILES = (".scp", ".jsonl", ".txt")


@dataclass(frozen=True)
class Source:
    """One input before it is read: its key and what to read."""

    key: str
    data: Any


def list_sources(data: Any, key: str | Sequence[str] | None = None) -> list[Source]:
    """The inputs in `data`, in order, unread.

    Keys come from `key`, the list file, the file name without its extension, or the position (`input_0001`).
    """
    if isinstance(data, (str, Path)) and Path(data).suffix.lower() in LIST_FILES:
        return _from_list_file(Path(data))
    items = list(data) if isinstance(data, (list, tuple)) else [data]
    keys = [key] if isinstance(key, str) else list(key or [])
    if keys and len(keys) != len(items):
        raise ValueError(f"{len(keys)} keys were given for {len(items)} inputs")
    return [Source(keys[i] if keys else _key_of(item, i), item) for i, item in enumerate(items)]


def _key_of(item: Any, position: int) -> str:
    return Path(item).stem if isinstance(item, (str, Path)) else f"input_{position + 1:04d}"


def _from_list_file(path: Path) -> list[Source]:
    if not path.is_file():
        raise FileNotFoundError(f"list file {path} does not exist")
    if path.suffix.lower() != ".jsonl":
        return [Source(key, value) for key, value in read_table(path).items()]
    return list(_from_jsonl(path))


def _from_jsonl(path: Path) -> Iterator[Source]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                source = record["source"]
            except (json.JSONDecodeError, KeyError, TypeError):
                raise DataError(f'{path}:{number}: not a JSON object with a "source"') from None
            yield Source(record.get("key") or Path(source).stem, source)


def read_source(source: Source, fs: int, input_fs: int | None = None) -> torch.Tensor:
    """The waveform (samples,) of one input, float32 in [-1, 1], mono, at `fs` Hz.

    Args:
        input_fs: rate of arrays and tensors (default: `fs`).

    Raises:
        DamagedUtteranceError: the file cannot be read or the array is not a waveform; names the input.
    """
    data = source.data
    if isinstance(data, (str, Path, bytes)) or hasattr(data, "read"):
        wave, _ = read_audio(io.BytesIO(data) if isinstance(data, bytes) else data, fs=fs, mono=True)
        return torch.from_numpy(wave)
    if not isinstance(data, (np.ndarray, torch.Tensor)):
        raise DamagedUtteranceError(
            f"input '{source.key}' is a {type(data).__name__}; give a path, bytes, a file, a numpy array or a tensor"
        )
    wave = np.asarray(data.detach().cpu() if isinstance(data, torch.Tensor) else data)
    return torch.from_numpy(resample(_checked(wave, source.key), input_fs or fs, fs))


def _checked(wave: np.ndarray, key: str) -> np.ndarray:
    """A mono float32 waveform from an array: integers are scaled, channels averaged."""
    if np.issubdtype(wave.dtype, np.integer):
        wave = wave / -float(np.iinfo(wave.dtype).min)
    if wave.ndim == 2 and min(wave.shape) <= 8:  # (channels, samples) or (samples, channels)
        wave = wave.mean(axis=int(np.argmin(wave.shape)))
    if wave.ndim != 1:
        raise DamagedUtteranceError(f"input '{key}' has shape {wave.shape}; a waveform is (samples,)")
    wave = np.ascontiguousarray(wave, dtype=np.float32)
    if not np.isfinite(wave).all():
        raise DamagedUtteranceError(f"input '{key}' holds NaN or infinite samples")
    return wave

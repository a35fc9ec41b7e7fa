"""What a call is given, as single inputs: paths, lists, wav.scp and jsonl files, bytes, arrays, tensors, texts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from funasr.audio.download import MAX_BYTES, downloaded, is_url, url_stem
from funasr.audio.read import read_audio
from funasr.audio.resample import resample
from funasr.utils.data_dir import read_lines, split_record
from funasr.utils.errors import DamagedUtteranceError, DataError

UNREADABLE = (DamagedUtteranceError, OSError)
"""What reading an input may raise: the input is wrong, or the system does not let it be read."""
LIST_FILES = (".scp", ".jsonl", ".txt", ".text")
MIB = 1 << 20
MAX_DOWNLOAD_MB = MAX_BYTES / MIB


@dataclass(frozen=True)
class Source:
    """One input before it is read: its key and what to read."""

    key: str
    data: Any


@dataclass(frozen=True)
class Reading:
    """How inputs are read.

    array_fs: rate of arrays and tensors in Hz; None: the model's.
    max_download_mb: a larger file at an address is refused, in MiB.
    """

    array_fs: int | None = None
    max_download_mb: float = MAX_DOWNLOAD_MB

    def downloaded(self, url: str) -> AbstractContextManager[Path]:
        """A file with what the address serves, gone after the block; see funasr.audio.download."""
        return downloaded(url, int(self.max_download_mb * MIB))


def list_sources(data: Any, key: str | Sequence[str] | None = None, texts: bool = False) -> list[Source]:
    """The inputs in `data`, in order, unread.

    Keys come from `key`, the list file, the file name without its extension, or the position (`input_0001`).

    Args:
        texts: the inputs are texts; a string is one, unless it is the path of a list file that exists.
    """
    if is_list_file(data) and (not texts or Path(data).is_file()):
        return _from_list_file(Path(data), texts)
    items = list(data) if isinstance(data, (list, tuple)) else [data]
    keys = [key] if isinstance(key, str) else list(key or [])
    if keys and len(keys) != len(items):
        raise ValueError(f"{len(keys)} keys were given for {len(items)} inputs")
    return [Source(keys[i] if keys else _key_of(item, i, texts), item) for i, item in enumerate(items)]


def iter_sources(
    data: Any, key: str | Sequence[str] | None = None, texts: bool = False
) -> tuple[Iterable[Source], int]:
    """The inputs in `data` and how many they are; those of an iterator are taken when needed, their number is 0."""
    if isinstance(data, Iterator) and not hasattr(data, "read"):
        keys = iter(key) if key is not None and not isinstance(key, str) else None
        return (Source(next(keys) if keys else _key_of(x, i, texts), x) for i, x in enumerate(data)), 0
    sources = list_sources(data, key, texts)
    return sources, len(sources)


def pair_sources(data: Any, kinds: Sequence[str], key: str | Sequence[str] | None = None) -> list[Source]:
    """Inputs of a model that takes audio and text: `data` is (audio, text), each one, a list or a list file.

    Args:
        kinds: "sound" and "text", in the order of `data`.

    Raises DataError if their numbers differ, or the ids of two list files.
    """
    if sorted(kinds) != ["sound", "text"] or not isinstance(data, (list, tuple)) or len(data) != 2:
        raise DataError('data_type=("sound", "text") needs input=(audio, text)')
    audio, text = data if kinds[0] == "sound" else (data[1], data[0])
    sounds, lines = list_sources(audio, key), list_sources(text, texts=True)
    if len(sounds) != len(lines):
        raise DataError(f"{len(sounds)} recordings cannot be paired with {len(lines)} texts")
    by_key = {line.key: line.data for line in lines}
    if is_list_file(audio) and is_list_file(text):
        missing = [sound.key for sound in sounds if sound.key not in by_key]
        if missing:
            raise DataError(f"there is no text for {', '.join(missing[:3])}")
        return [Source(sound.key, (sound.data, by_key[sound.key])) for sound in sounds]
    return [Source(sound.key, (sound.data, line.data)) for sound, line in zip(sounds, lines)]


def is_list_file(data: Any) -> bool:
    """Whether it is the path of a list of inputs, by its extension."""
    return isinstance(data, (str, Path)) and Path(data).suffix.lower() in LIST_FILES


def _key_of(item: Any, position: int, text: bool = False) -> str:
    if is_url(item) and not text:
        return url_stem(item)
    return Path(item).stem if isinstance(item, (str, Path)) and not text else f"input_{position + 1:04d}"


def _from_list_file(path: Path, texts: bool) -> list[Source]:
    if not path.is_file():
        raise FileNotFoundError(f"list file {path} does not exist")
    if path.suffix.lower() == ".jsonl":
        return list(_from_jsonl(path, texts))
    sources: list[Source] = []
    lines: dict[str, int] = {}
    for number, line in read_lines(path):
        if not line.strip():
            continue
        key, value = split_record(line)
        if not value:  # a value without a key
            key, value = _key_of(key, len(sources), texts), key
        elif key in lines:
            raise DataError(f"{path}:{number}: id '{key}' was given before, on line {lines[key]}; ids must be unique")
        else:
            lines[key] = number
        sources.append(Source(key, value))
    return sources


def _from_jsonl(path: Path, texts: bool) -> Iterator[Source]:
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                source = record["source"]
            except (json.JSONDecodeError, KeyError, TypeError):
                raise DataError(f'{path}:{number}: not a JSON object with a "source"') from None
            yield Source(record.get("key") or _key_of(source, number - 1, texts), source)


def read_source(source: Source, fs: int, how: Reading) -> torch.Tensor:
    """The waveform (samples,) of one input, float32 in [-1, 1], mono, at `fs` Hz.

    Raises:
        DamagedUtteranceError: the file cannot be read or the array is not a waveform; names the input.
    """
    data = source.data
    if is_url(data):
        with how.downloaded(data) as path:
            return torch.from_numpy(read_audio(path, fs=fs, mono=True)[0])
    if isinstance(data, (str, Path, bytes)) or hasattr(data, "read"):
        wave, _ = read_audio(data, fs=fs, mono=True)
        return torch.from_numpy(wave)
    if not isinstance(data, (np.ndarray, torch.Tensor)):
        raise DamagedUtteranceError(
            f"input '{source.key}' is a {type(data).__name__}; give a path, bytes, a file, a numpy array or a tensor"
        )
    wave = np.asarray(data.detach().cpu() if isinstance(data, torch.Tensor) else data)
    return torch.from_numpy(resample(_checked(wave, source.key), how.array_fs or fs, fs))


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

"""Lists of audio files that augmentation draws from: noises, music, impulse responses."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np

from funasr.audio.read import audio_info, read_audio
from funasr.utils.data_dir import read_lines
from funasr.utils.errors import ConfigError, DamagedUtteranceError

logger = logging.getLogger(__name__)


class AudioFiles:
    """The files of a list, `path` or `id path` per line; empty without a list.

    Args:
        path: of the list.
        option: that gave it, for messages.
        fs: rate in Hz at which files are read.
    """

    def __init__(self, path: str | Path | None, option: str, fs: int) -> None:
        self.paths: list[str] = []
        self.fs = fs
        self._bad: set[str] = set()
        if path is not None:
            self.paths = [line.split(maxsplit=1)[-1].strip() for _, line in read_lines(path) if line.strip()]
            if not self.paths:
                raise ConfigError(f"{option}: {path} is empty")

    def __len__(self) -> int:
        return len(self.paths)

    def choose(self, rng: np.random.Generator) -> str:
        """One of the files."""
        return self.paths[int(rng.integers(len(self.paths)))]

    def read(
        self, path: str, mono: bool, longest: int | None = None, rng: np.random.Generator | None = None
    ) -> np.ndarray | None:
        """Samples of a file, or None (told once) if it is damaged: the speech is still good.

        Of a file longer than `longest` samples only a random stretch is decoded.
        """
        try:
            start, end = 0.0, None
            if longest is not None and rng is not None:
                frames, rate = audio_info(path)
                spare = frames / rate - longest / self.fs
                if spare > 0:
                    start = float(rng.uniform(0.0, spare))
                    end = min(start + longest / self.fs, frames / rate)
            return read_audio(path, self.fs, mono=mono, start_s=start, end_s=end)[0]
        except (DamagedUtteranceError, OSError) as error:
            if path not in self._bad:
                self._bad.add(path)
                logger.warning("%s cannot be used for augmentation: %s", path, error)
            return None

"""Audio of a corpus by utterance id: files, wave archives, pipes, and segments cut from recordings."""

from __future__ import annotations

import re
import subprocess
import wave
from collections.abc import Iterator, Mapping
from pathlib import Path

import kaldiio
import numpy as np

from funasr.audio.read import SEGMENT_OVERSHOOT_S, audio_info, read_audio
from funasr.audio.resample import resample
from funasr.utils.errors import DamagedUtteranceError, DataError

_ARK = re.compile(r"^(?P<path>.+):(?P<offset>\d+)(?:\[.*\])?$")
Span = tuple[float, float]  # start and end in seconds


def is_pipe(entry: str) -> bool:
    """Whether a wav.scp entry is a command whose output is the audio."""
    return entry.rstrip().endswith("|")


def load_ark(entry: str) -> tuple[np.ndarray, int | None]:
    """What is at `file.ark:offset`: (matrix, None), or (wave in [-1, 1], (samples,) or (samples, channels); rate)."""
    try:
        value = kaldiio.load_mat(entry)
    except (OSError, ValueError, EOFError, AssertionError, RuntimeError) as error:
        raise DamagedUtteranceError(f"{entry}: {error or type(error).__name__}") from None
    if not isinstance(value, tuple):
        return value, None
    rate, samples = value if isinstance(value[0], int | np.integer) else value[::-1]
    if samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / -float(np.iinfo(samples.dtype).min)
    return samples.astype(np.float32), int(rate)


def read_entry(entry: str, span: Span | None = None, allow_pipes: bool = False) -> tuple[np.ndarray, int]:
    """Audio of one wav.scp entry as float32 (samples,) or (samples, channels), and its rate in Hz.

    Args:
        entry: path, `file.ark:offset`, or command ending with `|`.
        span: the part to read, in seconds; an end below 0 is the end of the recording.
        allow_pipes: run commands; they go through a shell, so only with a wav.scp that is trusted.

    Raises:
        DamagedUtteranceError: the audio cannot be read, or the span lies outside it.
        DataError: the entry is a command and `allow_pipes` is off.
    """
    if is_pipe(entry):
        samples, rate = read_audio(_run_pipe(entry, allow_pipes), mono=False)
    elif _ARK.match(entry) and not Path(entry).is_file():
        samples, ark_rate = load_ark(entry)
        if ark_rate is None:
            raise DamagedUtteranceError(f"{entry} holds a matrix, not audio; its type is kaldi_ark, not sound")
        rate = ark_rate
    else:
        start_s, end_s = span or (0.0, -1.0)
        return read_audio(entry, mono=False, start_s=start_s, end_s=None if end_s < 0 else end_s)
    if span is not None:
        start, stop = _frames(entry, span, rate, len(samples))
        samples = samples[start:stop]
    return samples[:, 0] if samples.ndim == 2 and samples.shape[1] == 1 else samples, rate


def _run_pipe(entry: str, allow_pipes: bool) -> bytes:
    if not allow_pipes:
        raise DataError(
            f"'{entry}' is a command. Make files with `python -m funasr.bin.format_wav_scp --allow_pipes true`, "
            "or allow the loader to run commands (allow_pipes) if you trust this file."
        )
    command = entry.rstrip().removesuffix("|")
    # Kaldi entries are shell text, often several commands in a row; the caller has said that it trusts them.
    done = subprocess.run(command, shell=True, capture_output=True, check=False)  # noqa: S602
    if done.returncode != 0 or not done.stdout:
        message = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise DamagedUtteranceError(f"'{command.strip()}' ended with status {done.returncode}: {message}")
    return done.stdout


def _frames(entry: str, span: Span, rate: int, available: int) -> tuple[int, int]:
    """First sample of a span and the one after its last; as `read_audio`, it may reach over the end by a little."""
    start = round(span[0] * rate)
    stop = available if span[1] < 0 else round(span[1] * rate)
    over = stop - available > SEGMENT_OVERSHOOT_S * rate
    stop = min(stop, available)
    if start < 0 or start >= stop or over:
        raise DamagedUtteranceError(f"{entry}: {span[0]}..{span[1]} s lies outside its {available / rate:.3f} s")
    return start, stop


def entry_length(entry: str, span: Span | None = None, allow_pipes: bool = False) -> tuple[int, int]:
    """(samples, rate in Hz) of one wav.scp entry, from the header where there is one."""
    if is_pipe(entry):
        samples, rate = read_entry(entry, span, allow_pipes)
        return len(samples), rate
    ark = _ARK.match(entry)
    if ark and not Path(entry).is_file():
        available, rate = _ark_length(ark["path"], int(ark["offset"]), entry)
    else:
        available, rate = audio_info(entry)
    if span is None:
        return available, rate
    start, stop = _frames(entry, span, rate, available)
    return stop - start, rate


def _ark_length(path: str, offset: int, entry: str) -> tuple[int, int]:
    try:
        with Path(path).open("rb") as file:
            file.seek(offset)
            with wave.open(file) as header:
                return header.getnframes(), header.getframerate()
    except (wave.Error, EOFError, OSError):  # not plain PCM: read it
        samples, rate = read_entry(entry)
        return len(samples), rate


class SoundReader(Mapping[str, np.ndarray]):
    """Utterance id -> float32 waveform (samples,) or (samples, channels).

    Args:
        table: id -> entry. With `segments` these are the recordings.
        fs: rate wanted in Hz. Audio of another rate is resampled; `pop_notices` tells from which rates.
        allow_pipes: run entries that are commands.
        segments: utterance id -> "recording start_s end_s".
    """

    def __init__(
        self,
        table: Mapping[str, str],
        fs: int | None = None,
        allow_pipes: bool = False,
        segments: Mapping[str, str] | None = None,
    ) -> None:
        self.table = table
        self.fs = fs
        self.allow_pipes = allow_pipes
        self.segments = segments
        self._ids: Mapping[str, str] = table if segments is None else segments
        self._first: tuple[int, str] | None = None
        self._seen: set[tuple[int, int]] = set()
        self._notices: dict[tuple[int, int], str] = {}

    def entry(self, uid: str) -> tuple[str, Span | None]:
        """The wav.scp entry that an utterance lies in, and its span there (None: all of it)."""
        if self.segments is None:
            return self.table[uid], None
        words = self.segments[uid].split()
        try:
            recording, span = words[0], (float(words[1]), float(words[2]))
        except (IndexError, ValueError):
            raise DamagedUtteranceError(
                f"segments must hold 'recording start_s end_s', not '{' '.join(words)}'"
            ) from None
        if recording not in self.table:
            raise DamagedUtteranceError(f"its recording '{recording}' is not in wav.scp")
        return self.table[recording], span

    def __getitem__(self, uid: str) -> np.ndarray:
        entry, span = self.entry(uid)
        samples, rate = read_entry(entry, span, self.allow_pipes)
        return self._at_rate(samples, rate, entry)

    def num_samples(self, uid: str) -> int:
        """Samples at rate `fs`, from the header of the file."""
        entry, span = self.entry(uid)
        samples, rate = entry_length(entry, span, self.allow_pipes)
        return samples if self.fs in (None, rate) else -(-samples * self.fs // rate)

    def pop_notices(self) -> dict[tuple[int, int], str]:
        """(rate of the file, rate wanted) -> first file, for the pairs that are new since the last call."""
        notices, self._notices = self._notices, {}
        return notices

    def _at_rate(self, samples: np.ndarray, rate: int, entry: str) -> np.ndarray:
        if self.fs is None:
            self._first = self._first or (rate, entry)
            if rate != self._first[0]:
                raise DataError(
                    f"{entry} has {rate} Hz, but {self._first[1]} has {self._first[0]} Hz: say which is wanted (fs)"
                )
            return samples
        if rate == self.fs:
            return samples
        if (rate, self.fs) not in self._seen:
            self._seen.add((rate, self.fs))
            self._notices[rate, self.fs] = entry
        return resample(samples, rate, self.fs)

    def __contains__(self, uid: object) -> bool:
        return uid in self._ids

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __len__(self) -> int:
        return len(self._ids)


class MultiColumnSoundReader(SoundReader):
    """`ID a.wav b.wav ...`: files of equal rate and length, joined to (samples, channels).

    All lines have the same number of files, unless `variable`.
    """

    def __init__(
        self, table: Mapping[str, str], fs: int | None = None, allow_pipes: bool = False, variable: bool = False
    ) -> None:
        super().__init__(table, fs, allow_pipes)
        first = next(iter(table.values()), "")
        self._columns = None if variable else len(first.split())

    def __getitem__(self, uid: str) -> np.ndarray:
        paths = self.table[uid].split()
        if self._columns is not None and len(paths) != self._columns:
            raise DamagedUtteranceError(f"{len(paths)} files, but the first line has {self._columns}")
        parts = [read_entry(path, None, self.allow_pipes) for path in paths]
        shapes = {(len(samples), rate) for samples, rate in parts}
        if len(shapes) != 1:
            raise DamagedUtteranceError(f"its files differ in (samples, rate): {sorted(shapes)}")
        joined = np.concatenate([samples.reshape(len(samples), -1) for samples, _ in parts], axis=1)
        return self._at_rate(joined, parts[0][1], paths[0])

    def num_samples(self, uid: str) -> int:
        samples, rate = entry_length(self.table[uid].split()[0], None, self.allow_pipes)
        return samples if self.fs in (None, rate) else -(-samples * self.fs // rate)

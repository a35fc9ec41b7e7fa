"""Reading audio: files, parts of files, bytes and file objects, all as float32 in [-1, 1].

libsndfile decodes; what it does not know (m4a, video, ...) goes to PyAV if that is installed.
"""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from funasr.audio.media import has_decoder, media_info, read_media
from funasr.audio.resample import resample
from funasr.utils.errors import DamagedUtteranceError

RAW_FS = 16000  # of audio without a header
SEGMENT_OVERSHOOT_S = 0.5  # segment ends are often rounded up past the end of the file; more is a mistake
UNKNOWN_SIZE = 0x7FFFF000  # programs that write WAV into a pipe put a data size of about 2 or 4 GiB
CONTAINERS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"ID3", b"OggS", b"fLaC", b"FORM", b".snd", b"caff", b"#!AMR")
EBML, ASF = b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11"  # webm and mkv, wma

Source = str | os.PathLike | bytes | BinaryIO


def read_audio(
    source: Source, fs: int | None = None, mono: bool = True, start_s: float = 0.0, end_s: float | None = None
) -> tuple[np.ndarray, int]:
    """Decode audio, or the part of it from `start_s` to `end_s` (seconds) without decoding the rest.

    Args:
        source: path (`.pcm`: raw little-endian int16), encoded or raw int16 bytes, or a binary file object.
        fs: wanted sample rate in Hz; None keeps the source's. Raw audio is taken to have this rate, or else 16 kHz.
        mono: average the channels.

    Returns:
        (samples,) float32, or (samples, channels) if not `mono` and there are several; and the rate in Hz.

    Raises:
        DamagedUtteranceError: naming the source and what is wrong: missing, empty, truncated, not audio, not finite.
    """
    name = _name(source)
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix.lower() == ".pcm":
        source = _read_bytes(Path(source))
        wave, source_fs = _read_raw(source, fs or RAW_FS, name, start_s, end_s)
    elif isinstance(source, bytes) and not is_container(source):
        wave, source_fs = _read_raw(source, fs or RAW_FS, name, start_s, end_s)
    else:
        wave, source_fs = _decode(source, name, start_s, end_s)
    if not np.isfinite(wave).all():
        raise DamagedUtteranceError(f"{name}: has samples that are not finite numbers")
    if wave.ndim == 2 and (mono or wave.shape[1] == 1):
        wave = wave[:, 0] if wave.shape[1] == 1 else wave.mean(1)
    if fs is not None and fs != source_fs:
        return resample(wave, source_fs, fs), fs
    return np.ascontiguousarray(wave), source_fs


def audio_info(path: str | os.PathLike, fs: int | None = None) -> tuple[int, int]:
    """(samples per channel, rate in Hz) from the header; `fs` is the rate of `.pcm` files, default 16 kHz.

    What only PyAV reads is decoded to count its samples.
    Raises DamagedUtteranceError as `read_audio`.
    """
    try:
        return sound_info(path, fs)
    except UnknownFormatError as error:
        require_decoder(error)
        return media_info(path, str(path))


def sound_info(path: str | os.PathLike, fs: int | None = None) -> tuple[int, int]:
    """`audio_info` of what libsndfile reads; UnknownFormatError for the rest."""
    path = Path(path)
    if path.suffix.lower() == ".pcm":
        _check_exists(path)
        return path.stat().st_size // 2, fs or RAW_FS
    with _open(path, str(path)) as file:
        return file.frames, file.samplerate


class UnknownFormatError(DamagedUtteranceError):
    """Audio that libsndfile does not know, or no audio at all."""


def _decode(source: Source, name: str, start_s: float, end_s: float | None) -> tuple[np.ndarray, int]:
    at = source.tell() if hasattr(source, "tell") else 0
    try:
        return _decode_sound(source, name, start_s, end_s)
    except UnknownFormatError as error:
        require_decoder(error)
    if hasattr(source, "seek"):
        source.seek(at)
    wave, begin, fs = read_media(source, name, start_s, end_s)
    _span(begin + len(wave), fs, name, start_s, end_s)  # says so if the part is not there
    return wave, fs


def require_decoder(error: UnknownFormatError) -> None:
    """Return if PyAV may read what libsndfile does not, else raise the error with what to install."""
    if not has_decoder():
        raise UnknownFormatError(f"{error}; for m4a, video and more: pip install 'funasr[media]'") from error


def _decode_sound(source: Source, name: str, start_s: float, end_s: float | None) -> tuple[np.ndarray, int]:
    with _open(source, name) as file:
        fs = file.samplerate
        begin, end = _span(file.frames, fs, name, start_s, end_s)
        try:
            if begin:
                file.seek(begin)
            wave = file.read(end - begin, dtype="float32")
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise DamagedUtteranceError(f"{name}: cannot be decoded: {error}") from error
    if len(wave) < end - begin:
        raise DamagedUtteranceError(f"{name}: truncated: {end} samples expected, {begin + len(wave)} found")
    return wave, fs


def _open(source: Source, name: str) -> soundfile.SoundFile:
    """An open file whose header is sound."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        _check_exists(path)
        with path.open("rb") as stream:
            _check_wav_size(stream, name)
    elif isinstance(source, bytes):
        source = io.BytesIO(source)
        _check_wav_size(source, name)
    try:
        file = soundfile.SoundFile(os.fspath(source) if isinstance(source, os.PathLike) else source)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise UnknownFormatError(f"{name}: is not audio that can be decoded: {error}") from error
    if file.frames <= 0:
        file.close()
        raise DamagedUtteranceError(f"{name}: has no samples")
    return file


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise DamagedUtteranceError(f"{path}: is a directory" if path.is_dir() else f"{path}: does not exist")
    if path.stat().st_size == 0:
        raise DamagedUtteranceError(f"{path}: is empty")


def _read_bytes(path: Path) -> bytes:
    _check_exists(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DamagedUtteranceError(f"{path}: cannot be read: {error}") from error


def _check_wav_size(stream: BinaryIO, name: str) -> None:
    """Compare the size in the header of a RIFF WAV with the bytes that follow; libsndfile hides the difference."""
    start = stream.tell()
    head = stream.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        while len(chunk := stream.read(8)) == 8:
            size = struct.unpack("<I", chunk[4:])[0]
            position = stream.tell()
            if chunk[:4] == b"data":
                there = stream.seek(0, os.SEEK_END) - position
                if there < size < UNKNOWN_SIZE:
                    raise DamagedUtteranceError(f"{name}: truncated: {size} bytes expected, {there} found")
                break
            stream.seek(position + size + size % 2)
    stream.seek(start)


def _read_raw(data: bytes, fs: int, name: str, start_s: float, end_s: float | None) -> tuple[np.ndarray, int]:
    if not data:
        raise DamagedUtteranceError(f"{name}: has no samples")
    if len(data) % 2:
        raise DamagedUtteranceError(f"{name}: {len(data)} bytes are not whole 16-bit samples")
    begin, end = _span(len(data) // 2, fs, name, start_s, end_s)
    samples = np.frombuffer(data, dtype="<i2", count=end - begin, offset=2 * begin)
    return samples.astype(np.float32) / 32768.0, fs


def _span(frames: int, fs: int, name: str, start_s: float, end_s: float | None) -> tuple[int, int]:
    """First sample and sample after the last of a segment."""
    begin = round(start_s * fs)
    end = frames if end_s is None else round(end_s * fs)
    if begin < 0 or end > frames + SEGMENT_OVERSHOOT_S * fs or min(end, frames) <= begin:
        raise DamagedUtteranceError(f"{name}: no segment {start_s} to {end_s} s in {frames / fs:.3f} s of audio")
    return begin, min(end, frames)


def is_container(data: bytes) -> bool:
    """Whether bytes begin as an audio file does, rather than as raw samples."""
    if data[:4] == b"RIFF":
        return data[8:12] in (b"WAVE", b"AVI ")
    if data.startswith((*CONTAINERS, EBML, ASF)) or data[4:8] == b"ftyp":
        return True
    return _mpeg_frame_size(data, 0) > 0 and _mpeg_frame_size(data, _mpeg_frame_size(data, 0)) > 0


def _mpeg_frame_size(data: bytes, at: int) -> int:
    """Bytes of the MPEG-1/2 layer III frame at `at`; 0 if there is none. Samples rarely look like two in a row."""
    header = data[at : at + 4]
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    version, rate_index, fs_index = header[1] >> 3 & 3, header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or rate_index in (0, 15) or fs_index == 3:
        return 0
    kbps_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
    kbps_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
    kbps = (kbps_1 if version == 3 else kbps_2)[rate_index]
    fs = (44100, 48000, 32000)[fs_index] // {3: 1, 2: 2, 0: 4}[version]
    return (144 if version == 3 else 72) * kbps * 1000 // fs + (header[2] >> 1 & 1)


def _name(source: Source) -> str:
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return f"{len(source)} bytes" if isinstance(source, bytes) else str(getattr(source, "name", "audio stream"))

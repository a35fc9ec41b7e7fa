"""A file piece by piece is the file as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from funasr.audio.read import read_audio
from funasr.audio.resample import resample
from funasr.audio.stream import resample_stream, stream_array, stream_file
from funasr.utils.errors import DamagedUtteranceError


@pytest.mark.parametrize("fs", [8000, 11025, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("block_s", [0.013, 0.5, 100.0])
def test_pieces_make_up_the_file(tmp_path: Path, fs: int, block_s: float) -> None:
    noise = 0.1 * np.random.default_rng(0).standard_normal((int(1.7 * fs) + 3, 2))
    soundfile.write(tmp_path / "x.flac", noise, fs)
    pieces = list(stream_file(tmp_path / "x.flac", 16000, block_s))
    whole, _ = read_audio(tmp_path / "x.flac", 16000)
    assert all(piece.dtype == np.float32 and piece.ndim == 1 for piece in pieces)
    np.testing.assert_allclose(np.concatenate(pieces), whole, atol=1e-6)


@pytest.mark.parametrize("new_fs", [16000, 44100, 4000])
def test_resampling_does_not_depend_on_the_blocks(new_fs: int) -> None:
    wave = np.random.default_rng(1).standard_normal(30_001).astype(np.float32)
    blocks = np.split(wave, [1, 2, 500, 501, 20_000, 29_999])
    found = np.concatenate(list(resample_stream(iter(blocks), 8000, new_fs)))
    np.testing.assert_allclose(found, resample(wave, 8000, new_fs), atol=2e-6)


def test_nothing_to_resample() -> None:
    assert list(resample_stream(iter([]), 8000, 16000)) == []
    assert [len(piece) for piece in stream_array(np.zeros(5), 2)] == [2, 2, 1]


def test_raw_samples(tmp_path: Path) -> None:
    (tmp_path / "x.pcm").write_bytes(np.arange(-5, 5, dtype="<i2").tobytes())
    np.testing.assert_array_equal(
        np.concatenate(list(stream_file(tmp_path / "x.pcm", 16000))), np.arange(-5, 5) / 32768
    )


def test_damage(tmp_path: Path) -> None:
    path = tmp_path / "x.flac"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(160_000), 16000)
    path.write_bytes(path.read_bytes()[:150_000])
    with pytest.raises(DamagedUtteranceError, match=r"x\.flac"):
        list(stream_file(path, 16000))
    soundfile.write(tmp_path / "nan.wav", np.full(100, np.nan), 16000, subtype="FLOAT")
    with pytest.raises(DamagedUtteranceError, match=r"nan\.wav.*not finite"):
        list(stream_file(tmp_path / "nan.wav", 16000))
    with pytest.raises(DamagedUtteranceError, match="does not exist"):
        list(stream_file(tmp_path / "absent.wav", 16000))


def test_what_only_pyav_reads(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "x.m4a"
    wave = (0.2 * np.sin(np.arange(44100 * 3) / 20)).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], format="fltp", layout="mono")
        frame.sample_rate = 44100
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    whole, _ = read_audio(path, 16000)
    np.testing.assert_allclose(np.concatenate(list(stream_file(path, 16000, 0.4))), whole, atol=1e-6)

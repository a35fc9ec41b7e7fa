"""Reading audio: what was written comes back; what is damaged is named, with the reason."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio.functional

from funasr.audio.read import audio_info, read_audio
from funasr.audio.resample import resample
from funasr.utils.errors import DamagedUtteranceError

FS = 16000
WAVE = (np.random.default_rng(0).integers(-20000, 20000, FS) / 32768).astype(np.float32)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "a.wav", WAVE, FS, subtype="PCM_16")
    return tmp_path / "a.wav"


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_path_bytes_and_file_object(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    soundfile.write(path, WAVE, FS, subtype="PCM_16")
    for source in (path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        wave, fs = read_audio(source)
        assert (wave.dtype, fs) == (np.float32, FS)
        np.testing.assert_array_equal(wave, WAVE)
    assert audio_info(path) == (FS, FS)


def test_raw_samples(tmp_path: Path) -> None:
    data = (WAVE * 32768).astype("<i2").tobytes()
    (tmp_path / "a.pcm").write_bytes(data)
    for source in (tmp_path / "a.pcm", data):
        np.testing.assert_array_equal(read_audio(source)[0], WAVE)
    assert read_audio(data, fs=8000)[1] == 8000
    assert audio_info(tmp_path / "a.pcm") == (FS, FS)
    with pytest.raises(DamagedUtteranceError, match="16-bit"):
        read_audio(data[:-1])


def test_channels(tmp_path: Path) -> None:
    stereo = np.stack([WAVE, -0.5 * WAVE], 1)
    soundfile.write(tmp_path / "s.wav", stereo, FS, subtype="FLOAT")
    np.testing.assert_allclose(read_audio(tmp_path / "s.wav")[0], 0.25 * WAVE, atol=1e-7)
    np.testing.assert_allclose(read_audio(tmp_path / "s.wav", mono=False)[0], stereo, atol=1e-7)
    assert read_audio(tmp_path / "s.wav", fs=8000, mono=False)[0].shape == (FS // 2, 2)
    assert audio_info(tmp_path / "s.wav") == (FS, FS)


def test_segment(wav: Path) -> None:
    np.testing.assert_array_equal(read_audio(wav, start_s=0.25, end_s=0.5)[0], WAVE[4000:8000])
    np.testing.assert_array_equal(read_audio(wav, start_s=0.9, end_s=1.2)[0], WAVE[14400:])  # rounded past the end
    for start_s, end_s in ((0.5, 0.5), (1.0, 1.1), (0.5, 2.0), (-0.1, 0.5)):
        with pytest.raises(DamagedUtteranceError, match=r"a\.wav: no segment"):
            read_audio(wav, start_s=start_s, end_s=end_s)


def test_resampling(wav: Path) -> None:
    wave, fs = read_audio(wav, fs=8000)
    expected = torchaudio.functional.resample(torch.from_numpy(WAVE), FS, 8000).numpy()
    assert fs == 8000
    np.testing.assert_allclose(wave, expected, atol=1e-6)
    assert resample(WAVE, FS, FS) is WAVE


def test_damaged_files_are_named_with_the_reason(wav: Path, tmp_path: Path) -> None:
    whole = wav.read_bytes()
    (tmp_path / "cut.wav").write_bytes(whole[:-1000])
    (tmp_path / "head.wav").write_bytes(whole[:44])
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("this is not audio at all, only words")
    soundfile.write(tmp_path / "none.wav", WAVE[:0], FS)
    soundfile.write(tmp_path / "nan.wav", np.append(WAVE, np.nan), FS, subtype="FLOAT")
    soundfile.write(tmp_path / "whole.flac", WAVE, FS)
    (tmp_path / "cut.flac").write_bytes((tmp_path / "whole.flac").read_bytes()[:8000])
    for name, reason in {
        "absent.wav": "does not exist",
        "cut.wav": "truncated",
        "head.wav": "truncated",
        "empty.wav": "empty",
        "text.wav": "not audio",
        "none.wav": "no samples",
        "nan.wav": "not finite",
        "cut.flac": "truncated|decoded",
    }.items():
        with pytest.raises(DamagedUtteranceError, match=reason) as raised:
            read_audio(tmp_path / name)
        assert name in str(raised.value)
    with pytest.raises(DamagedUtteranceError, match="directory"):
        read_audio(tmp_path)
    with pytest.raises(DamagedUtteranceError, match="truncated"):
        audio_info(tmp_path / "cut.wav")
    with pytest.raises(DamagedUtteranceError, match="truncated"):
        read_audio(whole[:-1000])


def test_wav_written_into_a_pipe_is_not_truncated(wav: Path) -> None:
    data = bytearray(wav.read_bytes())
    at = data.index(b"data")
    data[at + 4 : at + 8] = b"\xff\xff\xff\xff"
    np.testing.assert_array_equal(read_audio(bytes(data))[0], WAVE)

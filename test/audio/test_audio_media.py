"""What libsndfile cannot read comes through PyAV: whole, in parts, in blocks; never another file or address."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from funasr.audio.media import media_blocks
from funasr.audio.read import audio_info, read_audio
from funasr.utils.errors import DamagedUtteranceError

FS = 16000
TIME = np.arange(3 * FS) / FS
WAVE = (0.3 * np.sin(2 * np.pi * (200 + 100 * TIME) * TIME)).astype(np.float32)
KINDS = {"a.m4a": "aac", "a.mp4": "aac", "a.mkv": "flac", "a.webm": "libopus", "a.avi": "pcm_s16le"}


def write(path: Path, codec: str, channels: int = 1) -> Path:
    """The chirp, coded; a video has a black picture too."""
    layout = "stereo" if channels == 2 else "mono"
    with av.open(str(path), "w") as container:
        video = _picture(container) if path.suffix in (".mp4", ".avi") else None
        audio = container.add_stream(codec, rate=48000 if codec == "libopus" else FS)
        audio.layout = layout
        if video is not None:
            _mux_picture(container, video)
        samples = np.stack([WAVE, -0.5 * WAVE][:channels])
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout=layout)
        frame.sample_rate, frame.pts = FS, 0
        resampler = av.AudioResampler(audio.codec_context.format.name, layout, audio.rate, frame_size=1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(audio.encode(part))
        container.mux(audio.encode(None))
    return path


def _picture(container: Any) -> Any:
    video = container.add_stream("mpeg4", rate=1)
    video.width = video.height = 16
    video.pix_fmt = "yuv420p"
    return video


def _mux_picture(container: Any, video: Any) -> None:
    container.mux(video.encode(av.VideoFrame(16, 16, "yuv420p")))
    container.mux(video.encode(None))


@pytest.mark.parametrize("name", list(KINDS))
def test_whole_file(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, KINDS[name])
    wave, fs = read_audio(path, fs=FS)
    assert (wave.dtype, wave.ndim, fs) == (np.float32, 1, FS)
    assert len(WAVE) <= len(wave) <= len(WAVE) + 1024
    np.testing.assert_allclose(wave[2000:40000], WAVE[2000:40000], atol=0.05)
    np.testing.assert_array_equal(read_audio(path.read_bytes(), fs=FS)[0], wave)
    np.testing.assert_array_equal(read_audio(io.BytesIO(path.read_bytes()), fs=FS)[0], wave)
    samples, source_fs = audio_info(path)
    assert samples == len(read_audio(path)[0]) and source_fs == (48000 if name == "a.webm" else FS)


@pytest.mark.parametrize("name", ["a.m4a", "a.mkv", "a.avi"])
def test_parts_are_the_same_samples(name: str, tmp_path: Path) -> None:
    path = write(tmp_path / name, KINDS[name])
    wave = read_audio(path)[0]
    for start_s, end_s in ((0.0, 0.3), (0.25, 0.5), (1.5, 2.0), (2.9, 3.2)):
        part = wave[round(start_s * FS) : round(end_s * FS)]
        np.testing.assert_allclose(read_audio(path, start_s=start_s, end_s=end_s)[0], part, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([block for block, _ in media_blocks(path, "a")])[:, 0], wave)
    for start_s, end_s in ((4.0, 5.0), (1.0, 9.0), (2.0, 2.0)):
        with pytest.raises(DamagedUtteranceError, match=name):
            read_audio(path, start_s=start_s, end_s=end_s)


def test_channels(tmp_path: Path) -> None:
    path = write(tmp_path / "s.m4a", "aac", channels=2)
    both = read_audio(path, mono=False)[0]
    assert both.shape[1] == 2
    np.testing.assert_allclose(both[2000:40000], np.stack([WAVE, -0.5 * WAVE], 1)[2000:40000], atol=0.05)
    np.testing.assert_allclose(read_audio(path)[0], both.mean(1), atol=1e-6)


def test_a_damaged_or_silent_file_is_named(tmp_path: Path) -> None:
    whole = write(tmp_path / "a.m4a", "aac").read_bytes()
    (tmp_path / "cut.m4a").write_bytes(whole[: len(whole) // 4])
    with av.open(str(tmp_path / "mute.mp4"), "w") as container:
        _mux_picture(container, _picture(container))
    for name, reason in {"cut.m4a": "decoded", "mute.mp4": "no audio track"}.items():
        with pytest.raises(DamagedUtteranceError, match=reason) as raised:
            read_audio(tmp_path / name)
        assert name in str(raised.value)


def test_play_lists_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "a.m4a", "aac")
    (tmp_path / "list.m3u8").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:3,\n{tmp_path / 'a.m4a'}\n")
    (tmp_path / "list.wav").write_text("ffconcat version 1.0\nfile a.m4a\n")
    for name in ("list.m3u8", "list.wav"):
        with pytest.raises(DamagedUtteranceError, match="not audio"):
            read_audio(tmp_path / name)


def test_without_pyav_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.m4a", "aac")
    monkeypatch.setitem(sys.modules, "av", None)
    for read in (read_audio, audio_info):
        with pytest.raises(DamagedUtteranceError, match=r"a\.m4a.*pip install 'funasr\[media\]'"):
            read(path)

"""Formatting keeps the audio, cuts and resamples it, and leaves out what is damaged; manifests go there and back."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from funasr.bin import format_wav_scp, jsonl2scp, scp2jsonl
from funasr.utils.data_dir import read_table


def tone(seconds, fs=16000):
    return (0.5 * np.sin(2 * np.pi * 300 * np.arange(int(seconds * fs)) / fs)).astype(np.float32)


@pytest.fixture
def data(tmp_path):
    directory = tmp_path / "data"
    directory.mkdir()
    soundfile.write(directory / "b.wav", tone(0.5), 16000)
    soundfile.write(directory / "a.flac", tone(0.25, 8000), 8000)
    (directory / "bad.wav").write_bytes(b"RIFF....WAVE")
    (directory / "wav.scp").write_text(
        f"spk/b {directory}/b.wav\na {directory}/a.flac\nbad {directory}/bad.wav\nlost {directory}/lost.wav\n"
    )
    return directory


@pytest.mark.parametrize("audio_format", ["wav", "flac"])
@pytest.mark.parametrize("nj", ["1", "2"])
def test_resamples_and_names_the_damaged(data, tmp_path, audio_format, nj, caplog):
    out = tmp_path / "out"
    args = [str(data / "wav.scp"), str(out), "--fs", "16k", "--audio_format", audio_format, "--nj", nj]
    assert format_wav_scp.main(args) == 0
    scp = read_table(out / "wav.scp")
    assert list(scp) == ["spk/b", "a"] and all(path.endswith(audio_format) for path in scp.values())
    assert read_table(out / "utt2num_samples") == {"spk/b": "8000", "a": "4000"}
    samples, fs = soundfile.read(scp["spk/b"])
    assert fs == 16000
    np.testing.assert_allclose(samples, tone(0.5), atol=1e-4)
    np.testing.assert_allclose(soundfile.read(scp["a"])[0][500:3500], tone(0.25)[500:3500], atol=5e-3)
    assert not list(out.rglob("*.part"))


def test_own_rate_is_kept_without_fs(data, tmp_path):
    damaged = format_wav_scp.format_wav_scp(data / "wav.scp", tmp_path / "out")
    assert damaged.keys() == {"bad", "lost"}
    scp = read_table(tmp_path / "out" / "wav.scp")
    assert [soundfile.info(path).samplerate for path in scp.values()] == [16000, 8000]


def test_segments(data, tmp_path):
    (data / "segments").write_text("u1 spk/b 0.1 0.3\nu2 spk/b 0.3 0.5\nu3 spk/b 2 3\n")
    assert format_wav_scp.main([str(data / "wav.scp"), str(tmp_path / "out")]) == 0
    assert read_table(tmp_path / "out" / "utt2num_samples") == {"u1": "3200", "u2": "3200"}
    cut = soundfile.read(read_table(tmp_path / "out" / "wav.scp")["u1"])[0]
    np.testing.assert_allclose(cut, tone(0.5)[1600:4800], atol=1e-4)


def test_pipes_need_the_flag(data, tmp_path, capsys):
    marker = tmp_path / "ran"
    (data / "wav.scp").write_text(f"p touch {marker}; cat {data}/b.wav |\n")
    args = [str(data / "wav.scp"), str(tmp_path / "out")]
    assert format_wav_scp.main(args) == 1
    assert "--allow_pipes" in capsys.readouterr().err
    assert not marker.exists() and not (tmp_path / "out" / "wav.scp").exists()
    assert format_wav_scp.main([*args, "--allow_pipes", "true"]) == 0
    assert marker.exists() and read_table(tmp_path / "out" / "utt2num_samples") == {"p": "8000"}


def test_input_is_never_overwritten(data, capsys):
    before = (data / "wav.scp").read_text()
    assert format_wav_scp.main([str(data / "wav.scp"), str(data)]) == 1
    assert (data / "wav.scp").read_text() == before


@pytest.mark.parametrize("hydra", [False, True])
def test_manifest_there_and_back(data, tmp_path, hydra):
    (data / "text").write_text("a hello  world\nspk/b 你好\n")
    scps, manifest = [str(data / "wav.scp"), str(data / "text")], tmp_path / "m.jsonl"
    if hydra:
        fields = [f"++scp_file_list={json.dumps(scps)}", '++data_type_list=["source","target"]']
        assert scp2jsonl.main([*fields, f"++jsonl_file_out={manifest}"]) == 0
    else:
        fields = ["--scp_file_list", *scps, "--data_type_list", "source", "target"]
        assert scp2jsonl.main([*fields, "--jsonl_file_out", str(manifest)]) == 0
    records = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    assert records == [
        {"key": "spk/b", "source": f"{data}/b.wav", "target": "你好", "source_len": 50, "target_len": 2},
        {"key": "a", "source": f"{data}/a.flac", "target": "hello  world", "source_len": 25, "target_len": 2},
    ]
    back = [str(tmp_path / "wav.scp"), str(tmp_path / "text")]
    args = ["--jsonl_file_in", str(manifest), "--scp_file_list", *back, "--data_type_list", "source", "target"]
    assert jsonl2scp.main(args) == 0
    assert read_table(back[0]) == {"spk/b": f"{data}/b.wav", "a": f"{data}/a.flac"}
    assert read_table(back[1]) == {"spk/b": "你好", "a": "hello  world"}


def test_wrong_manifest_options(data, tmp_path, capsys):
    args = ["--scp_file_list", str(data / "wav.scp"), "--jsonl_file_out", str(tmp_path / "m"), "--data_type_list"]
    assert scp2jsonl.main([*args, "source", "target"]) == 1
    assert "different field" in capsys.readouterr().err

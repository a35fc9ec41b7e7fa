"""Labels from RTTM, segments, CTM and energy; what does not fit the recordings is said clearly."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import soundfile

from funasr.bin import vad_labels
from funasr.datasets.vad_labels import (
    fit_labels,
    format_segments,
    labels_from_ctm,
    labels_from_energy,
    labels_from_rttm,
    labels_from_segments,
    parse_segments,
    read_label_table,
)
from funasr.utils.errors import DataError


def test_label_text_is_that_of_a_detector() -> None:
    assert parse_segments("[[290, 3320], [4130, 6150]]") == [(0.29, 3.32), (4.13, 6.15)]
    assert format_segments([(0.29, 3.32), (4.13, 6.15)]) == "[[290, 3320], [4130, 6150]]"
    assert parse_segments("[]") == [] and format_segments([]) == "[]"
    assert parse_segments("[[500, 900], [0, 600]]") == [(0.0, 0.9)], "overlapping segments are one"


@pytest.mark.parametrize("text", ["", "290 3320", "[[1, 2, 3]]", "[[20, 10]]", "[[-5, 10]]", '[["a", 1]]', "7"])
def test_other_text_is_no_label(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="start"):
        parse_segments(text)
    if text:
        (tmp_path / "labels").write_text(f"a []\nb {text}\n")
        with pytest.raises(DataError, match=r"labels: b: "):
            read_label_table(tmp_path / "labels")


def test_sources_give_the_union(tmp_path: Path) -> None:
    (tmp_path / "r").write_text(
        "SPEAKER a 1 1.0 2.0 <NA> <NA> x\nSPEAKER a 1 2.5 1.0 <NA> <NA> y\nSPEAKER b 1 0.0 1.0 <NA> <NA> x\n"
    )
    (tmp_path / "s").write_text("u1 a 1.0 3.0\nu2 a 2.5 3.5\nu3 b 0 1\n")
    (tmp_path / "c").write_text(
        "a 1 1.0 0.9 one\na 1 2.0 1.5 two\nb 1 0 1.0 three 0.9\nb 1 1.0 3.0 <eps>\nc 1 0 2 sil\n"
    )
    wanted = {"a": [(1.0, 3.5)], "b": [(0.0, 1.0)]}
    assert labels_from_rttm(tmp_path / "r") == wanted
    assert labels_from_segments(tmp_path / "s") == wanted
    assert labels_from_ctm(tmp_path / "c") == {**wanted, "c": []}
    assert labels_from_ctm(tmp_path / "c", max_gap_s=0.05)["a"] == [(1.0, 1.9), (2.0, 3.5)]


@pytest.mark.parametrize(
    "reader, line, message",
    [
        (labels_from_rttm, "", "no SPEAKER record"),
        (labels_from_segments, "", "no segment"),
        (labels_from_ctm, "", "no word"),
        (labels_from_segments, "u1 a 1.0", ":1: must read"),
        (labels_from_segments, "u1 a 2.0 1.0", "must lie behind"),
        (labels_from_segments, "u1 a x 1.0", "times in s"),
        (labels_from_ctm, "a 1 1.0 -1 w", "negative"),
        (labels_from_ctm, "a 1 1.0", "must read"),
    ],
)
def test_wrong_sources_are_named(tmp_path: Path, reader, line: str, message: str) -> None:
    (tmp_path / "source").write_text(line + "\n")
    with pytest.raises(DataError, match=message) as caught:
        reader(tmp_path / "source")
    assert "source" in str(caught.value)


def test_labels_must_fit_the_recordings(caplog: pytest.LogCaptureFixture) -> None:
    durations = {"a": 10.0, "b": 5.0}
    good = {"a": [(1.0, 10.05)], "b": [(0.0, 2.0)]}
    assert fit_labels(good, durations, "x.rttm") == {"a": [(1.0, 10.0)], "b": [(0.0, 2.0)]}
    beyond = {**good, "b": [(1.0, 7.0), (8.0, 9.0)]}
    with pytest.raises(DataError, match=r"x.rttm: b has speech until 9.000 s, .* ends at 5.000 s.*--clip true"):
        fit_labels(beyond, durations, "x.rttm")
    assert fit_labels(beyond, durations, "x.rttm", clip=True)["b"] == [(1.0, 5.0)]
    with pytest.raises(DataError, match=r"no labels for b.*--missing_is_silence true"):
        fit_labels({"a": []}, durations, "x.rttm")
    assert fit_labels({"a": []}, durations, "x.rttm", missing_is_silence=True) == {"a": [], "b": []}
    with pytest.raises(DataError, match=r"no labels for a, b; it knows c, which are no recordings"):
        fit_labels({"c": [(0.0, 1.0)]}, durations, "x.rttm", missing_is_silence=True)
    with caplog.at_level(logging.WARNING):
        fit_labels({**good, "zz": []}, durations, "x.rttm")
    assert "labels of zz are not used" in caplog.text


def tone(parts: list[tuple[float, float]], fs: int = 16000) -> np.ndarray:
    """(seconds, level in dB) each, in faint noise."""
    rng = np.random.default_rng(0)
    pieces = [10 ** (level / 20) * np.sin(np.arange(int(s * fs)) * 0.2) for s, level in parts]
    return (np.concatenate(pieces) + 1e-4 * rng.standard_normal(sum(map(len, pieces)))).astype(np.float32)


def test_energy_finds_what_is_loud() -> None:
    wave = tone([(0.5, -99), (1.0, -12), (0.15, -99), (0.5, -20), (1.0, -99), (0.02, -12), (0.5, -99), (0.8, -12)])
    found = labels_from_energy(wave, 16000, max_gap_s=0.3, pad_s=0.0)
    assert np.allclose(found, [(0.5, 2.15), (3.67, 4.47)], atol=0.03), "a short gap is filled, a click is not speech"
    padded = labels_from_energy(wave, 16000, max_gap_s=0.0, pad_s=0.05)
    assert np.allclose(padded, [(0.45, 1.55), (1.6, 2.2), (3.62, 4.47)], atol=0.03)


def test_energy_of_silence_and_of_steady_sound() -> None:
    assert labels_from_energy(np.zeros(16000, dtype=np.float32), 16000) == []
    assert labels_from_energy(np.zeros(10, dtype=np.float32), 16000) == []
    assert labels_from_energy(tone([(2.0, -12)]), 16000) == [(0.0, 2.0)]


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", tone([(0.5, -99), (1.0, -12), (0.5, -99)]), 16000)
    (tmp_path / "wav.scp").write_text(f"a {tmp_path}/a.wav\nb {tmp_path}/b.wav\n")
    return tmp_path


def test_command(recordings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--wav_scp", str(recordings / "wav.scp"), "--output", str(recordings / "labels")]
    assert vad_labels.main([*common, "--energy", "--pad", "0"]) == 0
    labels = read_label_table(recordings / "labels")
    assert np.allclose(labels["a"], [(0.5, 1.5)], atol=0.03) and labels["a"] == labels["b"]
    assert vad_labels.main([*common, "--no_speech"]) == 0
    assert (recordings / "labels").read_text() == "a []\nb []\n"
    (recordings / "r").write_text("SPEAKER a 1 1.0 5.0 <NA> <NA> x\n")
    assert vad_labels.main([*common, "--rttm", str(recordings / "r")]) == 2
    assert "no labels for b" in capsys.readouterr().err
    options = ["--rttm", str(recordings / "r"), "--missing_is_silence", "true"]
    assert vad_labels.main([*common, *options]) == 2
    assert "until 6.000 s, but the recording ends at 2.000 s" in capsys.readouterr().err
    assert vad_labels.main([*common, *options, "--clip", "true"]) == 0
    assert (recordings / "labels").read_text() == "a [[1000, 2000]]\nb []\n"

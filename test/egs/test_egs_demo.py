"""The last step of the demo: the recording is what its tables say, and the comparison counts what went wrong."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import wave
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from funasr.utils.rttm import read_rttm

LOCAL = Path(__file__).parents[2] / "egs" / "mini" / "demo" / "local"


def make(directory: Path) -> dict[str, bytes]:
    pytest.importorskip("espeakng_loader")
    command = [sys.executable, str(LOCAL / "make_recording.py"), "--output_dir", str(directory), "--seconds", "25"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_recording(tmp_path: Path) -> None:
    files = make(tmp_path / "a")
    assert files == make(tmp_path / "b")
    assert sorted(files) == ["recording.rttm", "recording.wav", "said.jsonl"]
    said = [json.loads(line) for line in files["said.jsonl"].splitlines()]
    turns = read_rttm(tmp_path / "a" / "recording.rttm")["recording"]
    assert [turn.speaker for turn in turns] == [one["speaker"] for one in said]
    for name in ("start", "end"):
        assert [getattr(turn, name) for turn in turns] == pytest.approx([one[name] for one in said], abs=0.002)
    with wave.open(str(tmp_path / "a" / "recording.wav"), "rb") as file:
        fs = file.getframerate()
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").astype(float)
    assert 25 <= len(samples) / fs < 60 and said[-1]["end"] < len(samples) / fs
    assert len({one["speaker"] for one in said}) > 2
    speech = np.concatenate([samples[int(fs * one["start"]) : int(fs * one["end"])] for one in said])
    start = samples[: int(fs * said[0]["start"])]
    assert np.sqrt(np.mean(speech**2)) > 5 * np.sqrt(np.mean(start**2))


@pytest.fixture(scope="module")
def transcribe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mini_transcribe", LOCAL / "transcribe.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_score_of_words_and_marks(transcribe: ModuleType) -> None:
    said = "Open door two, please. Is room six free? Three."
    words, marks = transcribe.score(said, said)
    assert words.errors == 0 and all(mark.f1 == 1 for mark in marks.marks.values())
    words, marks = transcribe.score(said, "Open door two. Please is room sixty free? Three.")
    assert (words.sub, words.ins, words.dele, words.words) == (1, 0, 0, 9)
    assert (marks[","].right, marks["."].right, marks["?"].right) == (0, 0, 1)
    words, marks = transcribe.score(said, "Open door two, please. Is room six? Three.")
    assert words.dele == 1 and (marks["?"].right, marks["?"].given, marks["?"].wanted) == (0, 1, 1)


def test_sentences_have_the_times_of_their_words(transcribe: ModuleType) -> None:
    times = [[0, 300], [300, 600], [900, 1000], [1200, 1500], [1500, 1800]]
    found = transcribe.sentences_of({"text": "Open door two. Is it", "timestamp": times})
    assert [(one.start, one.end, one.text) for one in found] == [(0.0, 1.0, "Open door two."), (1.2, 1.8, "Is it")]

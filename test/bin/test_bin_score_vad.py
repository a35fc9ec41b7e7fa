"""score_vad: systems side by side, files that write_results understands, wrong input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from funasr.bin import score_vad, write_results


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(16000), 16000)
    (tmp_path / "wav.scp").write_text(f"a {tmp_path}/a.wav\nb {tmp_path}/b.wav\n")
    (tmp_path / "ref").write_text("a [[100, 600]]\nb []\n")
    (tmp_path / "hyp").write_text("a [[200, 700]]\nb [[0, 50]]\n")
    ramp = " ".join(f"{value:.3f}" for value in np.r_[np.zeros(10), np.linspace(1, 0.51, 50), np.zeros(38)])
    (tmp_path / "prob").write_text(f"a {ramp}\nb {' '.join(['0.1'] * 98)}\n")
    return tmp_path


def run(data: Path, *words: str) -> int:
    return score_vad.main(["--ref", str(data / "ref"), "--wav_scp", str(data / "wav.scp"), *words])


def test_systems_side_by_side(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = data / "exp" / "m" / "decode" / "dev" / "score_vad"
    systems = ("--hyp", f"one={data}/hyp", "--hyp", f"same={data}/ref", "--scores", f"one={data}/prob")
    assert run(data, *systems, "--output_dir", str(out), "--name", "dev") == 0
    result = json.loads((out / "result.json").read_text())["systems"]
    one = result["one"]
    assert (one["hit"], one["miss"], one["false_alarm"], one["correct_rejection"]) == (40, 10, 15, 135)
    assert one["boundaries"]["start_bias_ms"] == 100.0 and one["boundaries"]["found_segments"] == 2
    assert (result["same"]["f1"], result["one (frames)"]["f1"]) == (1.0, 1.0)
    assert result["one (frames)"]["equal_error_rate"] == 0.0
    assert "best F1 100.00" in capsys.readouterr().out and (out / "det.svg").is_file()
    assert write_results.main(["--exp", str(data / "exp"), "--output", str(data / "R.md")]) == 0
    lines = (data / "R.md").read_text().splitlines()
    head = next(line for line in lines if line.startswith("|dataset|system|F1|"))
    row = next(line for line in lines if line.startswith("|decode/dev|one|"))
    assert head.count("|") == row.count("|") and "|76.19|" in row and "### Voice activity, %" in lines


def test_noise_alone_has_false_alarms_only(data: Path) -> None:
    (data / "ref").write_text("a []\nb []\n")
    assert run(data, "--hyp", f"one={data}/hyp", "--output_dir", str(data / "s")) == 0
    one = json.loads((data / "s" / "result.json").read_text())["systems"]["one"]
    assert one["recall"] is None and one["false_alarm_rate"] == 0.275
    assert "27.50" in (data / "s" / "result.txt").read_text()


def test_a_missing_recording_counts_as_missed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "hyp").write_text("b []\n")
    assert run(data, "--hyp", f"one={data}/hyp") == 0
    assert "no result for 1 recordings, e.g. a" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        ((), "nothing to score"),
        (("--hyp", "hyp"), "NAME=FILE"),
        (("--hyp", "x=none"), "none does not exist"),
        (("--scores", "x=short"), "a has 3 values, but lasts 100 frames"),
        (("--scores", "x=other"), "none of the recordings"),
        (("--hyp", "x=prob"), "prob: a: "),
    ],
)
def test_wrong_input(
    data: Path,
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (data / "short").write_text("a 0.1 0.2 0.3\nb 0.1\n")
    (data / "other").write_text("c 0.1\n")
    monkeypatch.chdir(data)
    assert run(data, *words) == 2
    assert message in capsys.readouterr().err


def test_labels_of_the_reference_must_fit(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (data / "ref").write_text("a [[100, 3600]]\nb []\n")
    assert run(data, "--hyp", f"one={data}/hyp") == 2
    assert "the recording ends at 1.000 s" in capsys.readouterr().err

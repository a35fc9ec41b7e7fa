"""The front end of a run is built once, however many parts of the run ask for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from funasr.frontends import wav_frontend
from funasr.tasks.asr import ASRTask


def test_statistics_are_read_once_in_a_run(options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mvn = "<Nnet>\n<Splice> 72 72\n[ 0 ]\n<AddShift> 72 72\n<LearnRateCoef> 0 [ {0} ]\n<Rescale> 72 72\n" + (
        "<LearnRateCoef> 0 [ {1} ]\n</Nnet>\n"
    )
    (tmp_path / "am.mvn").write_text(mvn.format(" ".join(["-1.0"] * 72), " ".join(["0.5"] * 72)))
    read: list[Any] = []
    original = wav_frontend.read_cmvn
    monkeypatch.setattr(wav_frontend, "read_cmvn", lambda path: (read.append(path), original(path))[1])
    cmd = [*options, "--cmvn_file", f"{tmp_path}/am.mvn", "--output_dir", str(tmp_path / "exp"), "--max_epoch", "1"]
    ASRTask.main(cmd=cmd)
    assert len(read) == 1


def test_other_options_make_another_front_end(options: list[str]) -> None:
    words = ([], ["--frontend_conf", "fs=16000"], ["--input_size", "80"])
    first, second, ready_made = (ASRTask.get_parser().parse_args([*options, *more]) for more in words)
    for args in (first, second, ready_made):
        ASRTask.resolve_choices(args)
    assert ASRTask.frontend(first) is ASRTask.frontend(first)
    assert (ASRTask.sample_rate(first), ASRTask.sample_rate(second), ASRTask.sample_rate(first)) == (8000, 16000, 8000)
    assert ASRTask.frontend(ready_made) is None and ASRTask.sample_rate(ready_made) is None

"""A run that was cut off and resumed ends with the same bits as one that was not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from train_toy import ToyData, ToyModel, toy_trainer

from funasr.utils.errors import ConfigError
from funasr.utils.weights import load_plain


def run_program(output_dir: Path, options: dict[str, Any], data: dict[str, Any] | None = None) -> int:
    spec = {"options": options, "data": data or {}, "dropout": 0.3}
    program = Path(__file__).with_name("train_toy.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(program.parents[2])}
    command = [sys.executable, program, json.dumps(spec), output_dir]
    return subprocess.run(command, env=environment, timeout=120, check=False).returncode


def equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return a == b or (a != a and b != b)


def assert_same_end(one: Path, two: Path) -> None:
    first, second = (load_plain(path / "checkpoint/last.pt") for path in (one, two))
    for part in first:
        assert equal(first[part], second[part]), part


@pytest.mark.parametrize("epochs", [1, 2])
def test_resume_between_epochs(tmp_path: Path, epochs: int) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    toy_trainer(whole, {"max_epoch": 3}, model=ToyModel(0.3)).run()
    toy_trainer(cut, {"max_epoch": epochs}, model=ToyModel(0.3)).run()
    toy_trainer(cut, {"max_epoch": 3, "resume": True}, model=ToyModel(0.3)).run()
    assert_same_end(whole, cut)


def test_killed_inside_an_epoch(tmp_path: Path) -> None:
    """SIGKILL while reading batch 6 of epoch 2; the last save was after update 4 of that epoch (with accumulation)."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = {"max_epoch": 3, "save_interval_steps": 2, "accum_grad": 2, "resume": True}
    toy_trainer(whole, options, ToyData(9), model=ToyModel(0.3)).run()
    assert run_program(cut, options, {"count": 9, "kill_at": (2, 6)}) == -signal.SIGKILL
    state = load_plain(cut / "checkpoint/last.pt")
    assert (state["progress"]["epoch"], state["progress"]["batch"]) == (2, 2)
    toy_trainer(cut, options, ToyData(9), model=ToyModel(0.3)).run()
    assert_same_end(whole, cut)


@pytest.mark.parametrize("at", [(2, 3), (2, 5)])
def test_sigterm_saves_and_ends(tmp_path: Path, at: tuple[int, int]) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    toy_trainer(whole, {"max_epoch": 3}, model=ToyModel(0.3)).run()
    result = toy_trainer(cut, {"max_epoch": 3}, ToyData(term_at=at), model=ToyModel(0.3)).run()
    assert result.reason == "interrupted" and result.final_model is None
    toy_trainer(cut, {"max_epoch": 3, "resume": True}, model=ToyModel(0.3)).run()
    assert_same_end(whole, cut)


def test_signal_in_validation(tmp_path: Path) -> None:
    """The state says that all batches are done; the next run begins with the validation."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    toy_trainer(whole, model=ToyModel(0.3)).run()
    stopped = toy_trainer(cut, model=ToyModel(0.3), valid=ToyData(2, term_at=(1, 1))).run()
    assert (stopped.reason, stopped.epoch) == ("interrupted", 1)
    toy_trainer(cut, {"resume": True}, model=ToyModel(0.3)).run()
    assert_same_end(whole, cut)


def test_resume_after_the_end_only_averages(tmp_path: Path) -> None:
    toy_trainer(tmp_path).run()
    (tmp_path / "valid.loss.ave.pt").unlink()
    result = toy_trainer(tmp_path, {"resume": True}).run()
    assert result.num_updates == 12 and (tmp_path / "valid.loss.ave.pt").is_file()


def test_without_resume_training_starts_anew(tmp_path: Path) -> None:
    toy_trainer(tmp_path).run()
    assert toy_trainer(tmp_path, {"max_epoch": 1}).run().num_updates == 6


def test_state_of_another_model_is_refused(tmp_path: Path) -> None:
    toy_trainer(tmp_path).run()
    other = ToyModel()
    other.net[0] = torch.nn.Linear(4, 9)
    with pytest.raises(ConfigError, match="does not fit"):
        toy_trainer(tmp_path, {"resume": True}, model=other).run()


def test_truncated_state_is_named(tmp_path: Path) -> None:
    toy_trainer(tmp_path).run()
    last = tmp_path / "checkpoint/last.pt"
    last.write_bytes(last.read_bytes()[:1000])
    with pytest.raises(ConfigError, match=r"last\.pt is truncated"):
        toy_trainer(tmp_path, {"resume": True}).run()

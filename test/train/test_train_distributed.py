"""Two processes on one machine train what one process trains; failures and stops are clean."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from train_toy import ToyData, toy_trainer

from funasr.train.distributed import (
    FORK_PAUSE_S,
    Distributed,
    DistributedOptions,
    _guard_forks,
    _report,
    first_host,
    init_distributed,
    workers_to_launch,
)
from funasr.utils.errors import ConfigError
from funasr.utils.weights import load_plain, load_weights

PROGRAM = Path(__file__).with_name("train_toy.py")
LAUNCH = "import sys; from funasr.train.distributed import launch_workers; sys.exit(launch_workers(2, sys.argv[1:]))"


def launch(output_dir: Path, options: dict[str, Any], data: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    spec = json.dumps({"options": options, "data": data})
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROGRAM.parents[2])}
    command = [sys.executable, "-c", LAUNCH, str(PROGRAM), spec, str(output_dir)]
    return subprocess.run(command, env=environment, timeout=180, capture_output=True, text=True, check=False)


def test_two_processes_equal_one(tmp_path: Path) -> None:
    """With accumulation, a remainder, a NaN batch that one rank meets, and validation shards."""
    special = {"count": 5, "nan_at": [(1, 2)]}
    options = {"accum_grad": 2, "max_epoch": 2}
    one = toy_trainer(tmp_path / "one", options, ToyData(**special))
    one.run()
    done = launch(tmp_path / "two", options, special)
    assert done.returncode == 0, done.stderr
    assert not any("gloo" in (tmp_path / f"two/threads.{rank}").read_text() for rank in (0, 1))  # they could abort it
    a, b = (load_weights(tmp_path / name / "checkpoint/epoch.2.pt") for name in ("one", "two"))
    assert all(torch.allclose(a[k], b[k], atol=1e-6) for k in a)
    lines = (tmp_path / "two/log/metrics.jsonl").read_text().splitlines()
    valid = [e["values"]["loss"] for e in map(json.loads, lines) if e["event"] == "valid_epoch"]
    assert valid == pytest.approx([one.reporter.get_value("valid", "loss", e) for e in (1, 2)], rel=1e-5)


def test_error_of_a_child_is_shown_once_and_ends_all(tmp_path: Path) -> None:
    done = launch(tmp_path, {"max_epoch": 1}, {"fail_at": (1, 2), "fail_rank": 1})
    assert done.returncode == 1
    assert done.stderr.count("ValueError: the toy fails here") == 1
    assert "rank 1 of 2 failed" in done.stderr
    assert "gloo" not in (tmp_path / "threads.1").read_text()


def test_the_rank_that_failed_first_is_named_though_another_dies_first(tmp_path: Path) -> None:
    done = launch(tmp_path, {"max_epoch": 1}, {"fail_at": (1, 2), "fail_rank": 1, "linger_s": 60})
    assert done.returncode == 1
    assert "ValueError: the toy fails here" in done.stderr
    assert "rank 1 of 2 failed" in done.stderr


@pytest.mark.parametrize(
    ("noted", "seen", "culprit", "status"),
    [
        ({1: 99.5}, {1: (1, 99), 0: (-signal.SIGTERM, 99)}, 1, 1),  # the launcher ended rank 0, which was busy
        ({1: 99.5}, {1: (1, 99), 0: (-signal.SIGKILL, 130)}, 1, 1),  # as above, and it did not heed SIGTERM
        ({0: 99.5}, {0: (1, 100), 1: (-signal.SIGKILL, 100)}, 1, 137),  # rank 1 was killed, rank 0 lost its peer
        ({0: 99.9}, {0: (1, 100), 1: (1, 100)}, 1, 1),  # rank 1 never joined
        ({0: 99.9, 1: 99.5}, {0: (1, 99), 1: (-signal.SIGTERM, 100)}, 1, 1),
        ({0: 99.9, 1: 99.5}, {0: (1, 99)}, 1, 1),
    ],
)
def test_the_culprit_is_told_from_its_victims(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    noted: dict[int, float],
    seen: dict[int, tuple[int, int]],
    culprit: int,
    status: int,
) -> None:
    for rank, time in noted.items():
        (tmp_path / f"failed.{rank}").write_text(str(time))
    failures = {rank: ProcessFailure(rank, 1, code, "") for rank, (code, _) in seen.items()}
    for rank, (_, timestamp) in seen.items():
        failures[rank].timestamp = timestamp
    assert _report(ChildFailedError("toy", failures), tmp_path, 2) == status
    assert f"rank {culprit} of 2 failed" in capsys.readouterr().err


def test_damaged_batch_of_one_rank_and_a_signal_to_it(tmp_path: Path) -> None:
    """Rank 1 has nothing usable in batch 1 and keeps in step; a signal to one rank stops both after the same update."""
    special = {"empty_at": [(1, 1)], "empty_rank": 1, "term_at": (1, 3)}
    done = launch(tmp_path, {"max_epoch": 9}, special)
    assert done.returncode == 0 and (tmp_path / "result").read_text() == "interrupted", done.stderr
    progress = load_plain(tmp_path / "checkpoint/last.pt")["progress"]
    assert progress["epoch"] == 1 and progress["num_updates"] == progress["batch"] < 6


def test_one_process_needs_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    assert init_distributed(DistributedOptions()) == Distributed()
    assert workers_to_launch(DistributedOptions()) == 0
    assert workers_to_launch(DistributedOptions(nproc=3)) == 3
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert workers_to_launch(DistributedOptions(nproc=3)) == 0


def test_missing_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ConfigError, match="MASTER_ADDR"):
        init_distributed(DistributedOptions())


def test_forks_wait_for_threads_that_are_entering_python(monkeypatch: pytest.MonkeyPatch) -> None:
    before: list[Callable[[], None]] = []
    monkeypatch.setattr(os, "register_at_fork", lambda **hooks: before.append(hooks["before"]))
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    _guard_forks.cache_clear()
    init_distributed(DistributedOptions())
    init_distributed(DistributedOptions())
    _guard_forks.cache_clear()
    entered = threading.Event()
    thread = threading.Timer(FORK_PAUSE_S / 10, entered.set)
    thread.start()
    before.pop()()
    assert entered.is_set() and not before


@pytest.mark.parametrize(
    ("nodes", "host"),
    [("gpu[03-05,9],cpu1", "gpu03"), ("a1,a2", "a1"), ("node7", "node7"), ("n[1,3]-ib", "n1-ib"), ("", "")],
)
def test_first_host_of_a_slurm_list(nodes: str, host: str) -> None:
    assert first_host(nodes) == host

"""A second run in an experiment directory is refused; a killed one leaves nothing in the way."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from funasr.tasks.asr import ASRTask
from funasr.train.run_lock import run_lock
from funasr.utils.errors import ConfigError

# A run with a loader process, which outlives it.
HOLD = """
import os, sys, time
from funasr.train.run_lock import run_lock
with run_lock(sys.argv[1]):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


@contextmanager
def other_run(directory: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that holds the lock, and the id of its child."""
    with subprocess.Popen([sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            yield process, child
        finally:
            process.kill()
            subprocess.run(["kill", "-9", str(child)], check=False)


def test_a_second_run_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    with other_run(tmp_path / "exp") as (process, _):
        with pytest.raises(ConfigError, match=rf"exp is in use by a training run \(process {process.pid} on .* since"):
            run_lock(tmp_path / "exp").__enter__()
        process.send_signal(signal.SIGKILL)
        process.wait()
        with run_lock(tmp_path / "exp"):
            assert (tmp_path / "exp" / ".lock").is_file()
    with run_lock(tmp_path / "exp"):
        pass


def test_the_task_refuses_before_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "tokens.txt").write_text("<blank>\n<s>\n</s>\na\n<unk>\n")
    exp = tmp_path / "exp"
    with other_run(exp), pytest.raises(SystemExit) as exit_info:
        ASRTask.main(cmd=["--output_dir", str(exp), "--token_list", f"{tmp_path}/tokens.txt", "--dry_run", "true"])
    assert exit_info.value.code == 2 and f"{exp} is in use by a training run" in capsys.readouterr().err
    assert [path.name for path in exp.iterdir()] == [".lock"]

"""The launcher runs numbered jobs with a log each, fails if one fails, and drives sbatch and qsub in the same way."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from funasr.bin import launch
from funasr.utils.errors import ConfigError

# Stand-ins for the schedulers: they note their arguments and run each array task in turn.
FAKE = """#!{python}
import os, re, subprocess, sys
words = sys.argv[1:]
open(os.environ["FAKE_LOG"], "w").write(" ".join(words))
text = " ".join(words)
first, last = map(int, re.search(r"(?:--array=|-t )(\\d+)-(\\d+)", text).groups())
codes = []
for number in range(first, last + 1):
    env = dict(os.environ, **{{"{variable}": str(number)}})
    codes.append(subprocess.run(["bash", words[-1]], env=env, stderr=subprocess.DEVNULL).returncode)
sys.exit(max(codes))
"""


@pytest.fixture
def fake_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Directory with executables sbatch and qsub on PATH; returns the file that holds their last arguments."""
    for name, variable in (("sbatch", "SLURM_ARRAY_TASK_ID"), ("qsub", "SGE_TASK_ID")):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(FAKE.format(python=sys.executable, variable=variable))
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "arguments"))
    monkeypatch.setenv("PYTHONPATH", str(Path(launch.__file__).parents[2]))
    monkeypatch.setattr(launch, "LOG_WAIT_S", 0.3)
    return tmp_path / "arguments"


def test_each_job_has_its_number_and_its_log(tmp_path: Path) -> None:
    code = launch.main(["JOB=1:3", f"{tmp_path}/log/x.JOB.log", "echo", "job", "JOB", "of JOB parts"])
    assert code == 0
    for number in (1, 2, 3):
        lines = (tmp_path / "log" / f"x.{number}.log").read_text().splitlines()
        assert lines[0] == f"# echo job {number} 'of {number} parts'"
        assert lines[1].startswith("# Started at ")
        assert f"job {number} of {number} parts" in lines
        assert lines[-1].startswith("# Ended (code 0) at ") and lines[-1].endswith(" s")


def test_a_single_command_needs_no_array(tmp_path: Path) -> None:
    assert launch.main([f"{tmp_path}/one.log", "true"]) == 0
    assert "(code 0)" in (tmp_path / "one.log").read_text()


def test_a_failing_job_is_named_with_the_end_of_its_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    script = "echo about to break; test JOB != 2 || exit 3"
    assert launch.main(["JOB=1:3", f"{tmp_path}/x.JOB.log", "bash", "-c", script]) == 1
    shown = capfd.readouterr().err
    assert "1 of 3 jobs failed" in shown
    assert f"{tmp_path}/x.2.log (exit code 3)" in shown and "x.1.log" not in shown
    assert "about to break" in shown
    assert "(code 3)" in (tmp_path / "x.2.log").read_text()


def test_a_command_that_does_not_exist_fails(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert launch.main([f"{tmp_path}/x.log", "no-such-program-here"]) == 1
    assert "no-such-program-here" in capfd.readouterr().err


def test_max_jobs_run_bounds_the_jobs_at_one_time(tmp_path: Path) -> None:
    running = tmp_path / "running"
    running.mkdir()
    script = f"touch {running}/JOB; ls {running} | wc -l; sleep 0.1; rm {running}/JOB"
    assert launch.main(["--max-jobs-run", "2", "JOB=1:6", f"{tmp_path}/x.JOB.log", "bash", "-c", script]) == 0
    seen = [int((tmp_path / f"x.{n}.log").read_text().splitlines()[3]) for n in range(1, 7)]
    assert max(seen) <= 2


def pid_from_terminated_launcher(directory: Path, script: str) -> int:
    """What a job wrote to `directory`/pid before its launcher was terminated."""
    pid_file = directory / "pid"
    words = [sys.executable, "-m", "funasr.bin.launch", f"{directory}/x.log", "bash", "-c", script]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, cwd=Path(launch.__file__).parents[2])
    deadline = time.monotonic() + 20
    while not (pid_file.is_file() and pid_file.read_text().strip()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=20) == 1
    return int(pid_file.read_text())


def test_a_terminated_launcher_ends_its_jobs(tmp_path: Path) -> None:
    pid = pid_from_terminated_launcher(tmp_path, f"echo $$ > {tmp_path}/pid; exec sleep 60")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert "# Ended (code -15)" in (tmp_path / "x.log").read_text()


def test_what_a_terminated_job_started_ends_too(tmp_path: Path) -> None:
    pid = pid_from_terminated_launcher(tmp_path, f"sleep 60 & echo $! > {tmp_path}/pid; wait")
    time.sleep(0.2)
    state = Path(f"/proc/{pid}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("slurm", ["--array=1-3%2", "--wait", "--mem=4G", "--gres=gpu:1"]),
        ("queue", ["-t 1-3", "-tc 2", "-sync y", "-l mem_free=4G", "-l gpu=1"]),
    ],
)
def test_clusters_run_an_array(tmp_path: Path, fake_scheduler: Path, backend: str, expected: list[str]) -> None:
    options = ["--backend", backend, "--mem", "4G", "--gpu", "1", "--max-jobs-run", "2"]
    assert launch.main([*options, "JOB=1:3", f"{tmp_path}/log/x.JOB.log", "echo", "part", "JOB"]) == 0
    arguments = fake_scheduler.read_text()
    assert all(flag in arguments for flag in expected), arguments
    for number in (1, 2, 3):
        assert f"part {number}" in (tmp_path / "log" / f"x.{number}.log").read_text().splitlines()


@pytest.mark.parametrize("backend", ["slurm", "queue"])
def test_clusters_report_the_failed_job(
    tmp_path: Path, fake_scheduler: Path, backend: str, capfd: pytest.CaptureFixture[str]
) -> None:
    script = "test JOB != 3"
    assert launch.main(["--backend", backend, "JOB=1:3", f"{tmp_path}/x.JOB.log", "bash", "-c", script]) == 1
    assert "x.3.log (exit code 1)" in capfd.readouterr().err


def test_a_log_of_an_earlier_run_does_not_pass_for_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "LOG_WAIT_S", 0.1)
    (tmp_path / "x.log").write_text("# Ended (code 0) at noon\n")
    jobs = launch.parse_jobs([f"{tmp_path}/x.log", "true"])
    assert launch.submit("slurm", jobs, ["true"], None) == [-1]


def test_config_maps_options_to_flags() -> None:
    config = "command sbatch -A me\ndefault gpu=0\noption gpu=0 -p cpu\noption gpu=* -p gpu --gres=gpu:$0 # cards\n"
    none: dict[str, str | None] = {"gpu": None, "mem": None}
    assert launch.scheduler_words(config, none) == ["sbatch", "-A", "me", "-p", "cpu"]
    assert launch.scheduler_words(config, {**none, "gpu": "2"})[3:] == ["-p", "gpu", "--gres=gpu:2"]
    with pytest.raises(ConfigError, match="nothing about --mem 4G"):
        launch.scheduler_words(config, {**none, "mem": "4G"})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expected"),
        (["JOB=1:2", "x.log"], "expected"),
        (["JOB=1:2", "x.log", "true"], "share the log"),
        (["JOB=0:2", "x.JOB.log", "true"], "start at 1"),
        (["JOB=3:2", "x.JOB.log", "true"], "must not fall"),
    ],
)
def test_wrong_usage_is_explained(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert launch.main(words) == 2
    assert message in capsys.readouterr().err

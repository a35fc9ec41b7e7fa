"""Run one command, or an array of numbered jobs, on this machine or on a cluster, with a log file for each job.

    python -m funasr.bin.launch --backend local --max-jobs-run 4 JOB=1:8 log/decode.JOB.log my_command --split JOB

Every `JOB` in the log name and in the command becomes the job's number.  A log begins with the command and the time
and ends with the elapsed time and the exit code.  If a job fails the launcher fails, lists the failed logs and shows
the end of the first.  The command is an argument list, not shell text: use `bash -c '...'` for pipes.

Back ends: `local` (processes here), `slurm` (`sbatch --array --wait`), `queue` (SGE, `qsub -t -sync y`).  On a
cluster each array task runs this same launcher with `--backend local`, so logs look alike everywhere.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import FrameType

from funasr.utils.errors import ConfigError

TAIL_LINES = 15
LOG_WAIT_S = 10.0  # a shared file system may show a job's last line a little late
ENDED = re.compile(r"^# Ended \(code (-?\d+)\)", re.MULTILINE)
ARRAY = re.compile(r"^([A-Za-z_]\w*)=(\d+)(?::(\d+))?$")

# Options of the launcher -> flags of the scheduler, in the syntax of `--config` files.
DEFAULT_CONFIG = {
    "slurm": """
command sbatch --export=ALL
option time=* --time=$0
option mem=* --mem=$0
option num_threads=* --cpus-per-task=$0
option gpu=0
option gpu=* --gres=gpu:$0
""",
    "queue": """
command qsub -V -cwd -S /bin/bash
option time=* -l h_rt=$0
option mem=* -l mem_free=$0
option num_threads=* -pe smp $0
option gpu=0
option gpu=* -l gpu=$0
""",
}


@dataclass(frozen=True)
class Jobs:
    """An array of jobs: the command and log as templates, `name` standing for the number from `first` to `last`."""

    command: tuple[str, ...]
    log: str
    name: str | None = None
    first: int = 1
    last: int = 1

    @property
    def numbers(self) -> range:
        return range(self.first, self.last + 1)

    def log_of(self, number: int) -> Path:
        """Log file of one job."""
        return Path(self._fill(self.log, number))

    def command_of(self, number: int) -> list[str]:
        """Argument list of one job."""
        return [self._fill(word, number) for word in self.command]

    def _fill(self, text: str, number: int) -> str:
        return text.replace(self.name, str(number)) if self.name else text


def parse_jobs(words: list[str]) -> Jobs:
    """`[JOB=1:N] LOG COMMAND...` -> Jobs.  Raises ConfigError with the syntax if a part is missing."""
    array = ARRAY.match(words[0]) if words else None
    if array:
        words = words[1:]
    if len(words) < 2:
        raise ConfigError("expected: launch [options] [JOB=1:N] LOG COMMAND [ARGUMENT ...]")
    log, *command = words
    if not array:
        return Jobs(tuple(command), log)
    name, first = array[1], int(array[2])
    last = int(array[3] or first)
    if not 1 <= first <= last:
        raise ConfigError(f"{array[0]}: job numbers start at 1 and must not fall")
    if first < last and name not in log:
        raise ConfigError(f"{last - first + 1} jobs would share the log {log}: put {name} in its name")
    return Jobs(tuple(command), log, name, first, last)


def scheduler_words(config: str, options: dict[str, str | None], where: str = "configuration") -> list[str]:
    """The submission command of a scheduler with the flags for `options` (name -> value or None for not given).

    `config` has lines `command WORDS`, `option NAME=VALUE FLAGS`, `option NAME=* FLAGS` ($0 is the value) and
    `default NAME=VALUE`; the first matching `option` line counts.  Raises ConfigError for an option that no line names.
    """
    words: list[str] = []
    rules: list[tuple[str, str, str]] = []
    values = {name: value for name, value in options.items() if value is not None}
    for number, line in enumerate(config.splitlines(), 1):
        kind, _, rest = line.split("#", 1)[0].strip().partition(" ")
        key, _, flags = rest.strip().partition(" ")
        name, equals, value = key.partition("=")
        if kind == "command":
            words = shlex.split(rest)
        elif kind == "option" and equals:
            rules.append((name, value, flags))
        elif kind == "default" and equals:
            values.setdefault(name, value)
        elif kind:
            raise ConfigError(
                f"{where}, line {number}: expected 'command', 'option NAME=VALUE' or 'default NAME=VALUE'"
            )
    if not words:
        raise ConfigError(f"{where} has no 'command' line")
    for name, value in values.items():
        flags_of = [flags for rule, pattern, flags in rules if rule == name and pattern in ("*", value)]
        if not flags_of:
            raise ConfigError(f"{where} says nothing about --{name.replace('_', '-')} {value}")
        words += shlex.split(flags_of[0].replace("$0", value))
    return words


class LocalRunner:
    """Runs jobs here, at most `max_jobs` at a time; an interrupt ends all of them."""

    def __init__(self, jobs: Jobs, max_jobs: int) -> None:
        self._jobs = jobs
        self._max_jobs = max_jobs
        self._running: dict[int, subprocess.Popen[bytes]] = {}
        self._stopped = False

    def run(self) -> list[int]:
        """Exit code of each job, in order."""
        old = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            with ThreadPoolExecutor(self._max_jobs) as pool:
                return list(pool.map(self._run_one, self._jobs.numbers))
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        self._stopped = True
        for process in list(self._running.values()):
            process.terminate()  # not its children: a training that saves on SIGTERM still needs its loaders

    def _run_one(self, number: int) -> int:
        if self._stopped:
            return 128 + signal.SIGTERM
        command, path = self._jobs.command_of(number), self._jobs.log_of(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as log:
            log.write(f"# {shlex.join(command)}\n# Started at {now()}\n#\n".encode())
            log.flush()
            began = time.monotonic()
            try:
                process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
                self._running[number] = process
                if self._stopped:  # the signal came while this one was being started
                    process.terminate()
                # a training that saves and ends well on SIGTERM has not ended
                code = process.wait() or (128 + signal.SIGTERM if self._stopped else 0)
                with suppress(ProcessLookupError):  # what it left behind, if it was ended
                    os.killpg(process.pid, signal.SIGTERM)
            except OSError as error:  # no such program, not executable
                log.write(f"{error}\n".encode())
                code = 127
            finally:
                self._running.pop(number, None)
            log.write(f"# Ended (code {code}) at {now()}, elapsed time {time.monotonic() - began:.1f} s\n".encode())
        return code


def now() -> str:
    """Local time, to the second."""
    return datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S %z")


def submission_script(jobs: Jobs, task_variable: str) -> str:
    """Text of the bash script that a scheduler runs once for each array task, numbered by `task_variable`."""
    number = f"${{{task_variable}}}"
    array = [f"{jobs.name}={number}:{number}"] if jobs.name else []
    words = [sys.executable, "-m", "funasr.bin.launch", "--backend", "local"]
    quoted = [*map(shlex.quote, words), *array, *map(shlex.quote, (jobs.log, *jobs.command))]
    return f"#!/usr/bin/env bash\ncd {shlex.quote(os.getcwd())} || exit 1\nexec {' '.join(quoted)}\n"


def submit(backend: str, jobs: Jobs, flags: list[str], max_jobs: int | None) -> list[int]:
    """Run the jobs through a scheduler and wait; exit codes are read from the ends of the logs (-1: none there)."""
    first_log = jobs.log_of(jobs.first)
    first_log.parent.mkdir(parents=True, exist_ok=True)
    base = re.sub(rf"[._-]*{jobs.name}", "", jobs.log) if jobs.name else jobs.log
    script, scheduler_log = Path(f"{base}.submit.sh"), f"{base}.scheduler.log"
    span = f"{jobs.first}-{jobs.last}"
    if backend == "slurm":
        limit = f"%{max_jobs}" if max_jobs else ""
        array = ["--wait", f"--array={span}{limit}", f"--output={scheduler_log}", "--open-mode=append"]
        variable = "SLURM_ARRAY_TASK_ID"
    else:
        limit_words = ["-tc", str(max_jobs)] if max_jobs else []
        array = ["-sync", "y", "-t", span, *limit_words, "-j", "y", "-o", scheduler_log]
        variable = "SGE_TASK_ID"
    for number in jobs.numbers:
        jobs.log_of(number).unlink(missing_ok=True)  # an old log must not pass for the result of this run
    script.write_text(submission_script(jobs, variable), encoding="utf-8")
    command = [*flags, *array, str(script)]
    try:
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    except OSError as error:
        raise ConfigError(f"cannot submit with {shlex.join(command)}: {error}") from None
    codes = [exit_code_in(jobs.log_of(number)) for number in jobs.numbers]
    return codes if any(codes) or code == 0 else [code] * len(codes)


def exit_code_in(log: Path) -> int:
    """The exit code at the end of a log, -1 if there is none after a short wait."""
    deadline = time.monotonic() + LOG_WAIT_S
    while True:
        ended = ENDED.findall(log.read_text(encoding="utf-8", errors="replace")) if log.is_file() else []
        if ended:
            return int(ended[-1])
        if time.monotonic() > deadline:
            return -1
        time.sleep(0.2)


def report(jobs: Jobs, codes: list[int]) -> int:
    """Write the failed logs and the end of the first to stderr; the launcher's own exit code."""
    failed = [number for number, code in zip(jobs.numbers, codes) if code != 0]
    if not failed:
        return 0
    first = jobs.log_of(failed[0])
    sys.stderr.write(f"launch: {len(failed)} of {len(codes)} jobs failed. Logs:\n")
    sys.stderr.writelines(f"  {jobs.log_of(n)} (exit code {codes[n - jobs.first]})\n" for n in failed)
    if first.is_file():
        lines = first.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
        sys.stderr.write(f"--- end of {first} ---\n" + "\n".join(lines) + "\n")
    return 1


def get_parser() -> argparse.ArgumentParser:
    """Options; each is spelled with `-` or `_`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backend", choices=["local", "slurm", "queue"], default="local")
    parser.add_argument("--max-jobs-run", "--max_jobs_run", type=int, help="jobs at a time (local: number of cores)")
    parser.add_argument("--mem", help="memory of a job, e.g. 4G (clusters)")
    parser.add_argument("--time", help="time limit of a job, in the scheduler's notation (clusters)")
    parser.add_argument("--gpu", help="GPUs of a job (clusters)")
    parser.add_argument("--num-threads", "--num_threads", help="CPU cores of a job (clusters)")
    parser.add_argument("--config", type=Path, help="maps these options to scheduler flags, e.g. conf/slurm.conf")
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="[JOB=1:N] LOG COMMAND ...")
    return parser


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit code."""
    args = get_parser().parse_args(argv)
    try:
        jobs = parse_jobs(args.words)
        if args.max_jobs_run is not None and args.max_jobs_run < 1:
            raise ConfigError("--max-jobs-run must be at least 1")
        if args.backend == "local":
            return report(jobs, LocalRunner(jobs, args.max_jobs_run or os.cpu_count() or 1).run())
        if args.config and not args.config.is_file():
            raise ConfigError(f"--config {args.config} does not exist")
        text = args.config.read_text(encoding="utf-8") if args.config else DEFAULT_CONFIG[args.backend]
        options = {name: getattr(args, name) for name in ("time", "mem", "num_threads", "gpu")}
        flags = scheduler_words(text, options, str(args.config or f"the built-in {args.backend} configuration"))
        return report(jobs, submit(args.backend, jobs, flags, args.max_jobs_run))
    except ConfigError as error:
        sys.stderr.write(f"launch: {error}\n")
        return 2


if __name__ == "__main__":
    sys.exit(main())

"""Training on several processes: who this process is, the few collectives used, and starting torchrun.

`--ngpu 4` (or `--nproc 4` on CPUs) on one machine starts four processes through torch's elastic launcher, which is
what `torchrun` does.  For many machines run the same command under `torchrun` or `srun`; both are recognised from the
environment.
"""

from __future__ import annotations

import argparse
import atexit
import gc
import importlib
import logging
import math
import os
import re
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from funasr.utils.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

logger = logging.getLogger(__name__)


TIMEOUT = timedelta(minutes=30)  # how long a rank may be silent before the others give up
FORK_PAUSE_S = 0.02
FAILURES = "FUNASR_FAILURES"  # environment variable: the folder where workers note that they failed


@dataclass(frozen=True)
class DistributedOptions:
    """How many processes, and how they talk.

    ngpu: GPUs on this machine, one process for each; 0 is CPU.  nproc: processes on this machine when ngpu is 0.
    dist_backend: "nccl", "gloo", or None for nccl on GPUs and gloo on CPUs.
    unused_parameters: some parameters take no part in some batches (DDP then searches for them, at a cost).
    """

    ngpu: int = 0
    nproc: int = 1
    dist_backend: str | None = None
    unused_parameters: bool = False

    @classmethod
    def from_args(cls, args: argparse.Namespace) -> DistributedOptions:
        return cls(**{name: getattr(args, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class Distributed:
    """This process among all.  With one process every method works and does nothing."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    unused_parameters: bool = False

    @property
    def enabled(self) -> bool:
        return self.world_size > 1

    @property
    def is_main(self) -> bool:
        """True on rank 0, which alone writes files."""
        return self.rank == 0

    def all_reduce_sum(self, tensor: Tensor) -> Tensor:
        """Sum over ranks, in place; the tensor must be on this process's device."""
        if self.enabled:
            dist.all_reduce(tensor)
        return tensor

    def gather_objects(self, item: Any) -> list[Any]:
        """The items of all ranks, on every rank, in order of rank."""
        if not self.enabled:
            return [item]
        items: list[Any] = [None] * self.world_size
        dist.all_gather_object(items, item)
        return items

    def barrier(self) -> None:
        """Wait until all ranks are here."""
        if self.enabled:
            dist.barrier()


@contextmanager
def process_group(options: DistributedOptions) -> Iterator[Distributed]:
    """Join the process group for a `with` block, and leave it: together at its end, or alone after an error.

    The group must not outlive Python: gloo's threads now and then abort a process in which it does (exit status 134;
    PyTorch pull request 179291).  A DDP wrapper keeps it, and itself lives on by its reference cycles and in the
    frames of an error's traceback.  So what the block builds must be local to functions that it calls.

    After an error the group is left at exit, when the error has been printed: what the other ranks then meet would
    end them all.  Raises what `init_distributed` raises.
    """
    distributed = init_distributed(options)
    try:
        yield distributed
        distributed.barrier()
    except BaseException as error:
        if distributed.enabled:
            _note_failure(distributed.rank)
            # NCCL has no such threads, and its end would wait for ranks that wait for this one.
            if dist.get_backend() == "gloo":
                _let_go(error)
                atexit.register(dist.destroy_process_group)
        raise
    if distributed.enabled:
        gc.collect()
        dist.destroy_process_group()


def _note_failure(rank: int) -> None:
    """Tell `launch_workers` when this rank failed."""
    folder = os.environ.get(FAILURES)
    if folder and Path(folder).is_dir():
        Path(folder, f"failed.{rank}").write_text(str(time.time()))


def _let_go(error: BaseException) -> None:
    """Empty the frames that an error, and the errors that it came from, hold; their lines can still be printed."""
    chain: list[BaseException | None] = [error]
    seen: set[int] = set()
    while chain:
        link = chain.pop()
        if link is not None and id(link) not in seen:
            seen.add(id(link))
            traceback.clear_frames(link.__traceback__)
            chain += [link.__cause__, link.__context__]
    gc.collect()


def init_distributed(options: DistributedOptions) -> Distributed:
    """Read rank and world size from the environment, choose the device, and join the process group if there is one.

    Raises ConfigError if a variable is missing or more GPUs are asked for than the machine has.
    """
    rank, world_size, local_rank = _ranks()
    if rank >= world_size:
        raise ConfigError(f"rank {rank} is not below the world size {world_size}")
    device = torch.device("cpu")
    if options.ngpu > 0:
        if local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"--ngpu {options.ngpu}: process {local_rank} has no GPU, torch sees {torch.cuda.device_count()}"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if world_size > 1:
        _set_rendezvous(world_size)
        # DDP imports this, and its functions' default arguments would hold a group that exists by then for ever.
        importlib.import_module("torch.distributed.nn.functional")
        backend = options.dist_backend or ("nccl" if device.type == "cuda" else "gloo")
        dist.init_process_group(backend, rank=rank, world_size=world_size, timeout=TIMEOUT)
        _guard_forks()
    return Distributed(rank, world_size, local_rank, device, options.unused_parameters)


@cache
def _guard_forks() -> None:
    """Before a process for data is forked, give the threads of the collectives time to drop what they hold.

    They do so through Python, and Python before 3.12 forks although another thread may just be entering it; the new
    process then waits for that thread's lock for ever, and training with it.
    """
    os.register_at_fork(before=lambda: time.sleep(FORK_PAUSE_S))


def workers_to_launch(options: DistributedOptions) -> int:
    """Number of processes that `launch_workers` must start; 0 if this process is itself to train."""
    if "LOCAL_RANK" in os.environ or _in_slurm_step():
        return 0
    count = options.ngpu if options.ngpu > 0 else options.nproc
    if options.ngpu > 0 and count > torch.cuda.device_count():
        raise ConfigError(f"--ngpu {count} but torch sees {torch.cuda.device_count()} GPUs")
    return count if count > 1 else 0


def launch_workers(count: int, argv: Sequence[str] | None = None) -> int:
    """Run the program again in `count` processes on this machine, and wait; returns an exit status.

    Args:
        argv: arguments of the Python interpreter, e.g. ["-m", "funasr.bin.asr_train", "--ngpu", "2"]; default:
            those of this process.

    Rank 0 writes to this terminal.  What the others write to stderr is kept aside, and its end is shown only if one of
    them failed.  On SIGTERM and SIGUSR1 the workers save and end; SIGINT (Ctrl-C) ends them at once.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException, Std
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    arguments = list(sys.orig_argv[1:] if argv is None else argv)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # else each worker would take all cores
    for name in ("agent.server.api", "multiprocessing.api"):  # their reports would repeat ours
        logging.getLogger(f"torch.distributed.elastic.{name}").setLevel(logging.CRITICAL)
    previous = signal.signal(signal.SIGUSR1, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="funasr_workers_") as logs:
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=count,
            run_id="funasr",
            rdzv_backend="c10d",
            rdzv_endpoint="localhost:0",
            max_restarts=0,
            monitor_interval=0.2,
            logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=dict.fromkeys(range(1, count), Std.ALL)),
        )
        os.environ[FAILURES] = logs
        try:
            elastic_launch(config, sys.executable)(*arguments)
            return 0
        except ChildFailedError as error:
            return _report(error, Path(logs), count)
        except SignalException as stop:
            sys.stderr.write(f"training ended: stopped by {stop.sigval.name}\n")
            return 128 + int(stop.sigval)
        finally:
            signal.signal(signal.SIGUSR1, previous)
            del os.environ[FAILURES]


def _report(error: ChildFailedError, logs: Path, count: int) -> int:
    """Show which rank failed first, and what it wrote; returns its exit status.

    Ranks that lost their peer may die before the culprit does, so what counts is when each noted its error.
    """
    noted = {int(path.suffix[1:]): float(path.read_text() or "inf") for path in logs.glob("failed.*")}
    failed_at = {rank: _died_before(failure) for rank, failure in error.failures.items()} | noted
    rank = min(failed_at, key=failed_at.__getitem__)
    for other in sorted(failed_at):
        _show_end(next(logs.rglob(f"{other}/stderr.log"), None), other, 40 if other == rank else 1)
    status = error.failures[rank].exitcode if rank in error.failures else 1
    if rank in noted and status < 0:  # it had failed, and was stopped on its way out
        status = 1
    sys.stderr.write(f"training ended: rank {rank} of {count} failed with exit status {status}\n")
    return status if status > 0 else 128 - status


def _died_before(failure: ProcessFailure) -> float:
    """A time by which a rank without a note was still alive, s: it crashed, was killed, or never joined the others.

    The launcher sees that a part of a second later, and cuts the time to whole seconds.  Its own SIGTERM reaches ranks
    that have done nothing wrong; its SIGKILL comes half a minute later.
    """
    return math.inf if failure.exitcode == -signal.SIGTERM else failure.timestamp - 1.0


def _show_end(log: Path | None, rank: int, lines: int) -> None:
    """Show the last lines of what a rank wrote; rank 0 has no file, it wrote to the terminal."""
    if log is not None:
        text = log.read_text(encoding="utf-8", errors="replace").splitlines()
        sys.stderr.write("\n".join([f"--- end of what rank {rank} wrote ---", *text[-lines:], ""]))


def _in_slurm_step() -> bool:
    """True in a process that `srun` started together with others (a batch script itself is none of them)."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def _ranks() -> tuple[int, int, int]:
    """(rank, world size, local rank) of this process."""
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:  # first: torchrun may itself have been started by srun
        return _env_int("RANK"), _env_int("WORLD_SIZE"), int(os.environ.get("LOCAL_RANK", "0"))
    if _in_slurm_step():
        return _env_int("SLURM_PROCID"), _env_int("SLURM_STEP_NUM_TASKS"), _env_int("SLURM_LOCALID")
    return 0, 1, 0


def _env_int(name: str) -> int:
    try:
        return int(os.environ[name])
    except (KeyError, ValueError):
        raise ConfigError(f"environment variable {name} must be set to a number") from None


def _set_rendezvous(world_size: int) -> None:
    """Make sure that torch finds address and port of rank 0 in the environment."""
    if _in_slurm_step():
        os.environ.setdefault("MASTER_ADDR", first_host(os.environ.get("SLURM_STEP_NODELIST", "")))
        os.environ.setdefault("MASTER_PORT", str(20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20000))
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if not os.environ.get(name):
            raise ConfigError(f"{world_size} processes, but {name} is not set; start them with torchrun")


def first_host(nodes: str) -> str:
    """First host of a slurm list: `gpu[03-05,9],cpu1` -> gpu03."""
    match = re.match(r"([^,\[]+)(?:\[([^\],-]+)[^\]]*\])?([^,]*)", nodes)
    return f"{match[1]}{match[2] or ''}{match[3]}" if match else ""

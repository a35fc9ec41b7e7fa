"""Training on several processes: who this process is, the few collectives used, and starting torchrun.

`--ngpu 4` (or `--nproc 4` on CPUs) on one machine starts four processes through torch's elastic launcher, which is
what `torchrun` does.  For many machines run the same command under `torchrun` or `srun`; both are recognised from the
environment.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from funasr.utils.errors import ConfigError

logger = logging.getLogger(__name__)


TIMEOUT = timedelta(minutes=30)  # how long a rank may be silent before the others give up
FORK_PAUSE_S = 0.02


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

    def close(self, wait: bool = True) -> None:
        """Leave the process group.

        The group must die here: if a DDP wrapper, kept alive by its reference cycles, takes it into the end of the
        interpreter, gloo's threads abort the process now and then.  So let go of trainer and model first.

        `wait`: for the other ranks; False where this rank leaves because of an error.
        """
        if self.enabled and dist.is_initialized():
            gc.collect()
            if wait:
                dist.barrier()
            dist.destroy_process_group()


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
        try:
            elastic_launch(config, sys.executable)(*arguments)
            return 0
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            for other in sorted(error.failures):
                # Ranks that lost their peer may die before the culprit is noticed: the last word of each is shown.
                _show_end(next(Path(logs).rglob(f"{other}/stderr.log"), None), other, 40 if other == rank else 1)
            sys.stderr.write(f"training ended: rank {rank} of {count} failed with exit status {failure.exitcode}\n")
            return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
        except SignalException as stop:
            sys.stderr.write(f"training ended: stopped by {stop.sigval.name}\n")
            return 128 + int(stop.sigval)
        finally:
            signal.signal(signal.SIGUSR1, previous)


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

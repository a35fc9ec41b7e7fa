"""A toy model and data for the trainer's tests; also a program: `python train_toy.py SPEC_AS_JSON OUTPUT_DIR`."""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from funasr.train.distributed import Distributed, DistributedOptions, process_group
from funasr.train.optimizers import build_optimizer
from funasr.train.options import TrainerOptions
from funasr.train.schedulers import build_scheduler
from funasr.train.trainer import Trainer

QUIET = {"use_tensorboard": False, "use_matplotlib": False, "log_interval": 2}


class ToyModel(nn.Module):
    """Mean squared error of a two-layer net on masked frames; weight = number of frames, or utterances."""

    def __init__(self, dropout: float = 0.0, by_frames: bool = True) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(dropout), nn.Linear(8, 1))
        self.by_frames = by_frames
        self.calls = 0

    def forward(self, speech: Tensor, speech_lengths: Tensor) -> tuple[Tensor, dict[str, Any], Tensor | None]:
        self.calls += 1
        mask = torch.arange(speech.size(1))[None, :] < speech_lengths[:, None]
        error = (self.net(speech).squeeze(-1) - speech.sum(-1).sin()) ** 2
        loss = (error * mask).sum() / mask.sum()
        acc = (error[mask] < 0.1).float().mean()
        return loss, {"acc": acc.detach(), "absent": None}, mask.sum() if self.by_frames else None

    def collect_feats(self, speech: Tensor, speech_lengths: Tensor) -> dict[str, Tensor]:
        return {"feats": speech, "feats_lengths": speech_lengths}


class ToyData:
    """`count` batches of `size` utterances; utterance i of batch b of epoch e is always the same."""

    def __init__(self, count: int = 6, size: int = 4, rank: int = 0, world: int = 1, **special: Any) -> None:
        self.count, self.size, self.rank, self.world, self.special = count, size, rank, world, special

    def build_iter(self, epoch: int, skip: int = 0) -> _ToyIter:
        return _ToyIter(self, epoch, skip)


class _ToyIter:
    def __init__(self, data: ToyData, epoch: int, skip: int) -> None:
        self.data, self.epoch, self.skip = data, epoch, skip

    def __len__(self) -> int:
        return max(self.data.count - self.skip, 0)

    def __iter__(self) -> Iterator[tuple[list[str], dict[str, Tensor]]]:
        for number in range(self.skip, self.data.count):
            yield toy_batch(self.data, self.epoch, number)


def toy_batch(data: ToyData, epoch: int, number: int) -> tuple[list[str], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1000 * epoch + number)
    speech = torch.randn(data.size, 7, 4, generator=generator)
    lengths = torch.randint(3, 8, (data.size,), generator=generator)
    lengths[0] = 7
    ids = [f"e{epoch}b{number}u{i}" for i in range(data.size)]
    special = data.special
    if (epoch, number) == special.get("kill_at"):
        os.kill(os.getpid(), signal.SIGKILL)
    if (epoch, number) == special.get("term_at"):
        os.kill(os.getpid(), signal.SIGTERM)
    if (epoch, number) == special.get("fail_at") and data.rank == special.get("fail_rank", 0):
        atexit.register(time.sleep, special.get("linger_s", 0))  # runs after what is registered later
        raise ValueError("the toy fails here")
    if (epoch, number) in special.get("nan_at", ()):
        speech[0, 0, 0] = float("nan")
    if (epoch, number) in special.get("empty_at", ()) and data.rank == special.get("empty_rank", 0):
        return [], {}
    mine = slice(data.rank, None, data.world)
    ids, speech, lengths = ids[mine], speech[mine], lengths[mine]
    return ids, {"speech": speech[:, : int(lengths.max())], "speech_lengths": lengths}


def toy_trainer(
    output_dir: Path,
    options: dict[str, Any] | None = None,
    data: ToyData | None = None,
    model: nn.Module | None = None,
    valid: ToyData | None = None,
    distributed: Distributed | None = None,
    optim: tuple[str, dict[str, Any]] = ("adam", {"lr": 0.01}),
    scheduler: tuple[str | None, dict[str, Any]] = ("warmuplr", {"warmup_steps": 5}),
    **more: Any,
) -> Trainer:
    model = ToyModel() if model is None else model
    optimizer = build_optimizer(model, *optim)
    return Trainer(
        model=model,
        frontend=more.pop("frontend", None),
        optimizers=[optimizer],
        schedulers=[build_scheduler(optimizer, *scheduler)],
        train_iter_factory=data or ToyData(),
        valid_iter_factory=valid or ToyData(2),
        options=TrainerOptions(**{**QUIET, "max_epoch": 2, **(options or {})}),
        output_dir=output_dir,
        distributed=distributed,
        **more,
    )


def note_threads(output_dir: Path) -> None:
    """Write the names of this process's threads to `threads.RANK`."""
    names = sorted(path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm"))
    (output_dir / f"threads.{os.environ['RANK']}").write_text("\n".join(names))


def main(spec: dict[str, Any], output_dir: str) -> None:
    torch.set_num_threads(1)
    special = {k: [tuple(x) for x in v] if k in ("nan_at", "empty_at") else v for k, v in spec.get("data", {}).items()}
    special = {k: tuple(v) if k.endswith("_at") and k not in ("nan_at", "empty_at") else v for k, v in special.items()}
    atexit.register(note_threads, Path(output_dir))
    with process_group(DistributedOptions()) as distributed:
        train(spec, special, Path(output_dir), distributed)


def train(spec: dict[str, Any], special: dict[str, Any], output_dir: Path, distributed: Distributed) -> None:
    data = ToyData(rank=distributed.rank, world=distributed.world_size, **special)
    valid = ToyData(2, rank=distributed.rank, world=distributed.world_size)
    model = ToyModel(spec.get("dropout", 0.0))
    result = toy_trainer(output_dir, spec.get("options"), data, model, valid, distributed).run()
    if distributed.is_main:
        (output_dir / "result").write_text(result.reason)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]), sys.argv[2])

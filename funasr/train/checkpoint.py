"""Files of an experiment: the full state to go on from, weights of each epoch, links to the best.

    checkpoint/last.pt             everything needed to continue, also inside an epoch
    checkpoint/epoch.N.pt          weights after epoch N (the best and the latest are kept)
    checkpoint/valid.acc.best.pt   the same file as the best epoch's

All are written under another name and renamed, so a process killed while saving leaves the older file whole.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from funasr.train.options import Criterion
from funasr.train.reporter import Reporter
from funasr.utils.errors import ConfigError
from funasr.utils.io import atomic_path
from funasr.utils.weights import has_prefix, load_plain

logger = logging.getLogger(__name__)

FORMAT = 1


class CheckpointDir:
    """The directory `OUTPUT_DIR/checkpoint`."""

    def __init__(self, output_dir: str | Path) -> None:
        self.path = Path(output_dir) / "checkpoint"
        self.last = self.path / "last.pt"

    def epoch_file(self, epoch: int) -> Path:
        return self.path / f"epoch.{epoch}.pt"

    def best_file(self, phase: str, key: str) -> Path:
        return self.path / f"{phase}.{key.replace('/', '_')}.best.pt"

    def epochs(self) -> list[int]:
        """Epochs whose weights are on disk, ascending."""
        found = (re.fullmatch(r"epoch\.(\d+)\.pt", p.name) for p in self.path.glob("epoch.*.pt"))
        return sorted(int(match[1]) for match in found if match)

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write `last.pt`."""
        save_file({"format": FORMAT, **state}, self.last)

    def load_state(self) -> dict[str, Any]:
        """Read `last.pt`.  Raises ConfigError if it is damaged or of another format."""
        state = load_plain(self.last)
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ConfigError(f"{self.last} is not a training state of this version; start anew in another directory")
        return state

    def save_epoch(self, epoch: int, model: nn.Module) -> None:
        """Write the weights of an epoch, without the model's `training_only_parts` if it names any."""
        parts: Sequence[str] = getattr(model, "training_only_parts", ())
        weights = {k: v for k, v in model.state_dict().items() if not any(has_prefix(k, part) for part in parts)}
        save_file(weights, self.epoch_file(epoch))

    def link_best(self, reporter: Reporter, criteria: Iterable[Criterion]) -> None:
        """Let `PHASE.KEY.best.pt` be the weights of the best epoch, for each criterion that has values."""
        for phase, key, mode in criteria:
            best = reporter.best_epoch(phase, key, mode)
            if best is not None and self.epoch_file(best).is_file():
                link_file(self.epoch_file(best), self.best_file(phase, key))

    def prune(self, reporter: Reporter, criteria: Iterable[Criterion], nbest: int, last: int) -> list[int]:
        """Delete weights of epochs that are neither among the `nbest` of a criterion nor among the `last`; which."""
        on_disk = self.epochs()
        keep = set(on_disk[-max(last, 1) :])
        for criterion in criteria:
            keep.update(reporter.sort_epochs(*criterion)[:nbest])
        gone = [epoch for epoch in on_disk if epoch not in keep]
        for epoch in gone:
            self.epoch_file(epoch).unlink()
        return gone

    def remove_leftovers(self) -> None:
        """Delete half-written files of a process that was killed."""
        for path in self.path.glob(".*.part"):
            path.unlink(missing_ok=True)


def save_file(content: Any, path: str | Path) -> None:
    """`torch.save` to a temporary name, then rename."""
    with atomic_path(path) as temporary:
        torch.save(content, temporary)


def link_file(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`: a hard link, or a copy where the file system has none."""
    with atomic_path(target) as temporary:
        temporary.unlink(missing_ok=True)
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)


def optimizer_states(optimizers: Sequence[torch.optim.Optimizer]) -> list[dict[str, Any]]:
    """State dicts made of plain data: numbers of other libraries (numpy) would not load with `weights_only`."""
    return [_plain(optimizer.state_dict()) for optimizer in optimizers]


def scheduler_states(schedulers: Sequence[Any]) -> list[dict[str, Any] | None]:
    """State dicts of schedulers; None where there is none."""
    return [None if scheduler is None else _plain(scheduler.state_dict()) for scheduler in schedulers]


def _plain(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value
    if isinstance(value, Mapping):
        return {key: _plain(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(member) for member in value)
    if hasattr(value, "item") and not isinstance(value, str):
        return value.item()
    return value

"""Averaged models: the best N epochs of a criterion, or the last N, as one set of weights."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from funasr.train.checkpoint import CheckpointDir, link_file, save_file
from funasr.train.options import Criterion
from funasr.train.reporter import Reporter
from funasr.utils.errors import ConfigError
from funasr.utils.weights import load_weights

logger = logging.getLogger(__name__)


def average_files(files: Sequence[str | Path]) -> dict[str, Tensor]:
    """Element-wise mean of the weights in several files.

    Floating tensors are summed in float64 in a table of their own and come back in their type.  Integer tensors
    (counters of batch norm) have no meaningful mean: the last file's are taken.
    Raises ConfigError if there is no file, or the files hold different names or shapes.
    """
    if not files:
        raise ConfigError("there is no weight file to average")
    sums: dict[str, Tensor] = {}
    last: dict[str, Tensor] = {}
    for file in files:
        last = load_weights(file)
        if sums and (sums.keys() != last.keys() or any(sums[k].shape != last[k].shape for k in last)):
            raise ConfigError(f"{file} and {files[0]} do not hold the same parameters")
        for name, value in last.items():
            wide = value.double() if value.is_floating_point() else value
            sums[name] = sums[name] + wide if name in sums and value.is_floating_point() else wide.clone()
    return {
        name: (total / len(files)).to(last[name].dtype) if last[name].is_floating_point() else total
        for name, total in sums.items()
    }


def average_nbest(
    output_dir: str | Path,
    reporter: Reporter,
    criteria: Sequence[Criterion],
    numbers: Sequence[int],
    suffix: str = "",
) -> dict[tuple[str, str], Path]:
    """Write `PHASE.KEY.ave_Nbest.pt` for each criterion that has values and each N, and link `PHASE.KEY.ave.pt`.

    N = 0 and an N beyond the number of ranked epochs are passed over; if no N is left, the best epoch alone is used (a
    mean over few, early epochs is worse).  The link goes to the largest N.

    Args:
        suffix: put before `.pt`, e.g. ".till10epoch".

    Returns:
        (phase, key) -> the link.  Raises ConfigError if weights of a ranked epoch are gone.
    """
    output_dir = Path(output_dir)
    checkpoints = CheckpointDir(output_dir)
    links = {}
    for phase, key, mode in criteria:
        ranked = reporter.sort_epochs(phase, key, mode)
        if not ranked or not any(numbers):
            continue
        counts = sorted({n for n in numbers if 0 < n <= len(ranked)}) or [1]
        name = f"{phase}.{key.replace('/', '_')}.ave"
        for count in counts:
            best = sorted(ranked[:count])  # ascending, so that integer tensors are those of the latest epoch
            logger.info("averaging epochs %s (%s %s)", ", ".join(map(str, best)), phase, key)
            target = output_dir / f"{name}_{count}best{suffix}.pt"
            _write_average([checkpoints.epoch_file(epoch) for epoch in best], target)
        link = output_dir / f"{name}{suffix}.pt"
        link_file(output_dir / f"{name}_{counts[-1]}best{suffix}.pt", link)
        links[phase, key] = link
    return links


def average_last(output_dir: str | Path, count: int) -> Path:
    """Write `last.ave_N.pt`, the mean of the last `count` epochs on disk (fewer if there are fewer)."""
    checkpoints = CheckpointDir(output_dir)
    epochs = checkpoints.epochs()[-count:]
    target = Path(output_dir) / f"last.ave_{len(epochs)}.pt"
    _write_average([checkpoints.epoch_file(epoch) for epoch in epochs], target)
    return target


def _write_average(files: list[Path], target: Path) -> None:
    if len(files) == 1 and files[0].is_file():
        link_file(files[0], target)
    else:
        with torch.no_grad():
            save_file(average_files(files), target)

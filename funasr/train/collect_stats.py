"""The statistics pass (`--collect_stats true`): shapes of every utterance, sums for feature normalisation."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from funasr.utils.io import atomic_path, write_text

logger = logging.getLogger(__name__)

Batches = Iterable[tuple[list[str], Mapping[str, Tensor]]]


class FeatureSums:
    """Count, sum and sum of squares per dimension in float64, padding left out."""

    def __init__(self) -> None:
        self.count = 0
        self.sum: np.ndarray | float = 0.0
        self.sum_square: np.ndarray | float = 0.0

    def add(self, feats: Tensor, lengths: Tensor) -> None:
        """Add features (batch, frames, dim) or values (batch, dim), with lengths (batch,)."""
        if feats.dim() > 2:
            valid = torch.arange(feats.size(1), device=feats.device)[None, :] < lengths.to(feats.device)[:, None]
            feats = feats[valid]
        frames = feats.double()
        self.count += frames.size(0)
        self.sum = self.sum + frames.sum(0).cpu().numpy()
        self.sum_square = self.sum_square + frames.square().sum(0).cpu().numpy()

    def save(self, path: str | Path) -> None:
        """Write an npz with `count`, `sum`, `sum_square`."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, count=self.count, sum=self.sum, sum_square=self.sum_square)

    def mean_and_std(self, variance_floor: float = 1e-20) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation per dimension; the variance is at least `variance_floor`."""
        mean = np.asarray(self.sum) / self.count
        variance = np.asarray(self.sum_square) / self.count - mean**2
        return mean, np.sqrt(np.maximum(variance, variance_floor))


@torch.no_grad()
def collect_stats(
    model: nn.Module,
    frontend: nn.Module | None,
    batches: Mapping[str, Batches],
    output_dir: str | Path,
    write_collected_feats: bool = False,
) -> dict[str, dict[str, FeatureSums]]:
    """Run over the sets in `batches` ("train", "valid") in evaluation mode.

    Writes into `output_dir/SET/`: `NAME_shape` for each name in the batches (`ID length,dim...`), `FEATS_stats.npz`
    for each feature of `model.collect_feats`, `batch_keys` and `stats_keys` (their names), and with
    `write_collected_feats` the features of each utterance, `collect_feats/NAME/ID.npy`, listed in `NAME.scp` there.

    Returns the sums: set -> feature name -> FeatureSums.
    """
    model.eval()
    if frontend is not None:
        frontend.eval()
    return {
        name: _collect_set(model, frontend, iterator, Path(output_dir) / name, write_collected_feats)
        for name, iterator in batches.items()
    }


def _collect_set(
    model: nn.Module,
    frontend: nn.Module | None,
    batches: Batches,
    folder: Path,
    write_feats: bool,
) -> dict[str, FeatureSums]:
    folder.mkdir(parents=True, exist_ok=True)
    device = next(model.parameters()).device
    sums: dict[str, FeatureSums] = {}
    scp: dict[str, list[str]] = {}
    with ExitStack() as stack:
        shapes: dict[str, Any] = {}
        for number, (ids, batch) in enumerate(batches, 1):
            for name in _data_names(batch):
                if name not in shapes:
                    path = stack.enter_context(atomic_path(folder / f"{name}_shape"))
                    shapes[name] = stack.enter_context(path.open("w", encoding="utf-8"))
                shapes[name].writelines(f"{utt} {shape}\n" for utt, shape in zip(ids, _shapes(batch, name)))
            if not ids:
                continue
            for name, (feats, lengths) in _features(model, frontend, batch, device).items():
                sums.setdefault(name, FeatureSums()).add(feats, lengths)
                if write_feats:
                    scp.setdefault(name, []).extend(_save_feats(folder, name, ids, feats, lengths))
            if number % 100 == 0:
                logger.info("%s: %d batches", folder.name, number)
        names = list(shapes)
    for name, total in sums.items():
        total.save(folder / f"{name}_stats.npz")
    for name, lines in scp.items():
        write_text(folder / "collect_feats" / f"{name}.scp", "".join(lines))
    write_text(folder / "batch_keys", "".join(f"{name}\n" for name in names))
    write_text(folder / "stats_keys", "".join(f"{name}\n" for name in sums))
    return sums


def _features(
    model: Any, frontend: nn.Module | None, batch: Mapping[str, Tensor], device: torch.device
) -> dict[str, tuple[Tensor, Tensor]]:
    """Name -> (features (batch, frames, dim), lengths) as the model collects them."""
    inputs = {name: value.to(device) for name, value in batch.items()}
    if frontend is not None:
        inputs["speech"], inputs["speech_lengths"] = frontend(inputs["speech"], inputs["speech_lengths"])
    feats = model.collect_feats(**inputs)
    lengths = {name: feats.get(f"{name}_lengths") for name in _data_names(feats)}
    return {name: (feats[name], torch.ones(len(feats[name])) if n is None else n) for name, n in lengths.items()}


def _save_feats(folder: Path, name: str, ids: list[str], feats: Tensor, lengths: Tensor) -> list[str]:
    """Write one npy for each utterance; the lines for the scp."""
    lines = []
    for utt, values, length in zip(ids, feats.cpu().numpy(), lengths.tolist()):
        path = folder / "collect_feats" / name / f"{utt}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values[: int(length)] if values.ndim > 1 else values)
        lines.append(f"{utt} {path}\n")
    return lines


def _data_names(batch: Mapping[str, Tensor]) -> list[str]:
    return [name for name in batch if not name.endswith("_lengths")]


def _shapes(batch: Mapping[str, Tensor], name: str) -> list[str]:
    """`length,dim...` of each utterance, without its padding."""
    data, lengths = batch[name], batch.get(f"{name}_lengths")
    if lengths is None:
        return [",".join(map(str, data.shape[1:])) or "1"] * len(data)
    return [",".join(map(str, (int(length), *data.shape[2:]))) for length in lengths]

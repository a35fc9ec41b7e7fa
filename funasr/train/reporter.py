"""What training has measured: weighted means within an epoch, and the table of all epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from funasr.utils.errors import ConfigError

Sums = dict[str, list[float]]


class Tally:
    """Weighted sums of the values of many steps.

    Values stay on their device until `sums` is asked for, so that adding does not wait for the accelerator.
    A value that is None (absent) or not finite is left out together with its weight.
    """

    def __init__(self, sums: Mapping[str, Sequence[float]] | None = None) -> None:
        self._sums: Sums = {key: list(pair) for key, pair in (sums or {}).items()}
        self._pending: list[tuple[str, Any, Any]] = []

    def add(self, values: Mapping[str, Tensor | float | None], weight: Tensor | float = 1.0) -> None:
        """Add the values of one step, each with the same weight."""
        self._pending += [(key, value, weight) for key, value in values.items() if value is not None]
        if len(self._pending) > 5000:
            self._flush()

    @property
    def sums(self) -> Sums:
        """key -> [sum of weight * value, sum of weight]; plain numbers, fit to be stored or sent to other ranks."""
        self._flush()
        return self._sums

    def means(self) -> dict[str, float]:
        """key -> weighted mean; NaN if nothing finite was added."""
        return means([self.sums])

    def _flush(self) -> None:
        pending, self._pending = self._pending, []
        values = _numbers([value for _, value, _ in pending])
        weights = _numbers([weight for _, _, weight in pending])
        for (key, _, _), value, weight in zip(pending, values, weights):
            pair = self._sums.setdefault(key, [0.0, 0.0])
            if math.isfinite(value) and math.isfinite(weight):
                pair[0] += value * weight
                pair[1] += weight


def means(sums: Iterable[Sums]) -> dict[str, float]:
    """Weighted means over several tallies, e.g. one of each rank."""
    total: Sums = {}
    for part in sums:
        for key, (value, weight) in part.items():
            pair = total.setdefault(key, [0.0, 0.0])
            pair[0] += value
            pair[1] += weight
    return {key: value / weight if weight else math.nan for key, (value, weight) in total.items()}


class Reporter:
    """Values of all epochs: `values[epoch][phase][key]`, and who was best."""

    def __init__(self) -> None:
        self.values: dict[int, dict[str, dict[str, float]]] = {}

    def set(self, epoch: int, phase: str, values: Mapping[str, float]) -> None:
        """Enter the values of one phase ("train", "valid") of an epoch."""
        self.values.setdefault(epoch, {})[phase] = dict(values)

    def has(self, phase: str, key: str) -> bool:
        """True if some epoch has this value."""
        return any(key in phases.get(phase, {}) for phases in self.values.values())

    def get_value(self, phase: str, key: str, epoch: int | None = None) -> float:
        """A value of an epoch (default: the last).  Raises ConfigError listing the keys that there are."""
        epoch = max(self.values) if epoch is None else epoch
        try:
            return self.values[epoch][phase][key]
        except KeyError:
            raise ConfigError(f"no value '{phase} {key}' in epoch {epoch}; there are: {self._listed(epoch)}") from None

    def sort_epochs(self, phase: str, key: str, mode: str) -> list[int]:
        """Epochs that have the value, best first; among equals the earlier one, NaN left out."""
        if mode not in ("min", "max"):
            raise ConfigError(f"mode of {phase},{key},{mode} must be min or max")
        found = [(e, p[phase][key]) for e, p in sorted(self.values.items()) if key in p.get(phase, {})]
        sign = 1 if mode == "min" else -1
        ranked = sorted((pair for pair in found if not math.isnan(pair[1])), key=lambda pair: sign * pair[1])
        return [epoch for epoch, _ in ranked]

    def best_epoch(self, phase: str, key: str, mode: str) -> int | None:
        """The best epoch, or None if no epoch has the value."""
        return next(iter(self.sort_epochs(phase, key, mode)), None)

    def exhausted(self, patience: int, criterion: tuple[str, str, str]) -> bool:
        """True if the best epoch lies more than `patience` epochs back.  Raises ConfigError if the key is unknown."""
        phase, key, mode = criterion
        latest = max(self.values)
        self.get_value(phase, key, latest)
        best = self.best_epoch(phase, key, mode)
        return latest - (best if best is not None else min(self.values) - 1) > patience

    def value_names(self) -> list[str]:
        """All value names of all epochs, in order of appearance."""
        names = [key for phases in self.values.values() for values in phases.values() for key in values]
        return list(dict.fromkeys(names))

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.values = {int(e): {p: dict(v) for p, v in phases.items()} for e, phases in state["values"].items()}

    def _listed(self, epoch: int) -> str:
        phases = self.values.get(epoch, {})
        return "; ".join(f"{phase}: {', '.join(values)}" for phase, values in phases.items()) or "none"


def _numbers(values: list[Any]) -> list[float]:
    """Numbers from a mix of scalars and one-element tensors, with one transfer from each device."""
    numbers = [0.0 if isinstance(value, Tensor) else float(value) for value in values]
    places: dict[torch.device, list[int]] = {}
    for i, value in enumerate(values):
        if isinstance(value, Tensor):
            places.setdefault(value.device, []).append(i)
    for where in places.values():
        for i, number in zip(where, torch.stack([_scalar(values[i]) for i in where]).tolist()):
            numbers[i] = number
    return numbers


def _scalar(value: Tensor) -> Tensor:
    """A float tensor without dimensions; float64 keeps its precision, everything else fits in float32 or int64."""
    value = value.detach().reshape(())
    return value if value.dtype == torch.float64 else value.float()

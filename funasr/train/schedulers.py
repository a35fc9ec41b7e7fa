"""Learning-rate schedules by name.

The classes of this file are stepped once per optimizer update: with s the number of the update from 1 on,
lr = base * factor(s), where base is the optimizer's `lr` (of each parameter group).
"""

from __future__ import annotations

import bisect
import inspect
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.optim import Optimizer, lr_scheduler

from funasr.register import nearest_names
from funasr.utils.config import check_keywords
from funasr.utils.errors import ConfigError


class FormulaLR(lr_scheduler.LRScheduler):
    """A schedule given by a factor of the update number.

    Its state is the number of updates alone: what the formula says is taken from the configuration, also on resume.
    """

    def get_lr(self) -> list[float | Tensor]:
        factor = self.factor(self.last_epoch + 1)
        return [float(base) * factor for base in self.base_lrs]

    @abstractmethod
    def factor(self, step: int) -> float:
        """lr / base at update `step`, from 1."""

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch, "base_lrs": [float(base) for base in self.base_lrs]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.last_epoch = state_dict["last_epoch"]
        self.base_lrs = list(state_dict["base_lrs"])
        self._last_lr = self.get_lr()


class WarmupLR(FormulaLR):
    """w^0.5 * min(s^-0.5, s * w^-1.5): linear to base at s = w, then inverse square root."""

    def __init__(self, optimizer: Optimizer, warmup_steps: int | float = 25000) -> None:
        self.warmup_steps = _positive("warmup_steps", warmup_steps)
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        return self.warmup_steps**0.5 * min(step**-0.5, step * self.warmup_steps**-1.5)


class NoamLR(FormulaLR):
    """model_size^-0.5 * min(s^-0.5, s * w^-1.5): WarmupLR with another base (Vaswani et al. 2017)."""

    def __init__(self, optimizer: Optimizer, model_size: int | float = 320, warmup_steps: int | float = 25000) -> None:
        self.model_size = _positive("model_size", model_size)
        self.warmup_steps = _positive("warmup_steps", warmup_steps)
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        return self.model_size**-0.5 * min(step**-0.5, step * self.warmup_steps**-1.5)


class TriStageLR(FormulaLR):
    """Linear from init*base to base, hold, exponential to final*base, then constant (Park et al. 2019).

    Either `phase_ratio` (three shares that sum to 1), or the three single ratios, of `max_steps` updates.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        max_steps: int,
        *,
        phase_ratio: Sequence[float] | None = None,
        warmup_ratio: float = 0.1,
        hold_ratio: float = 0.4,
        decay_ratio: float = 0.5,
        init_lr_scale: float = 0.01,
        final_lr_scale: float = 0.01,
    ) -> None:
        ratios = list(phase_ratio) if phase_ratio is not None else [warmup_ratio, hold_ratio, decay_ratio]
        if len(ratios) != 3 or min(ratios) < 0 or abs(sum(ratios) - 1.0) > 1e-6:
            raise ValueError(f"the shares of the three stages {ratios} must sum to 1")
        max_steps = int(_positive("max_steps", max_steps))
        self.warmup_steps, self.hold_steps, self.decay_steps = (int(ratio * max_steps) for ratio in ratios)
        self.init_lr_scale = init_lr_scale
        self.final_lr_scale = _positive("final_lr_scale", final_lr_scale)
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        if step <= self.warmup_steps:
            return self.init_lr_scale + (1 - self.init_lr_scale) * step / self.warmup_steps
        decayed = step - self.warmup_steps - self.hold_steps
        if decayed <= 0:
            return 1.0
        if decayed >= self.decay_steps:
            return self.final_lr_scale
        return math.exp(math.log(self.final_lr_scale) * decayed / self.decay_steps)


class PiecewiseLinearWarmupLR(FormulaLR):
    """Linear interpolation of the points (steps, lrs), then the last lr times the inverse square root of s.

    `lrs` are learning rates, not factors; parameter groups keep their ratio to the first group.
    """

    def __init__(self, optimizer: Optimizer, warmup_steps_list: Sequence[int], warmup_lr_list: Sequence[float]) -> None:
        self.steps, self.lrs = list(warmup_steps_list), list(warmup_lr_list)
        if len(self.steps) != len(self.lrs) or len(self.steps) < 2 or self.steps != sorted(set(self.steps)):
            raise ValueError("warmup_steps_list must ascend and be as long as warmup_lr_list, at least 2")
        if self.steps[0] < 0 or self.steps[-1] <= 0:
            raise ValueError("warmup_steps_list must not be negative")
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        return self._rate(step) / float(self.base_lrs[0])

    def _rate(self, step: int) -> float:
        if step >= self.steps[-1]:
            return self.lrs[-1] * (self.steps[-1] / step) ** 0.5
        if step <= self.steps[0]:
            return self.lrs[0]
        right = bisect.bisect_left(self.steps, step)
        share = (step - self.steps[right - 1]) / (self.steps[right] - self.steps[right - 1])
        return self.lrs[right - 1] + share * (self.lrs[right] - self.lrs[right - 1])


class WarmupStepLR(FormulaLR):
    """Linear warm-up, then gamma^(epochs // step_size), an epoch being `steps_per_epoch` updates after the warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int | float = 25000,
        steps_per_epoch: int = 10000,
        step_size: int = 1,
        gamma: float = 0.1,
    ) -> None:
        self.warmup_steps = _positive("warmup_steps", warmup_steps)
        self.steps_per_epoch = int(_positive("steps_per_epoch", steps_per_epoch))
        self.step_size = int(_positive("step_size", step_size))
        self.gamma = gamma
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        if step <= self.warmup_steps:
            return step / self.warmup_steps
        return self.gamma ** (int(step - self.warmup_steps) // self.steps_per_epoch // self.step_size)


class ExponentialDecayWarmup(FormulaLR):
    """Linear warm-up to base, then exponentially to final_lr_scale * base at `max_steps`, then constant."""

    def __init__(
        self, optimizer: Optimizer, max_steps: int, warmup_steps: int | float = 25000, final_lr_scale: float = 0.01
    ) -> None:
        self.warmup_steps = _positive("warmup_steps", warmup_steps)
        self.decay_steps = _positive("max_steps - warmup_steps", max_steps - warmup_steps)
        self.final_lr_scale = _positive("final_lr_scale", final_lr_scale)
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        done = min((step - self.warmup_steps) / self.decay_steps, 1.0)
        return step / self.warmup_steps if done <= 0 else math.exp(math.log(self.final_lr_scale) * done)


class CosineWarmupLR(FormulaLR):
    """Linear warm-up to base, then half a cosine down to min_lr_scale * base at `max_steps`, then constant."""

    def __init__(
        self, optimizer: Optimizer, max_steps: int, warmup_steps: int | float = 25000, min_lr_scale: float = 0.0
    ) -> None:
        self.warmup_steps = _positive("warmup_steps", warmup_steps)
        self.decay_steps = _positive("max_steps - warmup_steps", max_steps - warmup_steps)
        self.min_lr_scale = min_lr_scale
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        done = min((step - self.warmup_steps) / self.decay_steps, 1.0)
        if done <= 0:
            return step / self.warmup_steps
        return self.min_lr_scale + (1 - self.min_lr_scale) * 0.5 * (1 + math.cos(math.pi * done))


class CustomLambdaLR(FormulaLR):
    """s / w up to base, then linearly to 0 at `total_steps` (FunASR 1.x)."""

    def __init__(
        self, optimizer: Optimizer, warmup_steps: int | float = 25000, total_steps: int | float = 500000
    ) -> None:
        self.warmup_steps = _positive("warmup_steps", warmup_steps)
        self.decay_steps = _positive("total_steps - warmup_steps", total_steps - warmup_steps)
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        if step < self.warmup_steps:
            return step / self.warmup_steps
        return max(0.0, 1 - (step - self.warmup_steps) / self.decay_steps)


# When a scheduler is stepped: after each update, after each epoch, or after each epoch with a value.
UPDATE, EPOCH, VALUE = "update", "epoch", "value"

SCHEDULERS: dict[str, tuple[type, str]] = {
    "warmuplr": (WarmupLR, UPDATE),
    "noamlr": (NoamLR, UPDATE),
    "tri_stage": (TriStageLR, UPDATE),
    "tristagelr": (TriStageLR, UPDATE),
    "piecewiselinearwarmuplr": (PiecewiseLinearWarmupLR, UPDATE),
    "warmupsteplr": (WarmupStepLR, UPDATE),
    "exponentialdecaywarmup": (ExponentialDecayWarmup, UPDATE),
    "cosinewarmuplr": (CosineWarmupLR, UPDATE),
    "custom_lambdalr": (CustomLambdaLR, UPDATE),
    "cycliclr": (lr_scheduler.CyclicLR, UPDATE),
    "onecyclelr": (lr_scheduler.OneCycleLR, UPDATE),
    "cosineannealingwarmrestarts": (lr_scheduler.CosineAnnealingWarmRestarts, UPDATE),
    "steplr": (lr_scheduler.StepLR, EPOCH),
    "multisteplr": (lr_scheduler.MultiStepLR, EPOCH),
    "exponentiallr": (lr_scheduler.ExponentialLR, EPOCH),
    "cosineannealinglr": (lr_scheduler.CosineAnnealingLR, EPOCH),
    "reducelronplateau": (lr_scheduler.ReduceLROnPlateau, VALUE),
}


@dataclass(frozen=True)
class Schedule:
    """A scheduler and when it is stepped (`UPDATE`, `EPOCH` or `VALUE`)."""

    scheduler: Any
    stepped: str

    def state_dict(self) -> dict[str, Any]:
        return self.scheduler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.scheduler.load_state_dict(state)


def scheduler_class(name: str) -> tuple[type, str]:
    """(class, when it is stepped) for an option value.  Raises ConfigError naming the nearest ones."""
    try:
        return SCHEDULERS[name.lower()]
    except KeyError:
        near = nearest_names(name, list(SCHEDULERS))
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"--scheduler: unknown schedule '{name}'.{hint} Choices: {', '.join(SCHEDULERS)}.") from None


def build_scheduler(
    optimizer: Optimizer, name: str | None, conf: Mapping[str, Any], where: str = "scheduler_conf"
) -> Schedule | None:
    """The schedule, or None for no name.  Raises ConfigError for unknown names and options and wrong values."""
    if name is None:
        if conf:
            raise ConfigError(f"{where} is given ({', '.join(conf)}), but no scheduler is chosen")
        return None
    cls, stepped = scheduler_class(name)
    check_keywords(cls, conf, where)
    try:
        return Schedule(cls(optimizer, **conf), stepped)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {cls.__name__}: {error}") from None


def with_run_length(name: str | None, conf: Mapping[str, Any], num_updates: int | None) -> dict[str, Any]:
    """`conf` with the number of updates of the whole run as `max_steps`, if the schedule cannot do without.

    A schedule that ends then ends with the run, however many processes share the batches.  A given value is kept.
    """
    conf = dict(conf)
    if name is not None and num_updates is not None:
        parameters = inspect.signature(scheduler_class(name)[0]).parameters
        if "max_steps" in parameters and "max_steps" not in conf:
            conf["max_steps"] = num_updates
    return conf


def _positive(name: str, value: float) -> float:
    if value <= 0:
        raise ValueError(f"{name} must be above 0, not {value}")
    return float(value)

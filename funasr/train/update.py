"""From losses to one optimizer update: precision, exact weighting, clipping, and what to do about NaN."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from funasr.train.distributed import Distributed
from funasr.train.options import TrainerOptions
from funasr.train.schedulers import UPDATE, Schedule
from funasr.utils.errors import ConfigError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class StepOutput:
    """What a model's `forward` returned: scalar loss, values to report, weight, and which optimizer (None: all)."""

    loss: Tensor
    stats: Mapping[str, Any]
    weight: Tensor
    optim_idx: int | None = None


class TrainStep(nn.Module):
    """The model as data-parallel training calls it.

    With an empty batch (all its utterances were damaged) every parameter gets a zero gradient, so that this rank takes
    part in the reduction for which the others wait.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: dict[str, Tensor]) -> StepOutput | Tensor:
        if batch:
            return read_output(self.model(**batch), batch)
        return torch.stack([p.flatten()[:1].sum() * 0.0 for p in self.model.parameters() if p.requires_grad]).sum()


def read_output(output: Any, batch: Mapping[str, Tensor]) -> StepOutput:
    """The (loss, stats, weight) tuple or the dict of a model; without a weight the number of utterances counts."""
    if isinstance(output, Mapping):
        loss, stats, weight = output["loss"], output.get("stats", {}), output.get("weight")
        optim_idx = output.get("optim_idx")
    else:
        (loss, stats, weight), optim_idx = output, None
    if weight is None:
        weight = len(next(iter(batch.values())))
    weight = torch.as_tensor(weight, dtype=torch.float64, device=loss.device).detach().reshape(())
    return StepOutput(loss.reshape(()), {"loss": loss.detach(), **stats}, weight, optim_idx)


class Precision:
    """Automatic mixed precision: the autocast context, and a gradient scaler for fp16."""

    def __init__(self, options: TrainerOptions, device: torch.device) -> None:
        self.device = device
        self.dtype: torch.dtype | None = None
        if options.use_amp:
            bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported(including_emulation=False)
            name = ("bf16" if bf16 else "fp16") if options.amp_dtype == "auto" else options.amp_dtype
            if name == "fp16" and device.type != "cuda":
                raise ConfigError("--amp_dtype fp16 needs a GPU; on a CPU use bf16")
            self.dtype = torch.bfloat16 if name == "bf16" else torch.float16
        self.scaler = torch.amp.GradScaler(device.type) if self.dtype is torch.float16 else None

    def autocast(self) -> AbstractContextManager[Any]:
        return nullcontext() if self.dtype is None else torch.autocast(self.device.type, self.dtype)


@dataclass(frozen=True)
class UpdateResult:
    """applied: weights were changed; finite: no NaN or infinity met; grad_norm: before clipping; stop: some rank was
    told to stop; bad_ids: utterances of the batches to blame, of all ranks."""

    applied: bool
    finite: bool
    grad_norm: float
    stop: bool
    bad_ids: tuple[str, ...] = ()


class Updater:
    """Accumulates micro-batches and applies updates.

    The gradient of an update is exactly that of the weighted mean loss over all its micro-batches and ranks:
    sum(weight * grad) / sum(weight).
    """

    def __init__(
        self,
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        schedules: Sequence[Schedule | None],
        *,
        options: TrainerOptions,
        distributed: Distributed,
        precision: Precision,
        seed: int,
    ) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizers, self.schedules = optimizers, schedules
        self.options, self.distributed, self.precision, self.seed = options, distributed, precision, seed
        self.device = precision.device
        self._power = 1.0  # keeps scaled losses near 1 for fp16; a power of two, so it changes no rounding
        self.clear()

    def clear(self) -> None:
        """Forget gradients and micro-batches since the last update."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        self._weight = torch.zeros((), dtype=torch.float64, device=self.device)
        self._losses: list[tuple[list[str], Tensor]] = []
        self._optim_idx: int | None = None

    def backward(self, output: StepOutput, ids: list[str]) -> None:
        """Add the gradient of one micro-batch."""
        # Data-parallel reduction takes the mean over ranks; the factor makes it a sum.
        wide = output.loss if output.loss.dtype == torch.float64 else output.loss.float()
        loss = wide * (output.weight * (self.distributed.world_size / self._power)).to(wide.dtype)
        (loss if self.precision.scaler is None else self.precision.scaler.scale(loss)).backward()
        self._weight += output.weight
        self._losses.append((ids, output.loss.detach()))
        self._optim_idx = output.optim_idx

    def backward_empty(self, zero: Tensor) -> None:
        """Take part in the reduction with zero gradients."""
        zero.backward()

    def update(self, num_updates: int, stop: bool) -> UpdateResult:
        """Apply what was accumulated, unless it has no weight or is not finite.

        The one collective here also tells whether some rank met a bad loss or was asked to stop, so all ranks decide
        alike; the gradients themselves are the same everywhere after the data-parallel reduction.
        """
        bad = sum((~torch.isfinite(loss)).double() for _, loss in self._losses)
        flags = torch.stack([self._weight, torch.as_tensor(bad, device=self.device).double(), self._weight * 0 + stop])
        weight, bad_losses, stops = self.distributed.all_reduce_sum(flags).tolist()
        if weight == 0 and not bad_losses:
            self.clear()
            return UpdateResult(False, True, math.nan, stops > 0)
        norm = self._prepare_gradients(weight, num_updates)
        finite = bad_losses == 0 and math.isfinite(norm)
        bad_ids = () if finite else self._bad_ids(bad_losses > 0)
        self._step(finite)
        if math.isfinite(weight) and weight > 0:
            self._power = 2.0 ** round(math.log2(weight))
        self.clear()
        return UpdateResult(finite, finite, norm, stops > 0, bad_ids)

    def _prepare_gradients(self, weight: float, num_updates: int) -> float:
        """Unscale, divide by the total weight, add noise, clip; the norm before clipping."""
        if self.precision.scaler is not None:
            for optimizer in self._chosen():
                self.precision.scaler.unscale_(optimizer)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        if not gradients:
            return 0.0
        torch._foreach_mul_(gradients, self._power / weight if weight else math.nan)
        if self.options.grad_noise:
            self._add_noise(gradients, num_updates)
        limit = self.options.grad_clip if self.options.grad_clip > 0 else math.inf
        return float(nn.utils.clip_grad_norm_(self.parameters, limit, self.options.grad_clip_type))

    def _add_noise(self, gradients: list[Tensor], num_updates: int) -> None:
        """Gaussian noise that shrinks with time (Neelakantan et al. 2015), the same on all ranks."""
        sigma = 1.0 / (1 + num_updates // 100) ** 0.55
        generator = torch.Generator(device=self.device).manual_seed(self.seed * 1_000_003 + num_updates)
        for gradient in gradients:
            noise = torch.randn(gradient.shape, generator=generator, device=gradient.device, dtype=gradient.dtype)
            gradient.add_(noise, alpha=sigma)

    def _step(self, finite: bool) -> None:
        for optimizer in self._chosen() if finite else ():
            if self.precision.scaler is None:
                optimizer.step()
            else:
                self.precision.scaler.step(optimizer)
        if self.precision.scaler is not None:
            self.precision.scaler.update()
        for i, schedule in enumerate(self.schedules):
            if finite and schedule is not None and schedule.stepped == UPDATE and self._optim_idx in (None, i):
                schedule.scheduler.step()

    def _chosen(self) -> list[torch.optim.Optimizer]:
        return [o for i, o in enumerate(self.optimizers) if self._optim_idx in (None, i)]

    def _bad_ids(self, losses_are_bad: bool) -> tuple[str, ...]:
        """Ids of the batches with a bad loss; if all losses are finite, of all batches of the update."""
        mine = [
            utterance
            for ids, loss in self._losses
            if not (losses_are_bad and bool(torch.isfinite(loss)))
            for utterance in ids
        ]
        return tuple(utterance for ids in self.distributed.gather_objects(mine) for utterance in ids)

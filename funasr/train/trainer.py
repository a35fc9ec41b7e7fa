"""The training loop.

`Trainer(...).run()` goes over epochs: train, validate, schedules, files, stop or go on.  It knows nothing of speech
but that a front end, if there is one, turns `speech` into features before the model sees the batch.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from funasr.train.average import average_last, average_nbest
from funasr.train.batches import Batch, IterFactory, known_length, look_ahead
from funasr.train.checkpoint import CheckpointDir, optimizer_states, scheduler_states
from funasr.train.distributed import Distributed
from funasr.train.monitor import Monitor, SpeedMeter
from funasr.train.options import TrainerOptions
from funasr.train.progress import NonFiniteError, Progress, StopSignal, TrainResult
from funasr.train.random_state import random_state, seed_everything, set_random_state
from funasr.train.reporter import Reporter, Tally, means
from funasr.train.schedulers import EPOCH, VALUE, Schedule
from funasr.train.update import Precision, TrainStep, Updater, UpdateResult, read_output
from funasr.utils.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


class Trainer:
    """Trains `model`, which is on its device, with optimizers built from its parameters (frozen ones left out before).

    Args:
        frontend: applied to `batch["speech"], batch["speech_lengths"]` without gradient; None: batches hold features.
        schedulers: one (or None) for each optimizer.
        valid_iter_factory: None trains without validation.
        config_hash: any text that identifies the configuration; a change between runs is logged on resume.
    """

    def __init__(
        self,
        model: nn.Module,
        frontend: nn.Module | None,
        optimizers: Sequence[torch.optim.Optimizer],
        schedulers: Sequence[Schedule | None],
        train_iter_factory: IterFactory,
        valid_iter_factory: IterFactory | None,
        options: TrainerOptions,
        output_dir: str | Path,
        distributed: Distributed | None = None,
        seed: int = 0,
        config_hash: str = "",
    ) -> None:
        if len(optimizers) != len(schedulers):
            raise ConfigError(f"{len(optimizers)} optimizers but {len(schedulers)} schedulers (None counts)")
        self.model, self.frontend = model, frontend
        self.optimizers, self.schedules = optimizers, schedulers
        self.train_iter_factory, self.valid_iter_factory = train_iter_factory, valid_iter_factory
        self.options, self.output_dir = options, Path(output_dir)
        self.distributed = distributed or Distributed()
        self.seed, self.config_hash = seed, config_hash
        self.device = next(model.parameters()).device
        self.dtype = getattr(torch, options.train_dtype)
        self.precision = Precision(options, self.device)
        self.updater = Updater(
            model,
            optimizers,
            schedulers,
            options=options,
            distributed=self.distributed,
            precision=self.precision,
            seed=seed,
        )
        self.checkpoints = CheckpointDir(output_dir)
        self.reporter = Reporter()
        self.progress = Progress()
        self.speed = SpeedMeter(frontend)
        self._epoch_tally = Tally()
        self._restored_random: dict[str, Any] | None = None
        self._stop = StopSignal()

    def run(self) -> TrainResult:
        """Train to the end or until a signal (SIGTERM, SIGUSR1) asks to stop."""
        self._resume()
        self.step = self._wrap()
        self.monitor = Monitor(self.output_dir, self.options, self.distributed.is_main)
        anomaly = torch.autograd.set_detect_anomaly(self.options.detect_anomaly)
        try:
            with self._stop.watch(), anomaly:
                reason = self._epochs()
        finally:
            self.monitor.close()
        if reason == "interrupted":
            logger.warning("stopped by %s; go on with --resume true", self._stop.name or "a signal to another rank")
            return TrainResult(reason, self.progress.epoch, self.progress.num_updates)
        logger.info("training ends: %s after %d updates", reason, self.progress.num_updates)
        return self._finish(reason)

    def _epochs(self) -> str:
        """All epochs; the reason for the end."""
        progress = self.progress
        while (reason := self._end_reason()) is None:
            epoch, started = progress.epoch, time.perf_counter()
            if not self._train_epoch(epoch):
                return "interrupted"
            seconds = {"train": time.perf_counter() - started}
            if self.options.no_forward_run:
                progress.epoch, progress.batch = epoch + 1, 0
                continue
            self.reporter.set(epoch, "train", self._close_epoch_tally())
            if self.valid_iter_factory is not None:
                valid = self._validate(epoch)
                if valid is None:
                    return "interrupted"
                self.reporter.set(epoch, "valid", valid)
                seconds["valid"] = time.perf_counter() - started - seconds["train"]
            self._step_epoch_schedules()
            self.monitor.epoch(epoch, progress.num_updates, self.reporter, seconds)
            progress.epoch, progress.batch = epoch + 1, 0
            self._epoch_tally = Tally()
            self._save_epoch(epoch)
            if self._stop and not self.distributed.enabled and self._end_reason() is None:
                return "interrupted"
        return reason

    def _end_reason(self) -> str | None:
        options, progress = self.options, self.progress
        if options.max_update is not None and progress.num_updates >= options.max_update:
            return "max_update"
        if progress.epoch > options.max_epoch:
            return "max_epoch"
        if options.patience is None or progress.batch > 0 or not self.reporter.values:
            return None
        return "patience" if self.reporter.exhausted(options.patience, options.early_stopping_criterion) else None

    def _train_epoch(self, epoch: int) -> bool:
        """One pass over the training data, or the rest of it; False if a signal ended it (the state is saved)."""
        progress, options = self.progress, self.options
        self._train_mode(True)
        seed_everything(self.seed, epoch, self.distributed.rank)
        batches = self.train_iter_factory.build_iter(epoch, skip=progress.batch)
        total = known_length(batches)
        interval = options.log_interval or (max(total // 20, 10) if total is not None else 100)
        recent, first, in_group = Tally(), progress.batch + 1, 0
        self.monitor.start_phase(epoch, "train", None if total is None else total + progress.batch, progress.batch)
        before = Progress(**asdict(progress))
        for item in look_ahead(batches):
            if self._restored_random is not None:
                set_random_state(self._restored_random)
                self._restored_random = None
            self.speed.add(item.batch, item.wait_s)
            progress.batch += 1
            in_group += 1
            complete = in_group == options.accum_grad or item.is_last
            result: UpdateResult | None = None
            if not options.no_forward_run:
                self._forward_backward(item.ids, item.batch, complete, recent)
                result = self._update(recent) if complete else None
            in_group = 0 if complete else in_group
            self.monitor.advance()
            if progress.batch % interval == 0 or item.is_last:
                self._log_interval(epoch, recent, (first, progress.batch))
                recent, first = Tally(), progress.batch + 1
            if result is not None and (result.applied or result.stop):
                due = options.save_interval_steps > 0 and progress.num_updates % options.save_interval_steps == 0
                if result.stop or (due and result.applied):
                    self._save_state()
                if result.stop:
                    return False
                if progress.num_updates == options.max_update:
                    break
        self.monitor.end_phase()
        self._restored_random = None  # not used if all batches of the epoch were done before
        self._check_epoch(epoch, before)
        return True

    def _forward_backward(self, ids: list[str], batch: Batch, complete: bool, recent: Tally) -> None:
        """Add one micro-batch's gradient; ranks reduce gradients only when the update is complete."""
        alone = isinstance(self.step, DistributedDataParallel) and not complete
        with self.step.no_sync() if alone else nullcontext():  # type: ignore[operator]
            features = self._features(batch)
            with self.precision.autocast():
                output = self.step(features)
            if isinstance(output, Tensor):
                self.updater.backward_empty(output)
                return
            self.updater.backward(output, ids)
        for tally in (recent, self._epoch_tally):
            tally.add(output.stats, output.weight)

    def _update(self, recent: Tally) -> UpdateResult:
        progress = self.progress
        rates = {
            f"optim{i}_lr{j}": float(group["lr"])
            for i, optimizer in enumerate(self.optimizers)
            for j, group in enumerate(optimizer.param_groups)
        }
        result = self.updater.update(progress.num_updates, bool(self._stop))
        if result.applied:
            progress.num_updates += 1
            progress.consecutive_nonfinite = 0
            for tally in (recent, self._epoch_tally):
                tally.add({"grad_norm": result.grad_norm, **rates})
        elif not result.finite:
            self._count_nonfinite(result)
        return result

    def _count_nonfinite(self, result: UpdateResult) -> None:
        progress = self.progress
        progress.nonfinite_steps += 1
        progress.consecutive_nonfinite += 1
        names = ", ".join(result.bad_ids[:20]) + (", ..." if len(result.bad_ids) > 20 else "")
        logger.warning("gradients are not finite (norm %s); update left out. Utterances: %s", result.grad_norm, names)
        if progress.consecutive_nonfinite >= self.options.max_nonfinite_steps:
            raise NonFiniteError(
                f"{progress.consecutive_nonfinite} updates in a row had gradients that are not finite, the last with "
                f"utterances {names}. Lower the learning rate, check these utterances, or use --detect_anomaly true."
            )

    def _check_epoch(self, epoch: int, before: Progress) -> None:
        """Raise if a whole epoch changed nothing."""
        progress = self.progress
        if self.options.no_forward_run or before.batch > 0 or progress.num_updates > before.num_updates:
            return
        if progress.nonfinite_steps > before.nonfinite_steps:
            raise NonFiniteError(f"no update of epoch {epoch} had finite gradients; lower the learning rate")
        raise DataError(f"epoch {epoch} has no usable training batch; check the data files and length limits")

    @torch.no_grad()
    def _validate(self, epoch: int) -> dict[str, float] | None:
        """Weighted means over the validation data of all ranks; None if a signal ended it."""
        if self.valid_iter_factory is None:
            return {}
        self._train_mode(False)
        tally = Tally()
        batches = self.valid_iter_factory.build_iter(epoch)
        self.monitor.start_phase(epoch, "valid", known_length(batches))
        for _, batch in batches:
            if batch:
                features = self._features(batch)
                with self.precision.autocast():
                    output = read_output(self.model(**features), features)
                tally.add(output.stats, output.weight)
            self.monitor.advance()
            if self._stop and not self.distributed.enabled:
                self._save_state()  # all batches of the epoch are done: the next run begins with this validation
                return None
        self.monitor.end_phase()
        return means(self.distributed.gather_objects(tally.sums))

    def _features(self, batch: Batch) -> Batch:
        """The batch on the device, `speech` turned into features, floats in the training type."""
        batch = {name: value.to(self.device, non_blocking=True) for name, value in batch.items()}
        if self.frontend is not None and "speech" in batch:
            with torch.no_grad():
                batch["speech"], batch["speech_lengths"] = self.frontend(batch["speech"], batch["speech_lengths"])
        return {name: v.to(self.dtype) if v.is_floating_point() else v for name, v in batch.items()}

    def _train_mode(self, training: bool) -> None:
        self.step.train(training)
        if self.frontend is not None:
            self.frontend.train(training)

    def _wrap(self) -> nn.Module:
        step = TrainStep(self.model)
        if not self.distributed.enabled:
            return step
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(
            step,
            device_ids=ids,
            find_unused_parameters=self.distributed.unused_parameters,
            gradient_as_bucket_view=True,
        )

    def _log_interval(self, epoch: int, recent: Tally, batches: tuple[int, int]) -> None:
        values = means(self.distributed.gather_objects(recent.sums))
        self.monitor.interval(epoch, batches, self.progress.num_updates, values, self.speed.read(self.distributed))

    def _close_epoch_tally(self) -> dict[str, float]:
        values = means(self.distributed.gather_objects(self._epoch_tally.sums))
        return {**values, "nonfinite_steps": float(self.progress.nonfinite_steps)}

    def _step_epoch_schedules(self) -> None:
        for schedule in self.schedules:
            if schedule is not None and schedule.stepped == EPOCH:
                schedule.scheduler.step()
            elif schedule is not None and schedule.stepped == VALUE:
                schedule.scheduler.step(self.reporter.get_value(*self.options.val_scheduler_criterion))

    def _save_epoch(self, epoch: int) -> None:
        """Weights of the epoch, the full state, links to the best, and only then the deletion of others."""
        options, main = self.options, self.distributed.is_main
        if main:
            self.checkpoints.save_epoch(epoch, self.model)
        self._save_state()
        if main:
            self.checkpoints.link_best(self.reporter, options.best_model_criterion)
            if options.nbest_averaging_interval and epoch % options.nbest_averaging_interval == 0:
                self._average(f".till{epoch}epoch")
            nbest = max(options.keep_nbest_models)
            self.checkpoints.prune(self.reporter, options.best_model_criterion, nbest, options.average_last)

    def _save_state(self) -> None:
        """Write `last.pt`; every rank contributes its generators and its sums of the epoch."""
        ranks = self.distributed.gather_objects({"random": random_state(), "tally": self._epoch_tally.sums})
        if self.distributed.is_main:
            scaler = self.precision.scaler
            self.checkpoints.save_state(
                {
                    "model": self.model.state_dict(),
                    "optimizers": optimizer_states(self.optimizers),
                    "schedulers": scheduler_states(self.schedules),
                    "scaler": None if scaler is None else scaler.state_dict(),
                    "reporter": self.reporter.state_dict(),
                    "progress": asdict(self.progress),
                    "best": {",".join(c): self.reporter.best_epoch(*c) for c in self.options.best_model_criterion},
                    "ranks": ranks,
                    "seed": self.seed,
                    "config_hash": self.config_hash,
                }
            )

    def _resume(self) -> None:
        if self.distributed.is_main:
            self.checkpoints.remove_leftovers()
        if not (self.options.resume and self.checkpoints.last.is_file()):
            return
        state = self.checkpoints.load_state()
        if len(state["optimizers"]) != len(self.optimizers):
            raise ConfigError(f"{self.checkpoints.last} is of a run with {len(state['optimizers'])} optimizers")
        try:
            self.model.load_state_dict(state["model"])
            for optimizer, saved in zip(self.optimizers, state["optimizers"]):
                optimizer.load_state_dict(saved)
        except (RuntimeError, ValueError) as error:
            raise ConfigError(f"{self.checkpoints.last} does not fit this model or optimizer: {error}") from None
        for schedule, saved in zip(self.schedules, state["schedulers"]):
            if schedule is not None and saved is not None:
                schedule.load_state_dict(saved)
        if self.precision.scaler is not None and state["scaler"]:
            self.precision.scaler.load_state_dict(state["scaler"])
        self.reporter.load_state_dict(state["reporter"])
        self.progress = Progress(**state["progress"])
        self._resume_ranks(state)
        where = f"epoch {self.progress.epoch}, batch {self.progress.batch}, update {self.progress.num_updates}"
        logger.info("resuming from %s at %s", self.checkpoints.last, where)

    def _resume_ranks(self, state: dict[str, Any]) -> None:
        if self.config_hash and state["config_hash"] and state["config_hash"] != self.config_hash:
            logger.warning("the configuration differs from that of the run that is resumed")
        if self.progress.batch == 0:
            return
        if len(state["ranks"]) != self.distributed.world_size:
            logger.warning(
                "the run had %d processes and now has %d: epoch %d starts again, its first %d batches are seen twice",
                len(state["ranks"]),
                self.distributed.world_size,
                self.progress.epoch,
                self.progress.batch,
            )
            self.progress.batch = 0
            return
        mine = state["ranks"][self.distributed.rank]
        self._restored_random = mine["random"]
        self._epoch_tally = Tally(mine["tally"])

    def _finish(self, reason: str) -> TrainResult:
        progress, options = self.progress, self.options
        averages: dict[tuple[str, str], Path] = {}
        final = None
        if self.distributed.is_main and self.reporter.values:
            averages = self._average("")
            if options.average_last:
                average_last(self.output_dir, options.average_last)
            ranked = [averages[c[:2]] for c in options.best_model_criterion if c[:2] in averages]
            final = ranked[-1] if ranked else self.checkpoints.epoch_file(max(self.reporter.values))
        self.distributed.barrier()
        return TrainResult(reason, progress.epoch - 1, progress.num_updates, averages, final)

    def _average(self, suffix: str) -> dict[tuple[str, str], Path]:
        options = self.options
        return average_nbest(
            self.output_dir, self.reporter, options.best_model_criterion, options.keep_nbest_models, suffix
        )

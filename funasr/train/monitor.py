"""What a run shows while it goes: log lines, `log/metrics.jsonl`, tensorboard, curves, a progress bar, the speed."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from funasr.train.distributed import Distributed
from funasr.train.options import TrainerOptions
from funasr.train.reporter import Reporter
from funasr.utils.io import atomic_path

logger = logging.getLogger(__name__)

DRAW_INTERVAL_S = 60.0  # a set of curves takes one or two seconds, during which all ranks wait


class SpeedMeter:
    """Throughput, padding share and data-wait share since it was last asked."""

    def __init__(self, frontend: nn.Module | None) -> None:
        self.fs = getattr(frontend, "fs", None)
        self._restart()

    def _restart(self) -> None:
        self._start = time.perf_counter()
        self._valid = self._padded = 0
        self._wait = 0.0

    def add(self, batch: Mapping[str, Tensor], wait_s: float) -> None:
        """Count one batch; `wait_s` is how long the loader kept us waiting for it."""
        self._wait += wait_s
        names = [name for name in batch if name.endswith("_lengths")]
        name = "speech_lengths" if "speech_lengths" in names else next(iter(names), "")
        data = batch.get(name.removesuffix("_lengths"))
        if name and data is not None:
            self._valid += int(batch[name].sum())
            self._padded += data.size(0) * data.size(1) if data.dim() > 1 else data.size(0)

    def read(self, distributed: Distributed) -> dict[str, float]:
        """Of all ranks: `audio_hours_per_hour` (raw audio) or `frames_per_second`; shares `padding` and `data_wait`."""
        mine = (self._valid, self._padded, self._wait, time.perf_counter() - self._start)
        valid, padded, wait, elapsed = (sum(values) for values in zip(*distributed.gather_objects(mine)))
        self._restart()
        if not padded or not elapsed:
            return {}
        rate = valid / (elapsed / distributed.world_size)
        speed = {"audio_hours_per_hour": rate / self.fs} if self.fs else {"frames_per_second": rate}
        return {**speed, "padding": 1 - valid / padded, "data_wait": wait / elapsed}


class Monitor:
    """Writes on rank 0 what it is given; on other ranks every method does nothing."""

    def __init__(self, output_dir: Path, options: TrainerOptions, active: bool) -> None:
        self.output_dir, self.options, self.active = output_dir, options, active
        self._writers: dict[str, Any] = {}
        self._bar: Any = None
        self._curves = active and options.use_matplotlib
        self._drawn_at = time.monotonic()
        self._undrawn: Reporter | None = None
        if active:
            (output_dir / "log").mkdir(parents=True, exist_ok=True)
            self._metrics = (output_dir / "log" / "metrics.jsonl").open("a", encoding="utf-8")
            if options.use_tensorboard:
                self._open_tensorboard()

    def start_phase(self, epoch: int, phase: str, total: int | None, done: int = 0) -> None:
        """Begin a pass over data; shows a progress bar if stderr is a terminal."""
        if self.active and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total, initial=done, desc=f"epoch {epoch} {phase}", leave=False, dynamic_ncols=True)

    def advance(self) -> None:
        """One more batch is done."""
        if self._bar is not None:
            self._bar.update()

    def end_phase(self) -> None:
        """Remove the progress bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def interval(
        self,
        epoch: int,
        batches: tuple[int, int],
        num_updates: int,
        values: Mapping[str, float],
        speed: Mapping[str, float],
    ) -> None:
        """Report the training batches numbered `batches` (first, last) of an epoch."""
        if not self.active:
            return
        first, last = batches
        line = ", ".join(f"{key}={number(value)}" for key, value in {**values, **speed}.items())
        logger.info("%depoch:train:%d-%dbatch:[%d num_updates: ]%s", epoch, first, last, num_updates, line)
        self._write("train", epoch=epoch, batch=last, num_updates=num_updates, values={**values, **speed})
        self._scalars("train", {**values, **speed}, num_updates)

    def epoch(self, epoch: int, num_updates: int, reporter: Reporter, seconds: Mapping[str, float]) -> None:
        """Report the results of a whole epoch; `seconds` are those spent in each phase."""
        if not self.active:
            return
        parts = []
        for phase, values in reporter.values[epoch].items():
            line = ", ".join(f"{key}={number(value)}" for key, value in values.items())
            parts.append(f"[{phase}] {line}, time={duration(seconds[phase])}")
            self._scalars(phase, {f"epoch/{key}": value for key, value in values.items()}, num_updates)
            self._write(f"{phase}_epoch", epoch=epoch, num_updates=num_updates, values=values, seconds=seconds[phase])
        logger.info("%depoch results: %s, total_count=%d", epoch, ", ".join(parts), num_updates)
        self._undrawn = reporter
        if time.monotonic() - self._drawn_at >= DRAW_INTERVAL_S:
            self._draw()

    def close(self) -> None:
        """Flush and close all files."""
        self.end_phase()
        self._draw()
        for writer in self._writers.values():
            writer.close()
        if self.active:
            self._metrics.close()

    def _write(self, event: str, values: Mapping[str, float], **fields: Any) -> None:
        finite = {key: value if math.isfinite(value) else None for key, value in values.items()}  # NaN is not JSON
        self._metrics.write(
            json.dumps({"event": event, "time": round(time.time(), 3), **fields, "values": finite}) + "\n"
        )
        self._metrics.flush()

    def _scalars(self, phase: str, values: Mapping[str, float], num_updates: int) -> None:
        if self._writers:
            for key, value in values.items():
                self._writers[phase].add_scalar(key, value, num_updates)

    def _open_tensorboard(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.warning("tensorboard is not installed (pip install tensorboard); its files are not written")
            return
        for phase in ("train", "valid"):
            self._writers[phase] = SummaryWriter(str(self.output_dir / "tensorboard" / phase))

    def _draw(self) -> None:
        """One figure per value: `images/KEY.png`, a line for each phase over the epochs."""
        reporter, self._undrawn = self._undrawn, None
        if reporter is None or not self._curves:
            return
        self._drawn_at = time.monotonic()
        try:
            from matplotlib.figure import Figure
        except ImportError:
            logger.warning("matplotlib is not installed (pip install matplotlib); no curves are drawn")
            self._curves = False
            return
        for key in reporter.value_names():
            figure = Figure(figsize=(6, 4))
            axes = figure.subplots()
            for phase in ("train", "valid"):
                points = [(e, p[phase][key]) for e, p in sorted(reporter.values.items()) if key in p.get(phase, {})]
                if points:
                    axes.plot(*zip(*points), marker=".", label=phase)
            axes.set(xlabel="epoch", ylabel=key)
            axes.legend()
            axes.grid(True)
            with atomic_path(self.output_dir / "images" / f"{key.replace('/', '_')}.png") as path:
                figure.savefig(path, format="png")


def number(value: float) -> str:
    """Three decimals; scientific above 1e3 and, but for zero, up to 1e-3."""
    return f"{value:.3e}" if value != 0 and (abs(value) > 1e3 or abs(value) <= 1e-3) else f"{value:.3f}"


def duration(seconds: float) -> str:
    """Hours, minutes and seconds: 1h02m03s."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    if hours:
        return f"{hours}h{minutes:02d}m{int(rest):02d}s"
    return f"{minutes}m{int(rest):02d}s" if minutes else f"{rest:.1f}s"

"""Where a training run stands, how it ended, and the signals that ask it to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


class NonFiniteError(RuntimeError):
    """Training met NaN or infinity too often to go on; names the last utterances involved."""


@dataclass
class Progress:
    """Where training stands: the epoch under way (from 1), batches of it that are done, updates and skips so far."""

    epoch: int = 1
    batch: int = 0
    num_updates: int = 0
    nonfinite_steps: int = 0
    consecutive_nonfinite: int = 0


@dataclass(frozen=True)
class TrainResult:
    """How training ended.  `reason`: "max_epoch", "max_update", "patience", or "interrupted" (state saved, run again
    with --resume true).  `averages`: (phase, key) -> averaged weights; `final_model`: those of the last criterion
    in `best_model_criterion` that has values, else the latest epoch's."""

    reason: str
    epoch: int
    num_updates: int
    averages: dict[tuple[str, str], Path] = field(default_factory=dict)
    final_model: Path | None = None


class StopSignal:
    """Notes SIGTERM and SIGUSR1, to be obeyed after the update under way."""

    def __init__(self) -> None:
        self.name: str | None = None

    def __bool__(self) -> bool:
        return self.name is not None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Listen while open; Python allows that in the main thread only, elsewhere nothing is heard."""
        main = threading.current_thread() is threading.main_thread()
        watched = (signal.SIGTERM, signal.SIGUSR1) if main else ()
        previous = {number: signal.signal(number, self._note) for number in watched}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _note(self, number: int, _: Any) -> None:
        self.name = signal.Signals(number).name

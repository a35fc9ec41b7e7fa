"""How far a call has come: a bar in a terminal, and the caller's own function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

Callback = Callable[[int, int], object]

PATIENCE_S = 1.0  # what is done sooner shows no bar


class Progress:
    """Counts inputs that are done.

    Args:
        total: number of inputs; 0 if it is not known.
        callback: called with (done, total) after every step; what it raises ends the call.
        quiet: no bar; there is none either without a terminal.
    """

    def __init__(self, total: int, callback: Callback | None = None, quiet: bool = False) -> None:
        self.total = total
        self.done = 0
        self._callback = callback
        hidden = quiet or not sys.stderr.isatty()
        self._bar = tqdm(total=total or None, disable=hidden, unit="input", leave=False, delay=PATIENCE_S)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self, count: int) -> None:
        """`count` more inputs are done."""
        self.done += count
        self._bar.update(count)
        if self._callback is not None:
            self._callback(self.done, self.total)

    def heard(self, key: str, seconds: float) -> None:
        """The recording `key` is recognised up to here; what the bar shows of an input that takes long."""
        minutes, rest = divmod(int(seconds), 60)
        self._bar.set_postfix_str(f"{key} to {minutes}:{rest:02d}")

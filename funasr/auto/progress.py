"""How far a call has come: a bar in a terminal, and the caller's own function."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import TracebackType

from tqdm import tqdm

Callback = Callable[[int, int], object]


class Progress:
    """Counts inputs that are done.

    Args:
        total: number of inputs; 0 if it is not known.
        callback: called with (done, total) after every step; what it raises ends the call.
        quiet: no bar; there is none either without a terminal or for a single input.
    """

    def __init__(self, total: int, callback: Callback | None = None, quiet: bool = False) -> None:
        self.total = total
        self.done = 0
        self._callback = callback
        hidden = quiet or total == 1 or not sys.stderr.isatty()
        self._bar = tqdm(total=total or None, disable=hidden, unit="input", leave=False)

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

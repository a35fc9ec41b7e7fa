"""What the small commands share: a user's error is one clear line and exit status 2, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import wraps

from funasr.utils.errors import ConfigError, DataError

Main = Callable[[Sequence[str] | None], int]


def user_errors(main: Main) -> Callable[..., int]:
    """Decorate `main(argv) -> exit status` so that ConfigError and DataError are printed and give status 2."""

    @wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except (ConfigError, DataError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        except BrokenPipeError:  # the reader of a pipe (`| head`) has seen enough
            sys.stderr.close()
            return 0

    return wrapped

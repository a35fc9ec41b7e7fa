"""Log set-up of a program: one handler for the console, one for a file, the rank in every line."""

from __future__ import annotations

import logging
import socket
import sys
from pathlib import Path


class StderrHandler(logging.Handler):
    """Writes to whatever `sys.stderr` is at the time of the record (it may have been redirected since)."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")
        sys.stderr.flush()


def setup_logging(
    level: str | int = "INFO", rank: int = 0, world_size: int = 1, log_file: str | Path | None = None
) -> None:
    """Send log records to stderr (and `log_file`, appended); replaces the handlers of an earlier set-up.

    Lines read `[host:rank/world] date (module:line) LEVEL: message`.  Ranks other than 0 show errors only.
    """
    number = getattr(logging, level.upper()) if isinstance(level, str) else level
    host = socket.gethostname().split(".")[0]
    prefix = f"[{host}:{rank}/{world_size}]" if world_size > 1 else f"[{host}]"
    formatter = logging.Formatter(f"{prefix} %(asctime)s (%(module)s:%(lineno)d) %(levelname)s: %(message)s")
    handlers: list[logging.Handler] = [StderrHandler()]
    if log_file is not None and rank == 0:
        Path(log_file).parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(log_file, encoding="utf-8"))
    root = logging.getLogger()
    for old in root.handlers[:]:
        if type(old) in (logging.StreamHandler, logging.FileHandler, StderrHandler):  # not those of a test runner
            root.removeHandler(old)
            old.close()
    for handler in handlers:
        handler.setFormatter(formatter)
        root.addHandler(handler)
    root.setLevel(number if rank == 0 else max(number, logging.ERROR))
    for noisy in ("matplotlib", "PIL", "numba", "urllib3"):
        logging.getLogger(noisy).setLevel(max(number, logging.WARNING))

"""One training run at a time in an experiment directory: two would write the same checkpoints."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from funasr.utils.errors import ConfigError

logger = logging.getLogger(__name__)

LOCK_FILE = ".lock"


@contextmanager
def run_lock(directory: str | Path) -> Iterator[None]:
    """Keep other runs out of `directory` while the block runs.

    The operating system gives the lock back when this process ends, however it ends; the file that stays behind means
    nothing.  Loader processes do not inherit the lock, so one that outlives a killed run does not keep it.

    Raises ConfigError naming the directory and the run in it.
    """
    path = Path(directory) / LOCK_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise ConfigError(
                    f"{directory} is in use by a training run ({holder}); wait for it, end it, or choose another "
                    "--output_dir"
                ) from None
            logger.warning("%s: this file system has no locks (%s); start only one run here", directory, error)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}\n")
        file.flush()
        yield

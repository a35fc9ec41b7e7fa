"""Where and how models compute: device, number type and threads, decided in one place."""

from __future__ import annotations

import logging
import os
from typing import Any

import torch

from funasr.utils.cpu import cpu_info
from funasr.utils.errors import ConfigError

logger = logging.getLogger(__name__)

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}

PREPARED_OPERATIONS = 128
"""oneDNN prepares an operation for each new shape of its input.  By default it keeps 1024 of them, and torch as many of
their descriptions: half a MiB for one, which makes 200 MiB in half an hour of segments of ever other lengths.  A batch
needs some 30 of them in Paraformer and 60 in CAM++."""


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for; by default a GPU if there is one.

    A GPU that is not there is replaced by the CPU, with a warning.  ConfigError for a name torch does not know.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise ConfigError(
            f"device '{device}' is none that torch knows; use cpu, cuda, cuda:1, mps, xpu or npu"
        ) from None
    backend: Any = getattr(torch, chosen.type, None)
    if chosen.type != "cpu" and not (hasattr(backend, "is_available") and backend.is_available()):
        logger.warning("device '%s' is not available here; the CPU is used", device)
        return torch.device("cpu")
    return chosen


def choose_dtype(dtype: str | torch.dtype | None) -> torch.dtype:
    """float32 by default.  "auto" is decided by the caller, after a probe.  ConfigError for another name."""
    if dtype is None:
        return torch.float32
    if isinstance(dtype, torch.dtype):
        dtype = str(dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise ConfigError(f"dtype must be auto, {', '.join(DTYPES)}, not '{dtype}'")
    return DTYPES[dtype]


def half_candidate(device: torch.device) -> torch.dtype | None:
    """The 16-bit type that is much faster than float32 on this device; None if there is none.

    bfloat16 needs units for it: AMX or AVX-512 BF16 in a CPU, compute capability 8.0 in an NVIDIA GPU.
    """
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if device.type != "cpu":
        return None
    flags = cpu_info()
    return torch.bfloat16 if "amx_bf16" in flags or "avx512_bf16" in flags else None


def set_threads(threads: int | None) -> None:
    """How many threads torch computes with in this process; None leaves it as it is."""
    if threads is None:
        return
    if not isinstance(threads, int) or threads < 1:
        raise ConfigError(f"threads must be a whole number of at least 1, not {threads!r}")
    torch.set_num_threads(threads)


def limit_prepared_operations() -> None:
    """Keep the memory of operations prepared for past shapes small, unless the environment says otherwise.

    oneDNN and torch read these variables of theirs at the first operation; after that they are without effect.
    """
    for name in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
        os.environ.setdefault(name, str(PREPARED_OPERATIONS))

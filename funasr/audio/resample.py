"""Sample-rate conversion of float32 arrays."""

from __future__ import annotations

from functools import lru_cache
from math import gcd
from typing import Any

import numpy as np


def resample(wave: np.ndarray, orig_fs: int, new_fs: int) -> np.ndarray:
    """Windowed-sinc resampling (torchaudio's defaults: 6 zero crossings, roll-off 0.99, Hann).

    Args:
        wave: (samples,) or (samples, channels) float32.

    Returns: ceil(samples * new_fs / orig_fs) samples, float32.
    """
    if orig_fs == new_fs or len(wave) == 0:
        return wave
    import torch

    divisor = gcd(orig_fs, new_fs)
    with torch.no_grad():
        # the filter sees time as the last axis
        converted = _resampler(orig_fs // divisor, new_fs // divisor)(torch.from_numpy(np.ascontiguousarray(wave.T)))
    return np.ascontiguousarray(converted.numpy().T)


@lru_cache(maxsize=32)
def _resampler(orig: int, new: int) -> Any:
    """The filter for a reduced ratio; building it costs more than applying it to a short utterance."""
    import torch
    from torchaudio.transforms import Resample

    with torch.inference_mode(False):
        return Resample(orig, new)

"""Cutting a stretch of speech into the windows that get a speaker embedding each."""

from __future__ import annotations

import numpy as np

FS = 16000  # of every speaker model
WINDOW = 24000  # samples, 1.5 s
SHIFT = 12000  # samples, 0.75 s


def window_bounds(samples: int) -> np.ndarray:
    """First sample and end (exclusive) of each window of a stretch of `samples`: (windows, 2) int64.

    The last window is moved back so that it is full too; a stretch shorter than a window is one shorter window.
    """
    if samples <= 0:
        return np.zeros((0, 2), dtype=np.int64)
    count = 1 + max(0, -(-(samples - WINDOW) // SHIFT))
    ends = np.minimum(np.arange(count) * SHIFT + WINDOW, samples)
    return np.stack([np.maximum(ends - WINDOW, 0), ends], axis=1).astype(np.int64)


def cut_windows(wave: np.ndarray, start_s: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Windows of 1.5 s, one every 0.75 s, of a stretch of speech.

    Args:
        wave: (samples,) at 16 kHz.
        start_s: where the stretch begins in its recording.

    Returns:
        times (windows, 2) float64, start and end in seconds in the recording, without padding; and the samples
        (windows, 24000) of `wave`'s type, zero-padded on the right where the stretch is shorter than a window.
    """
    bounds = window_bounds(len(wave))
    if len(wave) < WINDOW:
        wave = np.pad(wave, (0, WINDOW - len(wave)))
    return bounds / FS + start_s, wave[bounds[:, :1] + np.arange(WINDOW)]

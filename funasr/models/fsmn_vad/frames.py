"""Is a frame speech?  From the silence probabilities of the network and the levels of the samples."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor

from funasr.models.fsmn_vad.options import VADOptions


def frame_levels(wave: Tensor, window: int, step: int) -> np.ndarray:
    """Level of each frame in dB: 10 log10(sum of squares + 1e-6), (frames,) float64.

    Args:
        wave: (samples,) in [-1, 1]; window, step: in samples.
    """
    if wave.numel() < window:
        return np.zeros(0)
    energy = wave.unfold(0, window, step).square().sum(dim=1)
    return (10.0 * torch.log10(energy + 1e-6)).double().cpu().numpy()


@dataclass
class FrameDecider:
    """Thresholds of a session and its noise level in dB (None before the first frame of noise)."""

    options: VADOptions
    speech_noise_thres: float
    noise_db: float | None = None

    def __call__(self, silence: np.ndarray, levels: np.ndarray | None) -> np.ndarray:
        """Whether each of the next frames is speech.

        Args:
            silence: probability of silence (frames,); levels: dB (frames,), needed if `options.needs_levels`.
        """
        options = self.options
        silence = silence.astype(np.float64)
        probable = 1.0 - silence >= silence**options.speech_2_noise_ratio + self.speech_noise_thres
        if options.fe_prior_thres >= 1.0:
            return np.zeros(len(silence), dtype=bool)
        if not options.needs_levels or levels is None:
            return probable
        audible = ~(levels < options.decibel_thres)
        noise = self._noise_before(levels, audible & ~probable)
        return audible & probable & (levels - noise >= options.snr_thres)

    def _noise_before(self, levels: np.ndarray, is_noise: np.ndarray) -> np.ndarray:
        """Running mean of the levels of noise frames as each frame finds it (frames,), -100 while there was none."""
        count = self.options.noise_frame_num_used_for_snr
        heard = levels[is_noise]
        first = -100.0 if self.noise_db is None else self.noise_db
        if not len(heard):
            return np.full(len(levels), first)
        # A recursion, so frame by frame; only with an snr_thres, and only over frames of noise.
        mean = accumulate(
            heard.tolist(), lambda noise, level: (level + (count - 1) * noise) / count, initial=self.noise_db
        )
        averages = list(mean)[0 if self.noise_db is None else 1 :]
        self.noise_db = averages[-1]
        before = np.cumsum(is_noise) - is_noise  # noise frames before each frame
        return np.concatenate([[first], averages])[before]

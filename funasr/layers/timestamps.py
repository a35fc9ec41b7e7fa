"""Times of tokens from the weight and integrator curves of a CIF predictor."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

FIRE = 0.9999  # an integrator at or above this has fired
SHIFT_FRAMES = -1.5  # the predictor fires this much late
MAX_TOKEN_FRAMES = 12.0  # a token lasts no longer; what follows is silence
EDGE_FRAMES = 5.0  # more than this after the last fire is half silence


def cif_timestamps(
    alphas: Tensor,
    peaks: Tensor,
    num_tokens: int,
    frame_ms: float,
    offset_ms: float = 0.0,
    duration_ms: float | None = None,
) -> list[list[int]]:
    """One [start_ms, end_ms] per token, in order, starts and ends never decreasing.

    A token lasts from its fire to the next one, so `num_tokens` tokens need one fire more; models trained with an end
    token have it.  If the curves hold another number of fires, the weights are scaled to give the right one.  Released
    FunASR does the same, but gives plain Paraformer's two curves in the wrong order (so its times come from integrating
    the integrator); here the order is right.

    Args:
        alphas: (frames,) weights; peaks: (frames,) integrator before each fire, see funasr.layers.cif.
        num_tokens: tokens to be timed, without the end token.
        frame_ms: duration of one entry of the curves.
        offset_ms: start of the audio in its recording, added to all times.
        duration_ms: of the audio, default all frames; times lie in [0, duration_ms] before the offset is added.

    Returns:
        Times in whole ms, cut off (not rounded) as in released models.
    """
    if num_tokens == 0:
        return []
    frames = alphas.numel()
    if frames == 0:
        return [[int(offset_ms), int(offset_ms)]] * num_tokens
    fires = torch.nonzero(peaks >= FIRE).flatten()
    if fires.numel() != num_tokens + 1:
        fires = _evenly_scaled_fires(alphas, num_tokens + 1)
    fire = fires.double().cpu() + SHIFT_FRAMES
    starts, ends = fire[:-1], torch.minimum(fire[1:], fire[:-1] + MAX_TOKEN_FRAMES)
    last = float(fire[-1])
    if float(ends[-1]) == last:  # else a silence follows the last token already
        ends[-1] = (frames + last) / 2.0 if frames - last > EDGE_FRAMES else float(frames)
    seconds_per_frame = frame_ms / 1000.0
    limit = float(frames) if duration_ms is None else min(float(frames), duration_ms / frame_ms)
    spans = torch.stack([starts, ends], dim=1).clamp(0.0, limit) * seconds_per_frame + offset_ms / 1000.0
    return (spans * 1000.0).long().tolist()


def feature_frame_ms(frontend: Any | None) -> float:
    """Duration of one feature frame, ms; without a front end that of released models: 10 ms frames, every sixth."""
    return 60.0 if frontend is None else float(frontend.frame_shift) * int(frontend.lfr_n)


def frames_per_output(encoder: nn.Module) -> int:
    """How many feature frames each output frame of the encoder stands for: the strides of its sub-sampling."""
    stages = getattr(getattr(encoder, "embed", None), "stages", ())
    return math.prod(stage.stride for stage in stages)


def _evenly_scaled_fires(alphas: Tensor, count: int) -> Tensor:
    """Frames (count,) at which weights scaled to sum to `count` fire; the last frame if there is nothing to scale."""
    total = alphas.double().clamp(min=0.0).cumsum(dim=0)
    levels = FIRE * torch.arange(1, count + 1, dtype=total.dtype, device=total.device)
    fires = torch.searchsorted(total * (count / total[-1].clamp(min=1e-8)), levels)
    return fires.clamp(max=alphas.numel() - 1)

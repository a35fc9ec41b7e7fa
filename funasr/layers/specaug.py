"""SpecAugment (https://arxiv.org/abs/1904.08779): time warping, frequency masks and time masks on features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from funasr.layers.mask import length_mask
from funasr.register import tables
from funasr.utils.errors import ConfigError
from funasr.utils.signature import extends

WARP_MODES = ("bicubic", "bilinear")
CUBIC_A = -0.75  # the cubic convolution kernel of torch.nn.functional.interpolate


@tables.register("specaug_classes", "SpecAug", aliases=("specaug",))
class SpecAug(nn.Module):
    """Warp, then frequency masks, then time masks; each utterance draws its own, within its real length.

    The input is never written to. In evaluation mode it is returned as it is.
    """

    slots = 1

    def __init__(
        self,
        apply_time_warp: bool = True,
        time_warp_window: int = 5,
        time_warp_mode: str = "bicubic",
        apply_freq_mask: bool = True,
        freq_mask_width_range: int | Sequence[int] = (0, 20),
        num_freq_mask: int = 2,
        apply_time_mask: bool = True,
        time_mask_width_range: int | Sequence[int] | None = None,
        time_mask_width_ratio_range: float | Sequence[float] | None = None,
        num_time_mask: int = 2,
    ) -> None:
        """Options.

        Args:
            time_warp_window: furthest shift in frames; utterances of at most twice that are not warped.
            time_warp_mode: bicubic or bilinear interpolation along time.
            freq_mask_width_range, time_mask_width_range: [low, high) in bins or frames; n means (0, n).
            time_mask_width_ratio_range: the same as parts of the utterance's frames, instead of the range in frames.

        Raises:
            ConfigError: nothing is applied, a range is wrong, or not exactly one range is given for time masks.
        """
        super().__init__()
        if not (apply_time_warp or apply_freq_mask or apply_time_mask):
            raise ConfigError("specaug: one of apply_time_warp, apply_freq_mask and apply_time_mask must be true")
        if apply_time_warp and time_warp_mode not in WARP_MODES:
            raise ConfigError(f"specaug: time_warp_mode '{time_warp_mode}' is not one of {', '.join(WARP_MODES)}")
        if apply_time_mask and (time_mask_width_range is None) == (time_mask_width_ratio_range is None):
            raise ConfigError(
                "specaug: time masks need exactly one of time_mask_width_range and time_mask_width_ratio_range"
            )
        self.time_warp_window = time_warp_window if apply_time_warp else 0
        self.time_warp_mode = time_warp_mode
        self.freq_range = _range("freq_mask_width_range", freq_mask_width_range)
        self.num_freq_mask = num_freq_mask if apply_freq_mask else 0
        self.num_time_mask = num_time_mask if apply_time_mask else 0
        self.time_range = self.time_ratio_range = None
        if time_mask_width_range is not None:
            self.time_range = _range("time_mask_width_range", time_mask_width_range)
        if time_mask_width_ratio_range is not None:
            self.time_ratio_range = _range("time_mask_width_ratio_range", time_mask_width_ratio_range)
            if self.time_ratio_range[1] > 1:
                raise ConfigError(f"specaug: time_mask_width_ratio_range {time_mask_width_ratio_range} exceeds 1")

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (batch, frames, dim) and lengths (batch,) -> augmented features, lengths; masked values are 0.0."""
        if not self.training or x.size(1) == 0:
            return x, lengths
        frames = lengths.to(x.device)
        if self.time_warp_window:
            x = time_warp(x, frames, self.time_warp_window, self.time_warp_mode)
        if self.num_freq_mask:
            if x.size(2) % self.slots:
                raise ConfigError(
                    f"specaug: dimension {x.size(2)} is not made of {self.slots} stacked frames (lfr_rate)"
                )
            bins = torch.full_like(frames, x.size(2) // self.slots)
            low, high = (torch.full_like(bins, edge) for edge in self.freq_range)
            masked = random_spans(bins, x.size(2) // self.slots, low, high, self.num_freq_mask)
            x = x.masked_fill(masked.repeat(1, self.slots)[:, None, :], 0.0)
        if self.num_time_mask:
            low, high = self._time_widths(frames)
            x = x.masked_fill(random_spans(frames, x.size(1), low, high, self.num_time_mask)[..., None], 0.0)
        return x, lengths

    def _time_widths(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Range [low, high) of the width of time masks for each utterance."""
        if self.time_range is not None:
            return torch.full_like(frames, self.time_range[0]), torch.full_like(frames, self.time_range[1])
        assert self.time_ratio_range is not None
        return (frames * self.time_ratio_range[0]).long(), (frames * self.time_ratio_range[1]).long()


@tables.register("specaug_classes", "SpecAugLFR", aliases=("specaug_lfr",))
class SpecAugLFR(SpecAug):
    """SpecAug for features of `lfr_rate` + 1 stacked frames: a frequency mask covers the same bins in each of them."""

    @extends(SpecAug.__init__)
    def __init__(self, *, lfr_rate: int = 0, **options: Any) -> None:
        """Options as in `SpecAug`; `lfr_rate` is lfr_m - 1 of the front end."""
        super().__init__(**options)
        self.slots = lfr_rate + 1


def _range(name: str, value: float | Sequence[float]) -> tuple:
    low_high = (0, value) if isinstance(value, (int, float)) else tuple(value)
    if len(low_high) != 2 or not 0 <= low_high[0] < low_high[1]:
        raise ConfigError(f"specaug: {name} must be n or [low, high) with 0 <= low < high, not {value}")
    return low_high


def random_spans(lengths: Tensor, size: int, low: Tensor, high: Tensor, count: int) -> Tensor:
    """`count` random spans in each row, as a mask (batch, size), True inside a span.

    Widths are uniform in [low, high), starts uniform where the widest span of the row fits; all of shape (batch,).
    Where high <= low the width is `low`, so a row with range [0, 0) gets no span.
    """
    shape = (lengths.size(0), count)
    widths = _uniform(low[:, None].expand(shape), high[:, None])
    room = lengths - widths.amax(1)
    starts = _uniform(torch.zeros_like(widths), room[:, None].clamp(min=1))[..., None]
    position = torch.arange(size, device=lengths.device)
    return ((position >= starts) & (position < starts + widths[..., None])).any(1)


def _uniform(low: Tensor, high: Tensor) -> Tensor:
    """Integers uniform in [low, high), of the shape of `low`; `low` where that is empty."""
    span = (high - low).clamp(min=0)
    drawn = (torch.rand(low.shape, device=low.device) * span).long()
    return low + torch.minimum(drawn, (span - 1).clamp(min=0))  # rand * span may round up to span


def time_warp(x: Tensor, lengths: Tensor, window: int, mode: str) -> Tensor:
    """Stretch the first part of each utterance and squeeze the rest, or the reverse.

    A frame c, uniform in [window, length - window), moves to a frame uniform in (c - window, c + window]; both parts
    are interpolated along time, as by `interpolate(..., align_corners=False)`. Utterances of at most 2 * window frames
    stay as they are.

    Args:
        x: (batch, frames, dim); lengths: (batch,).
    """
    batch, frames, dim = x.shape
    warped = lengths > 2 * window
    centre = _uniform(torch.full_like(lengths, window), lengths - window)
    target = _uniform(centre - window, centre + window) + 1
    centre, target = (torch.where(warped, c, lengths)[:, None] for c in (centre, target))

    time = torch.arange(frames, device=x.device)[None]
    lengths = lengths[:, None]
    first = time < target
    begin_out, begin_in = torch.where(first, 0, target), torch.where(first, 0, centre)
    size_out = torch.where(first, target, lengths - target).clamp(min=1)
    size_in = torch.where(first, centre, lengths - centre).clamp(min=1)
    position = (time - begin_out + 0.5) * (size_in / size_out) - 0.5
    base = position.floor()
    part = position - base
    out = torch.zeros_like(x)
    for tap, weight in _taps(part, mode):
        index = torch.minimum((base.long() + tap).clamp(min=0), size_in - 1) + begin_in
        index = torch.where(time < lengths, index, 0)
        out = out + weight.to(x.dtype)[..., None] * x.gather(1, index[..., None].expand(batch, frames, dim))
    out = torch.where(warped[:, None, None], out, x)
    return out.masked_fill(~length_mask(lengths[:, 0], frames)[..., None], 0.0)


def _taps(part: Tensor, mode: str) -> list[tuple[int, Tensor]]:
    """Neighbours (offset, weight) of a position `part` of the way from one frame to the next."""
    if mode == "bilinear":
        return [(0, 1 - part), (1, part)]

    def near(d: Tensor) -> Tensor:  # |distance| <= 1
        return ((CUBIC_A + 2) * d - (CUBIC_A + 3)) * d * d + 1

    def far(d: Tensor) -> Tensor:  # 1 < |distance| < 2
        return ((CUBIC_A * d - 5 * CUBIC_A) * d + 8 * CUBIC_A) * d - 4 * CUBIC_A

    return [(-1, far(part + 1)), (0, near(part)), (1, near(1 - part)), (2, far(2 - part))]

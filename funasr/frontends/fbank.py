"""Kaldi-compatible log-mel filterbank on a batch of waveforms.

Framing -> DC removal -> pre-emphasis -> window -> squared magnitude of the FFT -> mel triangles -> natural logarithm.

The work is done in blocks of frames that stay in the cache of a CPU, so memory beyond the result does not grow with
the length of the audio. Windows and mel banks are computed once per set of sizes and device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from funasr.layers.mask import length_mask
from funasr.utils.errors import ConfigError

INT16_SCALE = 32768.0
LOG_FLOOR = 1.1920928955078125e-07  # float32 epsilon: an all-zero frame gives log(1.19e-07) = -15.9424
PRE_EMPHASIS = 0.97
LOW_HZ = 20.0
WINDOWS = ("hamming", "hanning", "povey", "rectangular", "blackman")

CPU_BLOCK_FRAMES = 1024  # about the L2 cache of two cores
DEVICE_BLOCK_FRAMES = 65536  # about 0.5 GiB of working memory on an accelerator
MIN_MATMUL_ROWS = 128  # few rows are summed in another order, and a frame's result would depend on its batch
BAND_FILTERS = 32  # of neighbours, which reach a part of the bins only: half the work of all filters times all bins


class Band(NamedTuple):
    """Neighbouring mel filters and the part of a spectrum that they reach: `weights` (parts, filters)."""

    filters: slice
    parts: slice
    weights: Tensor


@dataclass(frozen=True)
class FbankOptions:
    """What to compute. `fs` in Hz, `frame_length` and `frame_shift` in ms; `scale` multiplies samples in [-1, 1]."""

    fs: int = 16000
    n_mels: int = 80
    frame_length: float = 25
    frame_shift: float = 10
    window: str = "hamming"
    snip_edges: bool = True
    scale: float = INT16_SCALE

    def __post_init__(self) -> None:
        if self.window not in WINDOWS:
            raise ConfigError(f"window '{self.window}' is unknown; choose one of {', '.join(WINDOWS)}")
        if self.n_mels <= 3:
            raise ConfigError(f"n_mels must be more than 3, not {self.n_mels}")
        if self.window_size < 2 or self.shift < 1:
            raise ConfigError(
                f"frame_length {self.frame_length} ms and frame_shift {self.frame_shift} ms are too short"
            )

    @property
    def window_size(self) -> int:
        """Samples per frame."""
        return int(self.fs * self.frame_length * 0.001)

    @property
    def shift(self) -> int:
        """Samples from one frame to the next."""
        return int(self.fs * self.frame_shift * 0.001)

    def num_frames(self, samples: int) -> int:
        """Frames that `samples` give; from 2 samples on, audio shorter than a frame counts as one shorter frame."""
        if samples < 2:
            return 0
        if self.snip_edges:
            return 1 + max(0, samples - self.window_size) // self.shift
        return (samples + self.shift // 2) // self.shift


@torch.no_grad()
def fbank(waves: Tensor, lengths: Tensor, options: FbankOptions, dither: float = 0.0) -> tuple[Tensor, Tensor]:
    """Log-mel features of zero-padded waveforms.

    Args:
        waves: (batch, samples) float, in [-1, 1] if `options.scale` is 32768.
        lengths: (batch,) valid samples.
        dither: standard deviation, on the scaled samples, of noise added to every framed sample independently; drawn
            from torch's global generator of the device.

    Returns:
        (batch, frames, n_mels) float32, 0.0 where there is no frame, and (batch,) number of frames.
    """
    waves = waves.float()
    sizes = [int(n) for n in lengths.tolist()]
    counts = [options.num_frames(n) for n in sizes]
    feats = waves.new_zeros(len(counts), max(counts, default=0), options.n_mels)
    with torch.autocast(waves.device.type, enabled=False):
        if max(sizes, default=0) >= options.window_size and feats.size(1) > 0:
            _log_mel(_spanned(waves, lengths, feats.size(1), options.window_size, options), options, dither, feats)
        for i, size in enumerate(sizes):
            if size < options.window_size and counts[i] > 0:
                wave = _spanned(waves[i : i + 1, :size], lengths[i : i + 1], counts[i], size, options)
                _log_mel(wave, options, dither, feats[i : i + 1, : counts[i]], size)
    feats_lengths = torch.tensor(counts, dtype=torch.int64, device=lengths.device)
    if min(counts, default=0) != feats.size(1):  # frames computed from padding
        feats.masked_fill_(~length_mask(feats_lengths.to(feats.device), feats.size(1))[..., None], 0.0)
    return feats, feats_lengths


def _spanned(waves: Tensor, lengths: Tensor, count: int, size: int, options: FbankOptions) -> Tensor:
    """The samples of `count` frames of `size`: the waveforms; without snip_edges a copy mirrored at both ends."""
    if options.snip_edges:
        return waves
    offset = size // 2 - options.shift // 2
    positions = torch.arange((count - 1) * options.shift + size, device=waves.device) - offset
    return waves.gather(1, mirror(positions, lengths.to(waves.device), repeat_edge=True))


def mirror(positions: Tensor, lengths: Tensor, repeat_edge: bool) -> Tensor:
    """Where positions outside [0, length) fall when each signal is mirrored at its own ends.

    Args:
        positions: (n,) int; lengths: (batch,) int. `repeat_edge`: ..1 0 | 0 1.., else ..2 1 | 0 1 2..

    Returns: (batch, n) in [0, length).
    """
    last = 2 * lengths.clamp(min=1)[:, None] - (1 if repeat_edge else 2)  # position that mirrors sample 0 on the right
    folded = positions[None] % (last + 1 if repeat_edge else last.clamp(min=1))
    return torch.minimum(folded, last - folded).clamp_(min=0)


def _log_mel(waves: Tensor, options: FbankOptions, dither: float, out: Tensor, window_size: int | None = None) -> None:
    """Log-mel energies of the frames of `waves` (batch, samples) into `out` (batch, frames, n_mels), block by block."""
    batch, total, n_mels = out.shape
    size = window_size or options.window_size
    fft_size = 1 << (size - 1).bit_length()
    window = _window(options.window, size, options.scale, waves.device)
    bands = _mel_bands(n_mels, fft_size, options.fs, waves.device)
    limit = CPU_BLOCK_FRAMES if waves.device.type == "cpu" else DEVICE_BLOCK_FRAMES
    step = min(max(1, limit // batch), total)

    # These arrays serve every block: fresh ones cost more than the arithmetic that fills them.  There is none for the
    # spectrum, because torch would only copy it there.
    padded = waves.new_empty(batch * step, fft_size)
    padded[:, size:] = 0.0
    energy = waves.new_empty(max(batch * step, MIN_MATMUL_ROWS), n_mels)
    for start in range(0, total, step):
        n = min(step, total - start)
        rows = batch * n
        first = start * options.shift
        span = waves[:, first : first + (n - 1) * options.shift + size]
        _emphasise(span, size, options, dither, padded[:rows].view(batch, n, fft_size)[..., :size])
        padded[:rows, :size].mul_(window)
        # The sum of the squares of both parts is left to the product: the bank has the same weights for both.
        squares = torch.view_as_real(torch.fft.rfft(padded[:rows])).view(rows, -1).square_()
        if rows < MIN_MATMUL_ROWS:
            squares = F.pad(squares, (0, 0, 0, MIN_MATMUL_ROWS - rows))
        for band in bands:
            torch.mm(squares[:, band.parts], band.weights, out=energy[: len(squares), band.filters])
        torch.clamp(energy[:rows].view(batch, n, n_mels), min=LOG_FLOOR, out=out[:, start : start + n])
    out.log_()


def _emphasise(span: Tensor, size: int, options: FbankOptions, dither: float, out: Tensor) -> None:
    """Frames of `span` (batch, samples) without their mean, pre-emphasised, into `out` (batch, frames, size).

    (x[j] - m) - 0.97 (x[j-1] - m) is x[j] - 0.97 x[j-1], the same in all frames that share a sample, less 0.03 m.  The
    first sample of a frame is its own predecessor: it comes out as x[0] - m, and the window has its factor.
    """
    frames = span.unfold(1, size, options.shift)
    if dither:
        frames = frames + torch.randn(frames.shape, device=frames.device) * (dither / options.scale)
        steps = torch.sub(frames[..., 1:], frames[..., :-1], alpha=PRE_EMPHASIS)
    else:
        steps = torch.sub(span[:, 1:], span[:, :-1], alpha=PRE_EMPHASIS).unfold(1, size - 1, options.shift)
    mean = frames.mean(2, keepdim=True)
    torch.sub(steps, mean, alpha=1 - PRE_EMPHASIS, out=out[..., 1:])
    torch.sub(frames[..., :1], mean, out=out[..., :1])


@lru_cache(maxsize=64)
def _window(name: str, size: int, scale: float, device: torch.device) -> Tensor:
    """Window (size,) times `scale`, with the pre-emphasis of sample 0 in it.

    The scale is a power of two, so it changes no rounding: as good as scaling the samples, at no cost.
    """
    with torch.inference_mode(False):
        if name == "rectangular":
            window = torch.ones(size)
        elif name == "hamming":
            window = torch.hamming_window(size, periodic=False)
        elif name == "blackman":
            phase = torch.arange(size) * (2 * math.pi / (size - 1))
            window = 0.42 - 0.5 * torch.cos(phase) + 0.08 * torch.cos(2 * phase)
        else:
            window = torch.hann_window(size, periodic=False)
            window = window.pow(0.85) if name == "povey" else window
        window[0] *= 1 - PRE_EMPHASIS
        return (window * scale).to(device)


@lru_cache(maxsize=64)
def _mel_bands(n_mels: int, fft_size: int, fs: int, device: torch.device) -> tuple[Band, ...]:
    """The mel bank in bands of BAND_FILTERS."""
    with torch.inference_mode(False):
        bank = _mel_bank(n_mels, fft_size, fs)
        bands = []
        for first in range(0, n_mels, BAND_FILTERS):
            filters = slice(first, min(first + BAND_FILTERS, n_mels))
            reached = bank[filters].any(dim=0).nonzero()
            parts = slice(int(reached.min()), int(reached.max()) + 1) if len(reached) else slice(0, 1)
            bands.append(Band(filters, parts, bank[filters, parts].t().contiguous().to(device)))
        return tuple(bands)


def _mel_bank(n_mels: int, fft_size: int, fs: int) -> Tensor:
    """Triangles equally spaced, and linear, in mel(f) = 1127 ln(1 + f/700), 20 Hz to fs/2.

    Returns (n_mels, fft_size): a weight for the real and the imaginary part of each bin below Nyquist.
    """
    low, high = (1127.0 * math.log(1.0 + hz / 700.0) for hz in (LOW_HZ, fs / 2))
    width = (high - low) / (n_mels + 1)
    step = torch.arange(n_mels)
    # Left and right slope apart, in float32: the rounding of Kaldi's users, whose models were trained with it.
    left, centre, right = (low + (step + i) * width for i in range(3))
    mel = 1127.0 * torch.log(1.0 + torch.arange(fft_size // 2)[:, None] * (fs / fft_size) / 700.0)
    rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
    bank = torch.minimum(rising, falling).clamp_(min=0.0)
    return bank.repeat_interleave(2, dim=0).t()

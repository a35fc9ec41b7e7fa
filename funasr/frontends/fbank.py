"""Kaldi-compatible log-mel filterbank on a batch of waveforms.

Framing -> DC removal -> pre-emphasis -> window -> squared magnitude of the FFT -> mel triangles -> natural logarithm.

The work is done in blocks of frames that stay in the cache of a CPU, so memory beyond the result does not grow with
the length of the audio. Windows and mel banks are computed once per set of sizes and device.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from funasr.layers.linear import product
from funasr.layers.mask import length_mask
from funasr.utils.errors import ConfigError

INT16_SCALE = 32768.0
LOG_FLOOR = 1.1920928955078125e-07  # float32 epsilon: an all-zero frame gives log(1.19e-07) = -15.9424
PRE_EMPHASIS = 0.97
LOW_HZ = 20.0
WINDOWS = ("hamming", "hanning", "povey", "rectangular", "blackman")

# 1024 frames (L2 cache) are 5 % faster on an idle machine, but every operation waits for its slowest thread: larger
# blocks, with fewer operations, lose far less where processes compete for the cores.
CPU_BLOCK_FRAMES = 4096
DEVICE_BLOCK_FRAMES = 65536  # about 0.5 GiB of working memory on an accelerator
MIN_MATMUL_ROWS = 128  # few rows are summed in another order, and a frame's result would depend on its batch


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
            frames = _frames(waves, lengths, feats.size(1), options.window_size, options)
            _log_mel(frames, options, dither, feats)
        for i, size in enumerate(sizes):
            if size < options.window_size and counts[i] > 0:
                frames = _frames(waves[i : i + 1, :size], lengths[i : i + 1], counts[i], size, options)
                _log_mel(frames, options, dither, feats[i : i + 1, : counts[i]])
    feats_lengths = torch.tensor(counts, dtype=torch.int64, device=lengths.device)
    if min(counts, default=0) != feats.size(1):  # frames computed from padding
        feats.masked_fill_(~length_mask(feats_lengths.to(feats.device), feats.size(1))[..., None], 0.0)
    return feats, feats_lengths


def _frames(waves: Tensor, lengths: Tensor, count: int, size: int, options: FbankOptions) -> Tensor:
    """A view (batch, count, size) of the waveforms; without snip_edges of a copy mirrored at both ends."""
    if not options.snip_edges:
        offset = size // 2 - options.shift // 2
        positions = torch.arange((count - 1) * options.shift + size, device=waves.device) - offset
        waves = waves.gather(1, mirror(positions, lengths.to(waves.device), repeat_edge=True))
    return waves.unfold(1, size, options.shift)[:, :count]


def mirror(positions: Tensor, lengths: Tensor, repeat_edge: bool) -> Tensor:
    """Where positions outside [0, length) fall when each signal is mirrored at its own ends.

    Args:
        positions: (n,) int; lengths: (batch,) int. `repeat_edge`: ..1 0 | 0 1.., else ..2 1 | 0 1 2..

    Returns: (batch, n) in [0, length).
    """
    last = 2 * lengths.clamp(min=1)[:, None] - (1 if repeat_edge else 2)  # position that mirrors sample 0 on the right
    folded = positions[None] % (last + 1 if repeat_edge else last.clamp(min=1))
    return torch.minimum(folded, last - folded).clamp_(min=0)


def _log_mel(frames: Tensor, options: FbankOptions, dither: float, out: Tensor) -> None:
    """Log-mel energies of `frames` (batch, count, size) into `out` (batch, count, n_mels), block by block."""
    batch, total, size = frames.shape
    out = out[:, :total]
    fft_size = 1 << (size - 1).bit_length()
    window, shifted_window = _windows(options.window, size, options.scale, frames.device)
    bank = _mel_bank(options.n_mels, fft_size, options.fs, frames.device)
    limit = CPU_BLOCK_FRAMES if frames.device.type == "cpu" else DEVICE_BLOCK_FRAMES
    step = min(max(1, limit // batch), total)

    padded = frames.new_empty(batch, step, fft_size)
    padded[..., size:] = 0.0
    for start in range(0, total, step):
        block = frames[:, start : start + step]
        n = block.size(1)
        if dither:
            block = block + torch.randn(block.shape, device=block.device) * (dither / options.scale)
        block = block - block.mean(2, keepdim=True)
        # window * (x[j] - 0.97 x[j-1]); the first sample of a frame is its own predecessor (in window[0])
        windowed = padded[:, :n, :size]
        torch.mul(block, window, out=windowed)
        windowed[..., 1:].addcmul_(block[..., :-1], shifted_window, value=-1.0)
        spectrum = torch.view_as_real(torch.fft.rfft(padded[:, :n])).view(batch * n, -1)
        # The sum of the squares of both parts is left to the product: the bank has the same weights for both.
        squares = spectrum.square_()
        if batch * n < MIN_MATMUL_ROWS:
            squares = F.pad(squares, (0, 0, 0, MIN_MATMUL_ROWS - batch * n))
        energy = product(squares, bank)
        out[:, start : start + n] = energy[: batch * n].clamp_(min=LOG_FLOOR).log_().view(batch, n, -1)


@lru_cache(maxsize=64)
def _windows(name: str, size: int, scale: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Window times `scale` with the pre-emphasis of sample 0 in it, and 0.97 times the window from sample 1 on.

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
        shifted = window[1:] * PRE_EMPHASIS
        window[0] *= 1 - PRE_EMPHASIS
        return (window * scale).to(device), (shifted * scale).to(device)


@lru_cache(maxsize=64)
def _mel_bank(n_mels: int, fft_size: int, fs: int, device: torch.device) -> Tensor:
    """Triangles equally spaced, and linear, in mel(f) = 1127 ln(1 + f/700), 20 Hz to fs/2.

    Returns (n_mels, fft_size + 2): a weight for the real and the imaginary part of each bin; that of Nyquist has none.
    """
    with torch.inference_mode(False):
        low, high = (1127.0 * math.log(1.0 + hz / 700.0) for hz in (LOW_HZ, fs / 2))
        width = (high - low) / (n_mels + 1)
        step = torch.arange(n_mels)
        # Left and right slope apart, in float32: the rounding of Kaldi's users, whose models were trained with it.
        left, centre, right = (low + (step + i) * width for i in range(3))
        mel = 1127.0 * torch.log(1.0 + torch.arange(fft_size // 2)[:, None] * (fs / fft_size) / 700.0)
        rising, falling = (mel - left) / (centre - left), (right - mel) / (right - centre)
        bank = torch.minimum(rising, falling).clamp_(min=0.0)
        return F.pad(bank, (0, 0, 0, 1)).repeat_interleave(2, dim=0).t().contiguous().to(device)

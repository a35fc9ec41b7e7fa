"""`DefaultFrontend`: STFT -> power -> log mel, as in ESPnet (https://arxiv.org/abs/1804.00015); differentiable."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from funasr.frontends.fbank import mirror
from funasr.frontends.wav_frontend import as_float_waves
from funasr.layers.mask import length_mask
from funasr.register import tables
from funasr.utils.errors import ConfigError

POWER_FLOOR = 1e-10
WINDOWS = ("hann", "hamming", "blackman", "bartlett", "kaiser")


@tables.register("frontend_classes", "DefaultFrontend", aliases=("default",))
@tables.register("frontend_classes", "EspnetFrontend")
class DefaultFrontend(nn.Module):
    """Waveforms -> log-mel features (batch, frames, n_mels); nothing is learned."""

    window: Tensor
    mel_bank: Tensor

    def __init__(
        self,
        fs: int | str = 16000,
        n_fft: int = 512,
        win_length: int | None = None,
        hop_length: int = 128,
        window: str | None = "hann",
        center: bool = True,
        normalized: bool = False,
        n_mels: int = 80,
        fmin: float | None = None,
        fmax: float | None = None,
        htk: bool = False,
        log_base: float | None = None,
    ) -> None:
        """Options.

        Args:
            fs: Hz, or text such as "16k".
            n_fft, win_length (default n_fft), hop_length: samples.
            window: hann, hamming, blackman, bartlett, kaiser; None for a rectangular one.
            center: frame t is centred on sample t * hop_length; the signal is mirrored at its ends.
            normalized: divide the spectrum by sqrt(n_fft).
            fmin, fmax: Hz, default 0 and fs/2. htk: HTK's mel scale instead of Slaney's.
            log_base: of the logarithm; None for the natural one.
        """
        super().__init__()
        if window is not None and window not in WINDOWS:
            raise ConfigError(f"window '{window}' is unknown; choose one of {', '.join(WINDOWS)} or none")
        self.fs = parse_rate(fs)
        self.n_fft = n_fft
        self.win_length = win_length or n_fft
        if self.win_length > n_fft or hop_length < 1:
            raise ConfigError(f"win_length {win_length} must not exceed n_fft {n_fft}, and hop_length be at least 1")
        self.hop_length = hop_length
        self.center = center
        self.normalized = normalized
        self.n_mels = n_mels
        self.log_base = log_base
        self.frame_shift = 1000 * hop_length / self.fs
        self.lfr_n = 1
        shape = torch.ones(self.win_length) if window is None else getattr(torch, f"{window}_window")(self.win_length)
        low, high = fmin or 0.0, fmax or self.fs / 2
        if not 0 <= low < high <= self.fs / 2:
            raise ConfigError(f"0 <= fmin < fmax <= fs/2 must hold, but fmin is {low}, fmax {high}, fs {self.fs}")
        self.register_buffer("window", shape, persistent=False)
        self.register_buffer("mel_bank", slaney_mel_bank(self.fs, n_fft, n_mels, low, high, htk), persistent=False)

    def output_size(self) -> int:
        """Dimension of the features."""
        return self.n_mels

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Waveforms (batch, samples) and lengths (batch,) -> features (batch, frames, n_mels), zero padded, lengths.

        An utterance has samples // hop_length + 1 frames with `center`, else (samples - n_fft) // hop_length + 1;
        none if it is empty. It is mirrored at its own end, so its features do not depend on the batch.
        """
        waves = as_float_waves(input).float()
        pad = self.n_fft // 2 if self.center else 0
        lengths = ((input_lengths + 2 * pad - self.n_fft) // self.hop_length + 1).clamp(min=0)
        lengths = lengths.masked_fill(input_lengths < 1, 0)
        count = int(lengths.max()) if lengths.numel() else 0
        if count == 0:
            return waves.new_zeros(waves.size(0), 0, self.n_mels), lengths
        with torch.autocast(waves.device.type, enabled=False):
            if pad:
                positions = torch.arange(waves.size(1) + 2 * pad, device=waves.device) - pad
                waves = waves.gather(1, mirror(positions, input_lengths.to(waves.device), repeat_edge=False))
            spectrum = torch.stft(
                waves,
                self.n_fft,
                self.hop_length,
                self.win_length,
                self.window,
                center=False,
                normalized=self.normalized,
                return_complex=True,
            )[..., :count]
            power = spectrum.real.square() + spectrum.imag.square()
            feats = (power.transpose(1, 2) @ self.mel_bank).clamp(min=POWER_FLOOR).log()
        if self.log_base is not None:
            feats = feats / math.log(self.log_base)
        return feats.masked_fill(~length_mask(lengths.to(feats.device), count)[..., None], 0.0), lengths

    def extra_repr(self) -> str:
        return f"fs={self.fs}, n_fft={self.n_fft}, hop_length={self.hop_length}, n_mels={self.n_mels}"


def parse_rate(fs: int | str) -> int:
    """Sample rate in Hz from 16000, "16000", "16k" or "22.05k"; ConfigError for anything else."""
    text = str(fs).strip().lower()
    try:
        rate = float(text[:-1]) * 1000 if text.endswith("k") else float(text)
    except ValueError:
        raise ConfigError(f"fs '{fs}' is not a sample rate, such as 16000 or 16k") from None
    if rate < 1 or rate != int(rate):
        raise ConfigError(f"fs '{fs}' is not a positive whole number of Hz")
    return int(rate)


def slaney_mel_bank(fs: int, n_fft: int, n_mels: int, fmin: float, fmax: float, htk: bool) -> Tensor:
    """Triangles linear in Hz, of area 1, equally spaced in mel from fmin to fmax: (n_fft//2 + 1, n_mels) float32.

    Slaney's scale (Auditory Toolbox, 1998) is linear to 1 kHz (200/3 Hz per mel) and logarithmic above (27 mel per
    factor 6.4); HTK's is 2595 log10(1 + f/700).
    """
    log_step = math.log(6.4) / 27

    def to_mel(hz: float) -> float:
        if htk:
            return 2595.0 * math.log10(1.0 + hz / 700.0)
        return hz * 3 / 200 if hz < 1000 else 15.0 + math.log(hz / 1000.0) / log_step

    mels = torch.linspace(to_mel(fmin), to_mel(fmax), n_mels + 2, dtype=torch.float64)
    if htk:
        edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    else:
        edges = torch.where(mels < 15.0, mels * 200 / 3, 1000.0 * torch.exp(log_step * (mels - 15.0)))
    hz = torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None] * (fs / n_fft)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising = (hz - left) / (centre - left)
    falling = (right - hz) / (right - centre)
    return (torch.minimum(rising, falling).clamp(min=0.0) * (2.0 / (right - left))).float()

"""`WhisperFrontend`: the log-mel spectrogram of OpenAI Whisper (Radford et al., 2022)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.frontends.wav_frontend import as_float_waves
from funasr.layers.mask import length_mask
from funasr.register import tables
from funasr.utils.errors import ConfigError

SAMPLE_RATE = 16000
WINDOW, HOP = 400, 160  # samples
CHUNK_SAMPLES = 30 * SAMPLE_RATE
MELS_128 = ("large", "large-v3", "large-v3-turbo", "turbo")


@tables.register("frontend_classes", "WhisperFrontend")
class WhisperFrontend(nn.Module):
    """Waveforms -> log-mel spectrogram, every utterance as if it were alone.

    Nothing is learned and nothing enters the state dict.

    Args:
        fs: sample rate in Hz; 16000 is the only one.
        whisper_model: a model of MELS_128 gets 128 mel bins; for any other `n_mels` decides.
        do_pad_trim: zero-pad or cut every utterance to 30 s (3000 frames), as the Whisper encoder wants it.
        n_mels: mel bins.
        permute: features (batch, frames, n_mels), as all other front ends give them, instead of
            (batch, n_mels, frames).
        filters_path: npz file with mel filters (n_mels, 201) under `mel_<n_mels>`; default: the same, computed.
    """

    filters: Tensor
    window: Tensor

    def __init__(
        self,
        fs: int = SAMPLE_RATE,
        whisper_model: str | None = None,
        do_pad_trim: bool = True,
        n_mels: int = 80,
        permute: bool = False,
        filters_path: str | Path | None = None,
    ) -> None:
        super().__init__()
        if fs != SAMPLE_RATE:
            raise ConfigError(f"frontend_conf: fs of WhisperFrontend must be {SAMPLE_RATE}, not {fs}")
        self.fs = fs
        self.n_mels = 128 if whisper_model in MELS_128 else n_mels
        self.frame_shift = 10
        self.lfr_n = 1
        self.do_pad_trim = do_pad_trim
        self.permute = permute
        filters = slaney_mel_filters(self.n_mels) if filters_path is None else _read_filters(filters_path, self.n_mels)
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(WINDOW), persistent=False)

    def output_size(self) -> int:
        """Dimension of the features."""
        return self.n_mels

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features of zero-padded waveforms.

        Args:
            input: (batch, samples) float in [-1, 1], or int16.
            input_lengths: (batch,) valid samples.

        Returns:
            Features float32 (batch, n_mels, frames), or (batch, frames, n_mels) with `permute`; and (batch,) frames
            that hold sound, one for each whole 10 ms and with `do_pad_trim` at most 3000.  What `do_pad_trim` adds is
            the spectrum of silence; without it, frames beyond the length are 0.
        """
        waves = as_float_waves(input).float()
        lengths = input_lengths.to(waves.device)
        if self.do_pad_trim:
            lengths = lengths.clamp(max=CHUNK_SAMPLES)
            waves = F.pad(waves, (0, CHUNK_SAMPLES - waves.size(1)))
            waves = waves.masked_fill(~length_mask(lengths, CHUNK_SAMPLES), 0.0)
            heard = torch.full_like(lengths, CHUNK_SAMPLES)
        else:
            heard = lengths
        feats = self._log_mel(waves, heard)
        return feats if self.permute else feats.transpose(1, 2), torch.div(lengths, HOP, rounding_mode="floor").long()

    def _log_mel(self, waves: Tensor, lengths: Tensor) -> Tensor:
        """(batch, frames, n_mels) of waves (batch, samples) with lengths (batch,)."""
        counts = torch.div(lengths, HOP, rounding_mode="floor")
        frames = int(counts.max()) if counts.numel() else 0
        if frames == 0:
            return waves.new_zeros(waves.size(0), 0, self.n_mels)
        framed = _mirrored(waves, lengths, (frames - 1) * HOP + WINDOW).unfold(1, WINDOW, HOP)
        power = torch.fft.rfft(framed * self.window).abs().square()
        mel = (power @ self.filters.T).clamp(min=1e-10).log10()
        valid = length_mask(counts, frames)[..., None]
        loudest = mel.masked_fill(~valid, -torch.inf).amax(dim=(1, 2), keepdim=True)
        return ((torch.maximum(mel, loudest - 8.0) + 4.0) / 4.0).masked_fill(~valid, 0.0)

    def extra_repr(self) -> str:
        return f"n_mels={self.n_mels}, do_pad_trim={self.do_pad_trim}, permute={self.permute}"


def _mirrored(waves: Tensor, lengths: Tensor, size: int) -> Tensor:
    """`size` samples from half a window before the first one on, each utterance mirrored at its own two ends."""
    period = (2 * (lengths - 1)).clamp(min=1)[:, None]
    position = torch.arange(-(WINDOW // 2), size - WINDOW // 2, device=waves.device)[None].remainder(period)
    position = torch.minimum(position, period - position).clamp(max=max(waves.size(1) - 1, 0))
    return waves.gather(1, position)


def slaney_mel_filters(n_mels: int) -> Tensor:
    """Triangular filters (n_mels, 201) of unit area, 0 to 8 kHz, evenly spaced on Slaney's mel scale.

    The scale is linear up to 1 kHz (15 mel) and logarithmic above, 27 steps for each factor of 6.4
    (Slaney, "Auditory Toolbox", 1998).
    """
    if n_mels < 1:
        raise ConfigError(f"frontend_conf: n_mels must be at least 1, not {n_mels}")
    knee_hz, knee_mel, log_step = 1000.0, 15.0, np.log(6.4) / 27.0
    highest = knee_mel + np.log(SAMPLE_RATE / 2 / knee_hz) / log_step
    mels = np.linspace(0.0, highest, n_mels + 2)
    edges = np.where(mels < knee_mel, mels * knee_hz / knee_mel, knee_hz * np.exp((mels - knee_mel) * log_step))
    bins = np.linspace(0.0, SAMPLE_RATE / 2, WINDOW // 2 + 1)
    low, centre, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clip(min=0.0)
    return torch.from_numpy(triangles * 2.0 / (high - low)).float()


def _read_filters(path: str | Path, n_mels: int) -> Tensor:
    if not Path(path).is_file():
        raise ConfigError(f"frontend_conf: filters_path {path} does not exist or is not a file")
    with np.load(path) as stored:
        name = f"mel_{n_mels}"
        if name not in stored or stored[name].shape != (n_mels, WINDOW // 2 + 1):
            raise ConfigError(f"filters_path {path} has no array {name} of shape {(n_mels, WINDOW // 2 + 1)}")
        return torch.from_numpy(stored[name]).float()

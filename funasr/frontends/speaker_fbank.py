"""`SpeakerFbank`: the features of all speaker models, in training and in use."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from funasr.frontends.fbank import FbankOptions, fbank
from funasr.layers.mask import length_mask
from funasr.register import tables
from funasr.utils.errors import ConfigError

FS = 16000
_OPTIONS = {"fs": FS, "window": "povey", "scale": 1.0}  # samples stay in [-1, 1]


def speaker_features(waves: Tensor, n_mels: int = 80) -> Tensor:
    """Log-mel features of waveforms of one length, less their mean over time.

    Args:
        waves: (batch, samples) in [-1, 1] at 16 kHz, at least 25 ms.

    Returns: (batch, frames, n_mels) float32; Povey window, 25 ms frames every 10 ms, no dither.
    """
    lengths = torch.full((waves.size(0),), waves.size(1), dtype=torch.int64)
    feats, _ = fbank(waves, lengths, FbankOptions(n_mels=n_mels, **_OPTIONS))  # type: ignore[arg-type]
    return feats - feats.mean(dim=1, keepdim=True)


@tables.register("frontend_classes", "SpeakerFbank", aliases=("speaker_fbank",))
class SpeakerFbank(nn.Module):
    """`speaker_features` of waveforms of any lengths.

    Args:
        fs: must be 16000.
        n_mels: mel bins; the `feat_dim` of the model.
    """

    frame_shift = 10

    def __init__(self, fs: int = FS, n_mels: int = 80) -> None:
        super().__init__()
        if fs != FS:
            raise ConfigError(f"frontend_conf: fs of SpeakerFbank is {FS}, not {fs}; other audio is resampled")
        self.fs = fs
        self.n_mels = n_mels

    def output_size(self) -> int:
        """Dimension of the features."""
        return self.n_mels

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features of zero-padded waveforms.

        Args:
            input: (batch, samples) float in [-1, 1]; input_lengths: (batch,) valid samples.

        Returns: (batch, frames, n_mels) float32, zero padded, and (batch,) frames.
        """
        feats, lengths = fbank(input, input_lengths, FbankOptions(n_mels=self.n_mels, **_OPTIONS))  # type: ignore[arg-type]
        total = feats.sum(dim=1, keepdim=True)  # padding is 0
        mean = total / lengths.clamp(min=1).to(feats)[:, None, None]
        inside = length_mask(lengths.to(feats.device), feats.size(1))[..., None]
        return (feats - mean).masked_fill(~inside, 0.0), lengths

"""`WavFrontend`: Kaldi filterbank -> low-frame-rate stacking -> global normalisation, for whole utterances."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from funasr.frontends.cmvn import read_cmvn
from funasr.frontends.fbank import INT16_SCALE, FbankOptions, fbank
from funasr.layers.lfr import lfr_stack
from funasr.layers.mask import length_mask
from funasr.register import tables
from funasr.utils.errors import ConfigError


@tables.register("frontend_classes", "WavFrontend", aliases=("wav_frontend",))
class WavFrontend(nn.Module):
    """Waveforms -> features (batch, frames / lfr_n, n_mels * lfr_m), every utterance as if it were alone.

    Nothing is learned and nothing enters the state dict. Dither is added in training mode only.
    """

    shift: Tensor | None
    scale: Tensor | None

    def __init__(
        self,
        cmvn_file: str | Path | None = None,
        fs: int = 16000,
        window: str = "hamming",
        n_mels: int = 80,
        frame_length: float = 25,
        frame_shift: float = 10,
        lfr_m: int = 1,
        lfr_n: int = 1,
        dither: float = 1.0,
        snip_edges: bool = True,
        upsacle_samples: bool = True,
    ) -> None:
        """Options.

        Args:
            cmvn_file: `am.mvn`, or sums as json or npz (`read_cmvn`), of dimension n_mels * lfr_m or more.
            fs: sample rate in Hz; frame_length and frame_shift in ms.
            window: hamming, hanning, povey, rectangular or blackman.
            lfr_m, lfr_n: frames stacked into one, and step in frames.
            dither: standard deviation of the noise added in training, on the scale of int16 samples.
            snip_edges: only frames that lie wholly in the signal; else the signal is mirrored at its ends.
            upsacle_samples: multiply samples by 32768 (so spelt in every model directory).

        Raises:
            ConfigError: a value out of range, or a cmvn_file that is missing, malformed or too short.
        """
        super().__init__()
        if lfr_m < 1 or lfr_n < 1:
            raise ConfigError(f"lfr_m and lfr_n must be at least 1, not {lfr_m} and {lfr_n}")
        self.options = FbankOptions(
            fs=fs,
            n_mels=n_mels,
            frame_length=frame_length,
            frame_shift=frame_shift,
            window=window,
            snip_edges=snip_edges,
            scale=INT16_SCALE if upsacle_samples else 1.0,
        )
        self.fs = fs
        self.n_mels = n_mels
        self.frame_length = frame_length
        self.frame_shift = frame_shift
        self.lfr_m = lfr_m
        self.lfr_n = lfr_n
        self.dither = dither
        shift, scale = None, None
        if cmvn_file is not None:
            shift, scale = read_cmvn(cmvn_file)[:, : self.output_size()].clone()
            if len(shift) < self.output_size():
                raise ConfigError(
                    f"cmvn_file {cmvn_file} has {len(shift)} values, but the features have dimension "
                    f"{self.output_size()} (n_mels {n_mels} * lfr_m {lfr_m})"
                )
        self.register_buffer("shift", shift, persistent=False)
        self.register_buffer("scale", scale, persistent=False)

    def output_size(self) -> int:
        """Dimension of the features."""
        return self.n_mels * self.lfr_m

    def forward(self, input: Tensor, input_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features of zero-padded waveforms.

        Args:
            input: (batch, samples) float in [-1, 1], or int16.
            input_lengths: (batch,) valid samples. Audio of 0 or 1 sample gives 0 frames; audio shorter than
                `frame_length` gives one frame with a shorter window.

        Returns:
            (batch, frames, n_mels * lfr_m) float32, zero padded, and (batch,) frames.
        """
        waves = as_float_waves(input)
        feats, lengths = fbank(waves, input_lengths, self.options, self.dither if self.training else 0.0)
        feats, lengths = lfr_stack(feats, lengths, self.lfr_m, self.lfr_n)
        if self.shift is not None and self.scale is not None:
            feats = feats.add_(self.shift).mul_(self.scale)
            if feats.size(0) > 1:
                feats.masked_fill_(~length_mask(lengths.to(feats.device), feats.size(1))[..., None], 0.0)
        return feats, lengths

    def extra_repr(self) -> str:
        cmvn = "with" if self.shift is not None else "no"
        return f"{self.options}, lfr_m={self.lfr_m}, lfr_n={self.lfr_n}, dither={self.dither}, {cmvn} cmvn"


def as_float_waves(waves: Tensor) -> Tensor:
    """(batch, samples) float, int16 brought to [-1, 1]; ValueError for another shape, TypeError for other integers."""
    if waves.dim() != 2:
        raise ValueError(f"waveforms must be (batch, samples), not {tuple(waves.shape)}")
    if waves.dtype == torch.int16:
        return waves.float() / INT16_SCALE
    if not waves.is_floating_point():
        raise TypeError(f"waveforms must be float in [-1, 1] or int16, not {waves.dtype}")
    return waves

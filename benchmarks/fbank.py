"""Features of a 10-minute file: `WavFrontend` (fbank + LFR + CMVN) against torchaudio's fbank alone, on the whole file.

    python benchmarks/fbank.py

Prints one line of JSON: seconds (median) of each, their ratio, and how far the log-mel values differ. The largest
difference is the rounding of both in mel bins that are all but empty beside a loud tone (each is as far from a
float64 computation as from the other); the mean is what a model sees.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchaudio.compliance.kaldi

from funasr.frontends.cmvn import write_cmvn
from funasr.frontends.wav_frontend import WavFrontend

FS = 16000


def make_wave(seconds: float) -> torch.Tensor:
    """(1, samples): three tones in noise, always the same."""
    generator = torch.Generator().manual_seed(0)
    time_s = torch.arange(int(seconds * FS), dtype=torch.float64) / FS
    tones = torch.stack([torch.sin(2 * torch.pi * hz * time_s) for hz in (220.0, 1000.0, 3400.0)]).sum(0)
    return 0.1 * tones.float()[None] + 0.02 * torch.randn(1, len(time_s), generator=generator)


def seconds_of(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    wave = make_wave(60 * args.minutes)
    lengths = torch.tensor([wave.size(1)])
    with tempfile.TemporaryDirectory() as directory:
        cmvn_file = Path(directory) / "am.mvn"
        write_cmvn(cmvn_file, np.full(560, 12.0), np.full(560, 9.0))
        frontend = WavFrontend(cmvn_file=cmvn_file, lfr_m=7, lfr_n=6).eval()
    plain = WavFrontend().eval()

    def ours() -> torch.Tensor:
        return frontend(wave, lengths)[0]

    def theirs() -> torch.Tensor:
        return torchaudio.compliance.kaldi.fbank(
            wave * 32768, num_mel_bins=80, window_type="hamming", energy_floor=0.0, sample_frequency=FS
        )

    difference = (plain(wave, lengths)[0][0] - theirs()).abs()
    ours()
    pairs = [(seconds_of(ours), seconds_of(theirs)) for _ in range(args.runs)]  # interleaved: noise hits both
    ours_s, theirs_s = (statistics.median(column) for column in zip(*pairs, strict=True))
    result = {
        "minutes": args.minutes,
        "threads": args.threads,
        "runs": args.runs,
        "funasr_s": round(ours_s, 4),
        "torchaudio_fbank_s": round(theirs_s, 4),
        "ratio": round(theirs_s / ours_s, 2),
        "max_abs_difference": difference.max().item(),
        "mean_abs_difference": difference.mean().item(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()

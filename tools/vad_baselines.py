#!/usr/bin/env python3
"""Run silero-vad and webrtcvad over recordings, for a comparison: `pip install "funasr[bench]"` brings both.

    tools/vad_baselines.py --wav_scp dump/dev/wav.scp --output_dir exp/baselines/dev

Writes OUTPUT_DIR/SYSTEM/text, a label table as funasr.bin.vad_inference writes it; for silero also `speech_prob`, the
probability of each 10 ms.  silero-vad runs with its defaults (threshold 0.5, 100 ms of silence end a segment), and once
more with 1200 ms of silence and segments widened by 200 ms, for references that count short pauses as speech.
webrtcvad's decisions are taken as they are, in all four modes, on frames of 10 and of 30 ms.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from funasr.datasets.data_types import open_reader
from funasr.datasets.vad_labels import format_segments
from funasr.utils.errors import ConfigError, DamagedUtteranceError, DataError
from funasr.utils.io import write_text
from funasr.utils.rttm import Span, merge_spans

FS = 16000
STEP = FS // 100
SILERO_CHUNK = 512  # samples

Detect = Callable[[np.ndarray], tuple[list[Span], np.ndarray | None]]


def silero() -> Iterator[tuple[str, Detect]]:
    """Segments, and the probability of each 10 ms: that of the chunk its middle lies in."""
    import torch

    package: Any = require("silero_vad", "silero-vad")
    model = package.load_silero_vad()

    def detect(wave: np.ndarray, **smoothing: int) -> tuple[list[Span], np.ndarray]:
        samples = torch.from_numpy(wave)
        found = package.get_speech_timestamps(samples, model, **smoothing)
        model.reset_states()
        padded = torch.nn.functional.pad(samples, (0, -len(samples) % SILERO_CHUNK))
        with torch.no_grad():
            values = np.array([float(model(chunk, FS)) for chunk in padded.split(SILERO_CHUNK)], dtype=np.float32)
        model.reset_states()
        middles = (np.arange(len(wave) // STEP) * STEP + STEP // 2) // SILERO_CHUNK
        return [(part["start"] / FS, part["end"] / FS) for part in found], values[middles]

    yield "silero-vad", detect
    yield (
        "silero-vad-1200ms",
        lambda wave: (detect(wave, min_silence_duration_ms=1200, speech_pad_ms=200)[0], None),
    )


def webrtc() -> Iterator[tuple[str, Detect]]:
    """The frames that each mode takes for speech."""
    package: Any = require("webrtcvad", "webrtcvad-wheels")

    def detector(mode: int, frame_ms: int) -> Detect:
        def detect(wave: np.ndarray) -> tuple[list[Span], None]:
            vad, size = package.Vad(mode), FS * frame_ms // 1000
            pcm = np.round(np.clip(wave, -1.0, 1.0) * 32767).astype("<i2")
            starts = range(0, len(pcm) - size + 1, size)
            speech = [start for start in starts if vad.is_speech(pcm[start : start + size].tobytes(), FS)]
            return merge_spans((start / FS, (start + size) / FS) for start in speech), None

        return detect

    for frame_ms in (10, 30):
        for mode in range(4):
            yield f"webrtcvad-{mode}-{frame_ms}ms", detector(mode, frame_ms)


SYSTEMS = {"silero": silero, "webrtc": webrtc}


def require(module: str, distribution: str) -> Any:
    """The module, or ConfigError with what to install."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"{module} is not installed: pip install 'funasr[bench]', or {distribution}") from None


def run(wav_scp: str, output_dir: Path, names: list[str]) -> None:
    """Write the results of the systems."""
    systems = [item for name in names for item in SYSTEMS[name]()]
    reader = open_reader(wav_scp, "sound", fs=FS)
    lines: dict[Path, list[str]] = {}
    for key in reader:
        try:
            wave = reader[key]
        except DamagedUtteranceError as error:
            sys.stderr.write(f"{key} is left out: {error}\n")
            continue
        mono = np.ascontiguousarray(wave if wave.ndim == 1 else wave.mean(axis=1), dtype=np.float32)
        for name, detect in systems:
            spans, values = detect(mono)
            lines.setdefault(output_dir / name / "text", []).append(f"{key} {format_segments(spans)}\n")
            if values is not None:
                text = " ".join(f"{value:.4f}" for value in values)
                lines.setdefault(output_dir / name / "speech_prob", []).append(f"{key} {text}\n")
    for path, content in lines.items():
        write_text(path, "".join(content))


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wav_scp", required=True, help="recordings: `ID path`")
    parser.add_argument("--output_dir", type=Path, required=True, help="gets a folder for each system")
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), default=list(SYSTEMS))
    args = parser.parse_args()
    try:
        run(args.wav_scp, args.output_dir, args.systems)
    except (ConfigError, DataError) as error:
        sys.stderr.write(f"vad_baselines: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

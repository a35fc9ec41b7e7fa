"""A recording of many hours through speech detection, recognition and punctuation: peak memory and speed.

    python benchmarks/long_audio.py --hours 10

A synthetic file (stretches of a buzzing voice with pauses, 16 kHz, 16 bit) is written in pieces to a temporary
directory; the models are the tiny ones of the tests, so the time is that of everything around the networks.  Prints one
line of JSON; `peak_rss_mb` is the highest resident memory of this process, `grown_mb` what came on top after the first
tenth of the file.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

FS = 16000
BLOCK_S = 60
PARITY = Path(__file__).parents[1] / "test" / "parity"
MODELS = {
    "model": PARITY / "Pipeline-bicif" / "asr",
    "vad_model": PARITY / "FsmnVADStreaming" / "model",
    "punc_model": PARITY / "CTTransformer" / "model",
}
SPEAKERS = PARITY / "CAMPPlus" / "model"
VOICES = PARITY / "Pipeline-bicif" / "audio" / "long.flac"


def write_recording(path: Path, hours: float, seed: int = 0) -> float:
    """Write stretches of the voices that the tiny models know, in random order with pauses; returns seconds."""
    voices, _ = soundfile.read(VOICES, dtype="float32")
    rng = np.random.default_rng(seed)
    wanted = int(hours * 3600 * FS)
    done = 0
    with soundfile.SoundFile(path, "w", FS, 1, subtype="PCM_16") as file:
        while done < wanted:
            parts: list[np.ndarray] = []
            while sum(map(len, parts)) < BLOCK_S * FS:
                begin = int(rng.integers(0, len(voices) - 2 * FS))
                speech = voices[begin : begin + int(rng.uniform(2, 12) * FS)] * rng.uniform(0.5, 1.0)
                pause = 0.0005 * rng.standard_normal(int(rng.uniform(0.3, 3.0) * FS))
                parts += [speech, pause]
            block = np.concatenate(parts)[: wanted - done].astype(np.float32)
            file.write(block)
            done += len(block)
    return done / FS


class MemoryWatch:
    """Resident memory of this process, looked up ten times a second in a thread of its own."""

    def __init__(self) -> None:
        self.samples: list[tuple[float, float]] = []  # (s, MB)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemoryWatch:
        self._begin = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.1):
            self.samples.append((time.perf_counter() - self._begin, resident_mb()))

    def highest(self, begin: float, end: float) -> float:
        """Highest value between two shares of the time that passed."""
        last = self.samples[-1][0] if self.samples else 0.0
        return max((mb for at, mb in self.samples if begin * last <= at <= end * last), default=resident_mb())


def resident_mb() -> float:
    """Resident memory now, from /proc; the peak where there is none."""
    status = Path("/proc/self/statm")
    if not status.is_file():
        return peak_mb()
    return int(status.read_text().split()[1]) * resource.getpagesize() / 2**20


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hours", type=float, default=0.5)
    parser.add_argument("--format", default="flac", choices=("flac", "wav"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--spk", action="store_true", help="tell speakers apart too")
    args = parser.parse_args()

    from funasr import AutoModel

    models: dict[str, Any] = {**MODELS, "spk_model": SPEAKERS} if args.spk else {**MODELS}
    model = AutoModel(device="cpu", threads=args.threads, **models)
    model.generate(str(VOICES))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"long.{args.format}"
        seconds = write_recording(path, args.hours)
        begin = time.perf_counter()
        with MemoryWatch() as memory:
            result = model.generate(str(path), sentence_timestamp=True)[0]
        took = time.perf_counter() - begin
    print(
        json.dumps(
            {
                "benchmark": "long_audio",
                "hours": args.hours,
                "threads": args.threads,
                "speakers": args.spk,
                "words": len(result["timestamp"]),
                "sentences": len(result["sentence_info"]),
                "seconds": round(took, 1),
                "rtf": round(took / seconds, 5),
                "peak_rss_mb": round(peak_mb()),
                "grown_mb": round(memory.highest(0, 1) - memory.highest(0, 0.1)),
            }
        )
    )


if __name__ == "__main__":
    main()

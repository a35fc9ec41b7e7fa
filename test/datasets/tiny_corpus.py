"""A corpus small enough to make for every test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

FS = 16000


def make_corpus(directory: Path, count: int = 12, fs: int = FS, broken: tuple[str, ...] = ()) -> Path:
    """wav.scp, text and speech_shape for utterances u00, u01, ... of 100, 200, ... samples, in a mixed order.

    The wav of an id in `broken` is cut off in the middle.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    scp, text, shape = [], [], []
    for i in [(7 * k) % count for k in range(count)]:
        uid, path = f"u{i:02d}", directory / f"u{i:02d}.wav"
        soundfile.write(path, rng.uniform(-0.5, 0.5, 100 * (i + 1)), fs, subtype="FLOAT")
        if uid in broken:
            path.write_bytes(path.read_bytes()[:100])
        scp.append(f"{uid} {path}\n")
        text.append(f"{uid} {'ab' * (i % 3 + 1)}\n")
        shape.append(f"{uid} {100 * (i + 1)}\n")
    (directory / "wav.scp").write_text("".join(scp))
    (directory / "text").write_text("".join(text))
    (directory / "speech_shape").write_text("".join(shape))
    return directory


def triplets(directory: Path) -> list[tuple[str, str, str]]:
    return [(f"{directory}/wav.scp", "speech", "sound"), (f"{directory}/text", "text", "text")]


TOKENS = ["<blank>", "<s>", "</s>", "a", "b", "<unk>"]

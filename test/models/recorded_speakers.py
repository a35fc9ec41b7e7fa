"""Speaker models with recorded embeddings, as their tests use them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from funasr import AutoModel
from funasr.audio.read import read_audio

PARITY = Path(__file__).parents[1] / "parity"
EMBEDDINGS = ["file_f", "file_m", "array", "list_arrays", "short_4000", "len_33333", "fs8000", "tensor"]
CASES = (*(f"embed/{name}" for name in EMBEDDINGS), "error/bytes_pcm")  # the reference fails at the last one


def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(PARITY / name / "expected" / "tensors.npz") as stored:
        return dict(stored)


def audio_of(name: str) -> dict[str, np.ndarray]:
    return {
        wave: soundfile.read(PARITY / name / "audio" / f"{wave}.wav", dtype="float32")[0] for wave in ("f", "m", "e1")
    }


def close(actual: Any, wanted: np.ndarray) -> None:
    """The recording's tolerance: 1e-3 of the scale of an embedding, and its direction."""
    actual = np.asarray(actual)
    assert actual.shape == wanted.shape and actual.dtype == np.float32
    assert np.abs(actual - wanted).max() < 1e-3
    cosine = (actual * wanted).sum(-1) / np.linalg.norm(actual, axis=-1) / np.linalg.norm(wanted, axis=-1)
    assert cosine.min() > 0.99999


def check_embedding(model: AutoModel, name: str, case: str, waves: dict[str, np.ndarray], wanted: np.ndarray) -> None:
    """The embedding of a recorded input, whatever form it has."""
    inputs = {
        "embed/file_f": str(PARITY / name / "audio" / "f.wav"),
        "embed/file_m": str(PARITY / name / "audio" / "m.wav"),
        "embed/array": waves["e1"],
        "embed/list_arrays": [waves[wave][:24000] for wave in ("f", "m", "e1")],
        "embed/short_4000": waves["f"][8000:12000],
        "embed/len_33333": waves["m"][:33333],
        "embed/fs8000": waves["f"][::2],
        "embed/tensor": torch.from_numpy(waves["m"]),
        "error/bytes_pcm": read_audio((waves["m"] * 32768).astype("<i2").tobytes(), fs=16000)[0],
    }
    results = model.generate(inputs[case], fs=8000 if case == "embed/fs8000" else None)
    assert all(set(result) == {"key", "spk_embedding"} for result in results)
    close(torch.cat([result["spk_embedding"] for result in results]), wanted)

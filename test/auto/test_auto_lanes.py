"""Inputs worked on side by side: the answers of one after another, and no more audio at once than was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from funasr import AutoModel
from funasr.auto import auto_model
from funasr.auto.engine import Engine

PARITY = Path(__file__).parents[1] / "parity"
WAVS = [str(PARITY / "_wavs" / name) for name in ("a.wav", "c.wav", "b.wav", "s.wav")]
FS = 16000


@pytest.fixture(scope="module")
def model() -> AutoModel:
    return AutoModel(model=PARITY / "Paraformer", device="cpu")


@pytest.fixture(autouse=True)
def two_threads(threads_as_before: None) -> None:
    torch.set_num_threads(2)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Of each batch that is inferred, how many inputs and with how many threads."""
    seen: list[tuple[int, int]] = []
    infer = Engine.infer

    def watched(self: Engine, data: Any, keys: Any, options: Any, lengths: Any = None) -> Any:
        seen.append((len(keys), torch.get_num_threads()))
        return infer(self, data, keys, options, lengths)

    monkeypatch.setattr(Engine, "infer", watched)
    return seen


def noise(seconds: float) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.1, 0.1, int(seconds * FS)).astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_answers_do_not_depend_on_what_is_side_by_side(
    model: AutoModel, batch_size: int, count: int, tmp_path: Path
) -> None:
    inputs = (WAVS * 2)[:count]
    options = {"output_timestamp": True}
    torch.set_num_threads(1)
    expected = [result for item in inputs for result in model.generate(item, **options)]
    torch.set_num_threads(2)
    absent = str(tmp_path / "absent.wav")
    found = model.generate([*inputs, absent, *inputs], batch_size=batch_size, **options)
    assert found[:count] == found[count + 1 :] == expected
    assert found[count]["key"] == "absent" and "absent.wav" in found[count]["error"]


@pytest.mark.parametrize(
    ("batch_size", "expected"), [(1, [(1, 1)] * 6), (2, [(1, 1)] * 6), (4, [(2, 1)] * 2 + [(1, 1)] * 2)]
)
def test_each_thread_has_its_share(
    model: AutoModel, batches: list[tuple[int, int]], batch_size: int, expected: list[tuple[int, int]]
) -> None:
    model.generate([noise(1.0)] * 6, batch_size=batch_size)
    assert batches == expected


def test_one_input_has_all_threads(model: AutoModel, batches: list[tuple[int, int]]) -> None:
    model.generate(WAVS[0])
    assert batches == [(1, 2)]


def test_long_inputs_are_not_worked_on_together_unasked(
    model: AutoModel, batches: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auto_model, "LANE_S", 1.0)
    taken: list[int] = []

    def inputs() -> Iterator[np.ndarray]:
        for seconds in (3.0, 3.0, 0.5, 0.5):
            taken.append(len(batches))
            yield noise(seconds)

    model.generate(inputs())
    assert batches == [(1, 2), (1, 2), (1, 1), (1, 1)]
    assert taken == [0, 1, 2, 2]  # nor is the next one read meanwhile
    model.generate([noise(3.0)] * 2, batch_size=2)
    assert batches[4:] == [(1, 1)] * 2  # the caller asked for two at a time


def test_models_that_search_token_by_token_keep_to_one_batch(
    model: AutoModel, batches: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(model.model), "one_pass", False)
    model.generate([noise(1.0)] * 4, batch_size=2)
    assert batches == [(2, 2)] * 2


def test_segments_of_a_recording_are_recognised_side_by_side(batches: list[tuple[int, int]]) -> None:
    long = str(PARITY / "Pipeline-bicif" / "audio" / "long.flac")
    model = AutoModel(
        model=PARITY / "Pipeline-bicif" / "asr",
        vad_model=PARITY / "FsmnVADStreaming" / "model",
        spk_model=PARITY / "CAMPPlus" / "model",
        device="cpu",
    )
    options = {"max_end_silence_time": 300, "output_timestamp": True, "sentence_timestamp": True}
    found = model.generate(long, batch_size_s=10, **options)[0]
    assert sum(threads == 1 for _, threads in batches) >= 2
    torch.set_num_threads(1)
    expected = model.generate(long, batch_size_s=10, **options)[0]
    assert all(found[name] == expected[name] for name in ("text", "timestamp", "sentence_info"))

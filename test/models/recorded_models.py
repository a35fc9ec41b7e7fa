"""Model directories with recorded outputs, as the tests of the Paraformer variants use them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from funasr import AutoModel
from funasr.models.build import build_model
from funasr.utils.config import read_yaml

PARITY = Path(__file__).parents[1] / "parity"
TRAIN_INPUTS = ("speech", "speech_lengths", "text", "text_lengths")
SPAN = list[int]


def cases(name: str) -> list[Any]:
    recorded = json.loads((PARITY / name / "expected" / "expected.json").read_text(encoding="utf-8"))
    return [pytest.param(name, case, id=f"{name}-{case['name']}") for case in recorded["cases"]]


def training(name: str, run: str) -> dict[str, Any]:
    return json.loads((PARITY / name / "expected" / "expected.json").read_text())["train"]["runs"][run]


def arrays(name: str, prefix: str) -> dict[str, torch.Tensor]:
    """The recorded arrays `prefix`/..., without the prefix."""
    with np.load(PARITY / name / "expected" / "tensors.npz") as stored:
        wanted = [key for key in stored if key.startswith(f"{prefix}/")]
        return {key.removeprefix(f"{prefix}/"): torch.from_numpy(stored[key]) for key in wanted}


def samples(item: Any) -> np.ndarray:
    """The waveform of an input of a recorded case."""
    if isinstance(item, str):
        return soundfile.read(PARITY / "_wavs" / item, dtype="float32")[0]
    if "zeros" in item:
        return np.zeros(item["zeros"], np.float32)
    name, begin, end = item["slice"]
    return samples(name)[begin:end]


def options(name: str, case: dict[str, Any]) -> dict[str, Any]:
    kwargs = dict(case.get("kwargs") or {})
    if "hotword" in kwargs:
        kwargs["hotword"] = kwargs["hotword"].replace("@DIR", str(PARITY / name))
    return kwargs


def inside(spans: list[SPAN], wave: np.ndarray, begin: int = 0) -> list[SPAN]:
    """Times cut to the duration of the audio; the recorded ones reach to the end of the last feature frame."""
    end = begin + int(len(wave) / 16)
    return [[min(max(t, begin), end) for t in span] for span in spans]


def check_alone_equals_batch(model: AutoModel, name: str, case: dict[str, Any]) -> None:
    """In the recording padding leaks between utterances; ours is for each what it is alone."""
    waves, kwargs = [samples(item) for item in case["input"]], options(name, case)
    together = model.generate(waves, **kwargs)
    kwargs.pop("batch_size")
    alone = [model.generate(wave, **kwargs)[0] for wave in waves]
    assert [{**result, "key": ""} for result in together] == [{**result, "key": ""} for result in alone]
    assert together[0]["text"] == case["output"][0]["text"]


def check_training(
    model: Any, name: str, run: str, monkeypatch: pytest.MonkeyPatch, ratio: float, extra: tuple[str, ...] = ()
) -> None:
    """Loss, stats and gradient norms of the recorded training batch."""
    recorded, wanted = arrays(name, "train"), training(name, run)
    model.sampling_ratio = ratio
    # The recording replaced random permutations by the identity.
    monkeypatch.setattr(model, "sampling_ranks", lambda valid: torch.arange(valid.size(1)).expand(valid.shape))
    inputs = {key: recorded[key] for key in (*TRAIN_INPUTS, *extra)}
    before = {key: value.clone() for key, value in inputs.items()}
    model.zero_grad()
    loss, stats, weight = model(**inputs)
    assert all(torch.equal(inputs[key], before[key]) for key in inputs), "inputs must stay as they are"
    loss.backward()
    assert loss.item() == pytest.approx(wanted["loss"], rel=1e-5)
    assert weight.item() == wanted["weight"][0]
    assert set(stats) == {key for key, value in wanted["stats"].items() if value is not None}
    for key, value in stats.items():
        assert value.item() == pytest.approx(wanted["stats"][key][0], rel=2e-5, abs=1e-6), key
    for key, norm in wanted["grad_norms"].items():
        gradient = model.get_parameter(key).grad
        measured = 0.0 if gradient is None else gradient.norm().item()
        assert measured == pytest.approx(norm or 0.0, rel=1e-3, abs=2e-4), key


def check_official_keys(name: str, official: str, **changes: Any) -> None:
    """Keys and shapes of the full-size model, built from the small configuration with the released sizes."""
    config = read_yaml(PARITY / name / "config.yaml")
    config["encoder_conf"].update(output_size=512, num_blocks=50, linear_units=2048)
    config["decoder_conf"].update(num_blocks=16, att_layer_num=16, linear_units=2048)
    config["predictor_conf"]["idim"] = 512
    for key, values in changes.items():
        config[key].update(values)
    config |= {"specaug": None, "vocab_size": 8404, "input_size": 560}
    with torch.device("meta"):
        model = build_model(config, None, None, strict=False)
    actual = {key: "x".join(map(str, value.shape)) or "scalar" for key, value in model.state_dict().items()}
    lines = (PARITY / "official_keys" / f"{official}.txt").read_text().splitlines()
    assert actual == dict(line.split()[:2] for line in lines if not line.startswith("#"))


def close(actual: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, wanted, atol=tolerance, rtol=tolerance)

"""emotion2vec against numbers recorded from released FunASR 1.4.16, and what must hold besides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from funasr.auto.model_dir import read_model_dir
from funasr.models.build import build_tokenizer
from funasr.models.emotion2vec.audio import AudioOptions, parse_conv_spec
from funasr.models.emotion2vec.layers import alibi_bias, alibi_slopes
from funasr.models.emotion2vec.model import Emotion2vec
from funasr.utils.errors import ConfigError
from funasr.utils.weights import load_weights

TOLERANCE = 1e-5


@pytest.fixture(scope="module")
def directory(parity: Path) -> Path:
    return parity / "Emotion2vec"


@pytest.fixture(scope="module")
def config(directory: Path) -> dict[str, Any]:
    return read_model_dir(directory / "model").config


@pytest.fixture(scope="module")
def tokenizer(config: dict[str, Any]) -> Any:
    return build_tokenizer(config)


def options(config: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in config["model_conf"].items() if k not in Emotion2vec.training_only_options}


@pytest.fixture(scope="module")
def model(directory: Path, config: dict[str, Any], tokenizer: Any) -> Emotion2vec:
    network = Emotion2vec(tokenizer.vocab_size, **options(config))
    network.load_state_dict(load_weights(directory / "model" / "model.pt"))
    return network.eval()


@pytest.fixture(scope="module")
def expected(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "expected" / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def waves(directory: Path) -> dict[str, np.ndarray]:
    return {name: soundfile.read(directory / "audio" / f"{name}.wav", dtype="float32")[0] for name in "ab"}


def inputs(case: dict[str, Any], waves: dict[str, np.ndarray]) -> list[torch.Tensor]:
    from funasr.audio.resample import resample

    named = {"b[:9000]": waves["b"][:9000], "b[:600]": waves["b"][:600], "b[:100]": waves["b"][:100]}
    named |= {"b[::2]": resample(np.ascontiguousarray(waves["b"][::2]), 8000, 16000)}
    items = case["input"] if isinstance(case["input"], list) else [case["input"]]
    return [torch.from_numpy(named[item] if item in named else waves[Path(item).stem]) for item in items]


CASES = ("utt", "frame", "noemb", "array", "short", "fs8000", "list")


@pytest.mark.parametrize("name", CASES)
def test_result_equals_the_recording(
    model: Emotion2vec, tokenizer: Any, directory: Path, expected: dict[str, Any], waves: Any, name: str
) -> None:
    case = next(case for case in expected["cases"] if case["name"] == f"emo/{name}")
    settings = {k: v for k, v in case["kwargs"].items() if k != "fs"}
    results, _ = model.inference(inputs(case, waves), tokenizer=tokenizer, **settings)
    assert len(results) == case["n"]
    assert results[0]["labels"] == case["labels"]
    np.testing.assert_allclose(results[0]["scores"], case["scores"], atol=TOLERANCE)
    assert ("feats" in results[0]) == case["has_feats"]
    if case["has_feats"]:
        with np.load(directory / "expected" / "tensors.npz") as stored:
            np.testing.assert_allclose(results[0]["feats"], stored[case["arrays"]["feats"]], atol=TOLERANCE)


def test_state_dict_has_the_recorded_keys(model: Emotion2vec, expected: dict[str, Any]) -> None:
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == expected["notes"]["state_dict"]


def test_what_is_too_short_has_no_scores_and_its_neighbours_are_not_lost(
    model: Emotion2vec, tokenizer: Any, waves: Any
) -> None:
    """The reference raises for the whole call (case emo/too_short)."""
    items = [waves["b"][:100], waves["b"][:9000], np.full(900, np.nan, np.float32), np.zeros(900, np.float32)]
    results, _ = model.inference([torch.from_numpy(item) for item in items], key=list("abcd"), tokenizer=tokenizer)
    assert [result["key"] for result in results] == list("abcd")
    assert results[0]["scores"] == [] and results[0]["feats"].shape == (0, 32) and "too short" in results[0]["error"]
    assert "NaN" in results[2]["error"]
    assert np.isfinite(results[3]["scores"]).all()
    alone, _ = model.inference([torch.from_numpy(items[1])], tokenizer=tokenizer)
    assert results[1]["scores"] == alone[0]["scores"]
    assert model.inference([])[0] == []


def test_a_model_without_emotions_gives_features(config: dict[str, Any], waves: Any) -> None:
    network = Emotion2vec(**options(config)).eval()
    result = network.inference([torch.from_numpy(waves["b"])], extract_embedding=False)[0][0]
    assert result["labels"] == [] and result["scores"] == [] and result["feats"].shape == (32,)
    with pytest.raises(ConfigError, match="granularity"):
        network.inference([torch.from_numpy(waves["b"])], granularity="word")


def test_variants_build_and_run(config: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    base = options(config)
    audio = base["modalities"]["audio"]
    for change, expected_key in (
        ({"conv_pos_pre_ln": True}, "relative_positional_encoder.0.weight"),
        ({"conv_pos_width": 12}, "relative_positional_encoder.1.0.weight"),
        ({"learned_alibi_scale_per_layer": True}, "alibi_scale"),
    ):
        changed = base | {"layer_norm_first": True, "modalities": {"audio": audio | change}}
        network = Emotion2vec(**changed).eval()
        assert f"modality_encoders.AUDIO.{expected_key}" in network.state_dict()
        assert "norm.weight" in network.state_dict()
        assert "modality_encoders.AUDIO.context_encoder.norm.weight" not in network.state_dict()
        with torch.no_grad():
            assert network.extract_features(torch.randn(2, 4000)).shape == (2, 12, 32)
    assert network.audio.alibi_scale.shape == (4, 1, 4, 1, 1)
    AudioOptions.from_config(audio | {"conv_pos_widht": 3})
    assert "conv_pos_widht" in caplog.text and "mask_prob" not in caplog.text


def test_convolution_specs_are_read_not_run() -> None:
    assert parse_conv_spec("[(24, 10, 5)] + [(24, 3, 2)] * 2") == [(24, 10, 5), (24, 3, 2), (24, 3, 2)]
    for text in ("__import__('os').getcwd()", "[(1, 2)]", "[(1, 2, 3)", "[(1, 2, open('x'))]", "7"):
        with pytest.raises(ConfigError, match="feature_encoder_spec"):
            parse_conv_spec(text)


def test_attention_bias_follows_the_paper() -> None:
    assert alibi_slopes(8) == [2.0**-i for i in range(1, 9)]
    np.testing.assert_allclose(alibi_slopes(12)[8:], [2.0 ** (-(i + 0.5)) for i in range(4)], rtol=1e-6)
    bias = alibi_bias(2, 3, 1, torch.device("cpu"))
    assert bias.shape == (2, 4, 4) and not bias[:, 0].any() and not bias[:, :, 0].any()
    assert bias[0, 1:, 1:].tolist() == [[-abs(i - j) / 16 for j in range(3)] for i in range(3)]

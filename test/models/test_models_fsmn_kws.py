"""Keyword spotting against posteriors and results recorded from released FunASR 1.4.16 (scores within 1e-4)."""

from __future__ import annotations

import inspect
import json
import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from funasr.auto.model_dir import read_model_dir
from funasr.layers.ctc import CTC
from funasr.models.build import build, build_frontend, build_tokenizer
from funasr.models.fsmn_kws.keywords import keyword_ids
from funasr.models.fsmn_kws.model import FsmnKWS
from funasr.models.fsmn_kws.search import find_keyword
from funasr.register import tables
from funasr.utils.errors import ConfigError
from funasr.utils.weights import load_into, load_weights

DIRECTORY = Path(__file__).parents[1] / "parity" / "FsmnKWS"
RECORDED = {c["name"]: c for c in json.loads((DIRECTORY / "expected" / "expected.json").read_text())["cases"]}


@cache
def loaded() -> tuple[FsmnKWS, Any, Any]:
    directory = read_model_dir(DIRECTORY / "model")
    tokenizer = build_tokenizer(directory.config, strict=False)
    encoder = tables.encoder_classes["fsmn"](**directory.config["encoder_conf"])
    model = FsmnKWS(encoder, None, tokenizer.vocab_size)  # type: ignore[union-attr]
    report = load_into(model, load_weights(directory.weights))
    assert not report.missing and not report.unexpected
    return model.eval(), tokenizer, build_frontend(directory.config, strict=False)


def wave(path: str) -> torch.Tensor:
    return torch.from_numpy(soundfile.read(DIRECTORY / path, dtype="float32")[0])


def spot(paths: list[str], keywords: Any) -> list[dict[str, Any]]:
    model, tokenizer, frontend = loaded()
    keys = [Path(path).stem for path in paths]
    waves = [wave(path) for path in paths]
    return model.inference(waves, key=keys, tokenizer=tokenizer, frontend=frontend, keywords=keywords)[0]


@pytest.mark.parametrize("name", [name for name in RECORDED if name.startswith("kws/")])
def test_recorded_results(name: str) -> None:
    case = RECORDED[name]
    paths = [case["input"]] if isinstance(case["input"], str) else case["input"]
    for found, wanted in zip(spot(paths, case["kwargs"]["keywords"]), case["value"], strict=True):
        assert found["key"] == wanted["key"]
        assert found["text"].split()[:2] == wanted["text"].split()[:2]
        if " " in wanted["text"]:
            assert float(found["text"].split()[2]) == pytest.approx(float(wanted["text"].split()[2]), abs=1e-4)


@pytest.mark.parametrize("name", ["a", "b"])
def test_recorded_posteriors(name: str) -> None:
    model, _, frontend = loaded()
    samples = wave(f"audio/{name}.wav")[None]
    with torch.no_grad():
        probs, _ = model.posteriors(*frontend(samples, torch.tensor([samples.size(1)])))
    with np.load(DIRECTORY / "expected" / "tensors.npz") as stored:
        np.testing.assert_allclose(probs.numpy(), stored[f"probs/{name}"], atol=1e-4)


def test_keywords_as_a_list_and_a_batch_give_the_same() -> None:
    paths = ["audio/a.wav", "audio/b.wav"]
    together = spot(paths, ["打开", "小云"])
    assert together == spot(paths, "打开, 小云,") == [spot([path], ["打开", "小云"])[0] for path in paths]


def test_keywords_are_needed() -> None:
    for nothing in (None, "", " , ", []):
        with pytest.raises(ConfigError, match="keywords"):
            spot(["audio/a.wav"], nothing)


def test_nothing_to_hear() -> None:
    model, tokenizer, frontend = loaded()
    options = {"tokenizer": tokenizer, "frontend": frontend, "keywords": "小云"}
    assert model.inference([], **options) == ([], {})
    results, _ = model.inference([torch.zeros(0), wave("audio/a.wav")], key=["p", "q"], **options)
    assert results[0] == {"key": "p", "text": "rejected"} and results[1]["text"].startswith("detected 小云")


def test_keyword_ids(caplog: pytest.LogCaptureFixture) -> None:
    """The reference reads a lexicon entry letter by letter and so loses `go on`; units are whole here."""
    tokenizer = loaded()[1]
    ids = tokenizer.token_ids
    assert keyword_ids("小云", tokenizer) == [ids["小"], ids["云"]]
    assert keyword_ids("go", tokenizer) == [ids["go"]]
    assert keyword_ids("GoOn", tokenizer) == [ids["go"], ids["on"]]
    assert keyword_ids("go小xy!", tokenizer) == [ids["go"], ids["小"], ids["x"], ids["y"]]
    assert keyword_ids("<sil>云", tokenizer) == [0, ids["云"]]
    with caplog.at_level(logging.WARNING):
        assert keyword_ids("魑", tokenizer) == [ids["<unk>"]]
    assert "魑" in caplog.text


def test_a_repeated_token_needs_a_blank_between() -> None:
    def frames(*best: int) -> torch.Tensor:
        probs = torch.full((len(best), 4), 0.01)
        probs[torch.arange(len(best)), torch.tensor(best)] = 0.97
        return probs

    keywords = {"bb": (2, 2), "ab": (1, 2)}
    assert find_keyword(frames(2, 2, 2), keywords) is None
    assert find_keyword(frames(2, 0, 2), keywords) == ("bb", pytest.approx(0.97))
    assert find_keyword(frames(0, 1, 3, 2), keywords) == ("ab", pytest.approx(0.97))  # 3 is no keyword's token
    assert find_keyword(torch.zeros(0, 4), keywords) is None


def test_training_loss() -> None:
    model, tokenizer, _ = loaded()
    torch.manual_seed(0)
    trained = FsmnKWS(model.encoder, CTC(tokenizer.vocab_size, 12), tokenizer.vocab_size)
    text = torch.tensor([[1, 2, 3], [4, 5, -1]])
    loss, stats, weight = trained(torch.randn(2, 30, 400), torch.tensor([30, 20]), text, torch.tensor([3, 2]))
    assert loss.isfinite() and int(weight) == 2 and torch.equal(stats["loss"], loss.detach())
    with pytest.raises(ConfigError, match="tokens"):
        FsmnKWS(model.encoder, None, 7)


def test_no_keyword_is_a_target_too() -> None:
    """All frames blank is then the best there is; the accuracy counts whole utterances."""
    model, tokenizer, _ = loaded()
    head = CTC(tokenizer.vocab_size, 12)
    trained = FsmnKWS(model.encoder, head, tokenizer.vocab_size).eval()
    speech, lengths = torch.randn(2, 30, 400), torch.tensor([30, 20])
    none = torch.zeros(2, 0, dtype=torch.int64), torch.tensor([0, 0])
    with torch.no_grad():
        before, _, _ = trained(speech, lengths, *none)
        head.ctc_lo.bias[0] += 50.0  # type: ignore[union-attr, operator]
        after, stats, _ = trained(speech, lengths, *none)
        _, other, _ = trained(speech, lengths, torch.tensor([[1], [-1]]), torch.tensor([1, 0]))
    assert after < 1e-3 < before and float(stats["acc"]) == 1.0 and float(other["acc"]) == 0.5  # type: ignore[arg-type]


@pytest.mark.skipif("extra_linear" not in inspect.signature(CTC).parameters, reason="needs CTC(extra_linear=False)")
def test_model_directory_through_the_builder() -> None:
    directory = read_model_dir(DIRECTORY / "model")
    parts = build(directory.config, strict=False)
    report = load_into(parts.model, load_weights(directory.weights))
    assert not report.missing and not report.unexpected
    (result,), _ = parts.model.eval().inference(
        [wave("audio/a.wav")], tokenizer=parts.tokenizer, frontend=parts.frontend, keywords="小云小云"
    )
    assert result["text"].startswith("detected 小云小云 0.99998")

"""What released FunASR 1.4.16 recorded of files, hot words, model directories and bad input, beside the texts.

Meant differences:

* a file of `output_dir` has one line for each input, with its key and times in it; there the pipeline wrote a line for
  each segment, under a random key, and detector and recogniser wrote into one file;
* input that is wrong raises one error that names it; there many kinds of traceback, or a result that is wrong silently.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recorded_pipelines import PARITY, Pipelines, check_result, check_times

from funasr import AutoModel
from funasr.utils.errors import ConfigError, DamagedUtteranceError

NAMES = ("bicif", "paraformer", "seaco")


def cases(prefix: str) -> list[Any]:
    found = []
    for name in NAMES:
        text = (PARITY / f"Pipeline-{name}" / "expected" / "expected.json").read_text(encoding="utf-8")
        kept = [case for case in json.loads(text)["cases"] if case["name"].startswith(prefix)]
        found += [pytest.param(name, case, id=f"{name}-{case['name']}") for case in kept]
    return found


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Pipelines]:
    return {name: Pipelines(name) for name in NAMES}


@pytest.mark.parametrize("name, case", cases("hotpost/"))
def test_hot_words_put_in_afterwards(pipelines: dict[str, Pipelines], name: str, case: dict[str, Any]) -> None:
    model = pipelines[name].model(**case["init"])
    ours = model.generate(pipelines[name].input(case["input"]), **case["kwargs"])[0]
    theirs = case["value"][0]
    assert ours.pop("postprocess_hotword_matches", None) == theirs.get("postprocess_hotword_matches")
    check_result(ours, {key: value for key, value in theirs.items() if key != "postprocess_hotword_matches"})


@pytest.mark.parametrize("name, case", cases("output_dir/"))
def test_files_of_an_output_directory(
    pipelines: dict[str, Pipelines], name: str, case: dict[str, Any], tmp_path: Path
) -> None:
    audio = pipelines[name].root / "audio"
    given: Any = str(audio / "short.wav")
    if case["name"] == "output_dir/asr":
        given = tmp_path / "wav.scp"
        given.write_text(f"uttA {audio / 'short.wav'}\nuttB\t{audio / 'stereo44.wav'}\n{audio / 'short.wav'}\n")
    model = pipelines[name].model(**case["init"])
    kwargs = {"return_raw_text": True, **case["kwargs"]} if "punc_model" in case["init"] else case["kwargs"]
    results = model.generate(given, output_dir=tmp_path / "out", **kwargs)
    written = {
        path.relative_to(tmp_path / "out").as_posix(): dict(
            line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines()
        )
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert set(case["files"]) <= set(written)
    for ours, theirs in zip(results, case["value"], strict=True):
        for field in ("text", "timestamp", "token", "sentence_info", "value", "score"):
            file = "1best_recog/" + ("segments" if field == "value" else field)
            assert (field in ours) == (ours["key"] in written.get(file, {}))
        assert written["1best_recog/text"][ours["key"]] == ours["text"]
        added = {"token", "token_int", "score", "value", "raw_text"}  # what was asked for to be written
        for sentence in ours.get("sentence_info", ()):
            sentence.pop("raw_text", None)
        check_result({k: v for k, v in ours.items() if k not in added}, theirs, timed=name != "paraformer")
    raw = "raw_text" if "punc_model" in case["init"] else "text"
    for line, (key, text) in zip(case["files"]["1best_recog/text"].splitlines(), written[f"1best_recog/{raw}"].items()):
        recorded_key, recorded_text = line.split(" ", 1)
        assert text == recorded_text and recorded_key in (key, "rand_key_*")
    tokens = [line.split(" ", 1)[1] for line in case["files"]["1best_recog/token"].splitlines()]
    assert list(written["1best_recog/token"].values()) == tokens
    if case["name"] == "output_dir/asr" and "timestamp" in written:
        spans = [json.loads(line.split(" ", 1)[1]) for line in case["files"]["1best_recog/timestamp"].splitlines()]
        for mine, theirs in zip(written["1best_recog/timestamp"].values(), spans):
            check_times(json.loads(mine), theirs)


@pytest.mark.parametrize("name, case", cases("resolve/"))
def test_model_directories(name: str, case: dict[str, Any], tmp_path: Path) -> None:
    directory = Path(shutil.copytree(PARITY / f"Pipeline-{name}" / "asr", tmp_path / "asr"))
    kind = case["name"].removeprefix("resolve/")
    if kind.startswith("config_yaml_only") or kind == "no_model_pt":
        (directory / "configuration.json").unlink()
    if kind.endswith("no_model_pt"):  # there with a configuration.json: a model of random weights
        (directory / "model.pt").unlink()
        with pytest.raises(ConfigError, match="holds no weights"):
            AutoModel(model=directory)
        return
    if kind == "ckpt_wrapped_module_prefix":
        weights = torch.load(directory / "model.pt", weights_only=True)
        weights = weights.get("state_dict", weights)
        wrapped = {"model_state_dict": {f"module.{key}": value for key, value in weights.items()}}
        torch.save(wrapped, directory / "model.pt")
    model = AutoModel(model=directory, device="cpu", hub="hf" if kind.endswith("_hf") else "ms")
    audio = PARITY / f"Pipeline-{name}" / "audio" / "short.wav"
    check_result(model.generate(str(audio))[0], case["value"][0])


WRONG: dict[str, tuple[type[Exception], str]] = {
    "missing_file": (DamagedUtteranceError, "nofile.wav: does not exist"),
    "missing_file_vad": (DamagedUtteranceError, "nofile.wav: does not exist"),
    "text_file_not_wav": (DamagedUtteranceError, "in.jsonl.bak: does not exist"),
    "garbage_wav": (DamagedUtteranceError, "garbage.wav: is not audio"),
    "none": (DamagedUtteranceError, "input_0001.*NoneType"),
    "nan": (DamagedUtteranceError, "input 'k'.*NaN|input_0001.*NaN"),
    "empty_bytes": (DamagedUtteranceError, "has no samples"),
    "odd_bytes": (DamagedUtteranceError, "bytes"),
    "vda_model": (TypeError, "vda_model.*vad_model"),
    "unknown_model_dir": (ConfigError, "does/not/exist"),
    "bad_spk_mode": (ConfigError, "spk_mode.*bogus"),
    "batch_size0": (ValueError, "batch_size"),
}


def wrong_input(case: str, short: np.ndarray, folder: Path) -> Any:
    garbage = folder / "garbage.wav"
    garbage.write_text("this is not a wav")
    made = {
        "none": None, "nan": np.full(16000, np.nan, np.float32), "empty_bytes": b"", "odd_bytes": b"abc",
        "missing_file": "nofile.wav", "missing_file_vad": "nofile.wav", "text_file_not_wav": "in.jsonl.bak",
        "garbage_wav": str(garbage), "empty_array": np.zeros(0, np.float32), "empty_list": [],
        "empty_array_vad": np.zeros(0, np.float32), "tiny_array": np.zeros(10, np.float32),
        "int16": (short * 32768).astype(np.int16), "float64": short.astype(np.float64),
        "stereo_2N": np.stack([short, short]), "stereo_N2": np.stack([short, short], axis=1),
    }  # fmt: skip
    return made.get(case, short)


@pytest.mark.parametrize("name, case", cases("error/"))
def test_bad_input(pipelines: dict[str, Pipelines], name: str, case: dict[str, Any], tmp_path: Path) -> None:
    kind = case["name"].removeprefix("error/")
    group = pipelines[name]
    short = group.wave("short.wav")
    given = wrong_input(kind, short, tmp_path)
    kwargs = {key: value for key, value in case["kwargs"].items() if key != "key"}
    if kind in WRONG:
        error, words = WRONG[kind]
        with pytest.raises(error, match=words):
            group.model(**case["init"]).generate(given, **kwargs)
        return
    model = group.model(**case["init"])
    results = model.generate(given, **kwargs)
    if kind == "empty_list":
        assert results == []
    elif kind in ("empty_array", "empty_array_vad", "tiny_array"):
        assert [(result["key"], result["text"]) for result in results] == [("input_0001", "")]
    else:  # there an error or, with a detector, wrong segments: here what the samples say
        expected = group.model(model="asr").generate(short)[0]
        assert results[0]["text"].replace(" ", "") == expected["text"].replace(" ", "")  # times put spaces in

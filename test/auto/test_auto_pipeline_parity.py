"""VAD, recognition, punctuation and speakers together: results that released FunASR 1.4.16 recorded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from recorded_pipelines import Pipelines, check_result, check_times, recorded

from funasr.audio.resample import resample

NAMES = ("bicif", "paraformer", "seaco")
MERGE_S = 15  # all that the recording toolkit takes from a call
ELSEWHERE = ("error/", "output_dir/", "resolve/", "hotpost/")  # other tests are about these, or nothing here


def cases() -> list[Any]:
    return [
        pytest.param(name, case, id=f"{name}-{case['name']}")
        for name in NAMES
        for case in recorded(name)
        if not case["name"].startswith(ELSEWHERE)
    ]


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Pipelines]:
    return {name: Pipelines(name) for name in NAMES}


@pytest.mark.parametrize("name, case", cases())
def test_recorded_pipeline(
    pipelines: dict[str, Pipelines], name: str, case: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = pipelines[name]
    monkeypatch.chdir(group.root)  # lists name files beside them
    model, given, kwargs = group.model(**case["init"]), group.input(case["input"]), dict(case["kwargs"])
    if case["name"] == "vad/fs8000":
        expected = model.generate(resample(given, 8000, 16000), max_end_silence_time=500)
        assert model.generate(given, **kwargs) == expected
        return
    if "merge_length_s" in kwargs:
        kwargs["merge_length_s"] = MERGE_S
    results = model.generate(given, **kwargs)
    assert len(results) == len(case["value"])
    if name == "paraformer" and "batch_size" in kwargs:
        assert [r["text"] for r in results] == [model.generate(item)[0]["text"] for item in given]
        return
    for ours, theirs in zip(results, case["value"]):
        if case["name"] == "asr_punc/sentence_timestamp_ignored":  # not here
            assert len(ours.pop("sentence_info")) > 1 or name == "paraformer"
        check_result(ours, theirs, timed=name != "paraformer")


@pytest.mark.parametrize("length", [3, 8, 60])
def test_merge_length_of_a_call_is_that_of_the_constructor(pipelines: dict[str, Pipelines], length: int) -> None:
    init = {"model": "asr", "vad_model": "vad", "vad_kwargs": {"max_end_silence_time": 500}}
    audio = pipelines["bicif"].input("audio/long.flac")
    called = pipelines["bicif"].model(**init).generate(audio, merge_vad=True, merge_length_s=length)
    built = pipelines["bicif"].model(**init, merge_length_s=length).generate(audio, merge_vad=True)
    assert called == built


def test_hotwords_as_a_list(pipelines: dict[str, Pipelines]) -> None:
    """There a TypeError; here what the same words in a text give."""
    case = next(case for case in recorded("seaco") if case["name"] == "hotword/str")
    model = pipelines["seaco"].model(model="asr")
    ours = model.generate(pipelines["seaco"].input("audio/short.wav"), hotword=case["kwargs"]["hotword"].split())[0]
    assert ours["text"] == case["value"][0]["text"]
    check_times(ours["timestamp"], case["value"][0]["timestamp"])


def test_key_with_vad(pipelines: dict[str, Pipelines]) -> None:
    """There a TypeError."""
    model = pipelines["bicif"].model(model="asr", vad_model="vad")
    assert model.generate(pipelines["bicif"].wave("short.wav"), key="abc")[0]["key"] == "abc"


def test_progress_as_recorded(pipelines: dict[str, Pipelines], parity: Path) -> None:
    calls: list[tuple[int, int]] = []
    inputs = [str(parity / "_wavs" / name) for name in ("a.wav", "b.wav", "c.wav")]
    pipelines["bicif"].model(model="asr").generate(
        inputs, batch_size=2, progress_callback=lambda done, total: calls.append((done, total))
    )
    assert calls == [(2, 3), (3, 3)]

"""`output_dir`: one file for each field, whole or absent, with the keys of the call; results in hand stay the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from funasr import AutoModel
from funasr.auto.result_files import write_results


def written(directory: Path) -> dict[str, list[str]]:
    files = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.suffix != ".npy"]
    return {path.relative_to(directory).as_posix(): path.read_text("utf-8").splitlines() for path in files}


@pytest.fixture(scope="module")
def wavs() -> Path:
    return Path(__file__).parents[1] / "parity" / "_wavs"


def test_texts_tokens_and_scores(parity: Path, wavs: Path, tmp_path: Path) -> None:
    model = AutoModel(model=parity / "Paraformer", device="cpu")
    inputs = [str(wavs / name) for name in ("a.wav", "absent.wav", "b.wav")]
    plain = model.generate(inputs)
    results = model.generate(inputs, output_dir=tmp_path / "out")
    names = ("text", "token", "token_int", "score")
    assert set(written(tmp_path / "out")) == {f"1best_recog/{name}" for name in (*names, "error")}
    files = {name.split("/")[1]: lines for name, lines in written(tmp_path / "out").items()}
    assert files["text"] == [f"{result['key']} {result['text']}" for result in plain if "error" not in result]
    assert files["token"] == [f"{r['key']} {' '.join(r['token'])}" for r in results if "error" not in r]
    assert [line.split(" ", 1)[0] for line in files["error"]] == ["absent"]
    assert all(len(line.split()) == 2 and float(line.split()[1]) < 0 for line in files["score"])
    assert [{k: v for k, v in r.items() if k not in names[1:]} for r in results] == plain
    built = AutoModel(model=parity / "Paraformer", device="cpu", output_dir=tmp_path / "built")
    built.generate(inputs)
    assert written(tmp_path / "built") == written(tmp_path / "out")


def test_segments_of_a_detector_alone_and_in_a_pipeline(parity: Path, wavs: Path, tmp_path: Path) -> None:
    vad = AutoModel(model=parity / "FsmnVADStreaming" / "model", device="cpu")
    audio = str(parity / "Pipeline-bicif" / "audio" / "short.wav")
    segments = vad.generate(audio, output_dir=tmp_path / "vad")[0]["value"]
    assert written(tmp_path / "vad") == {"1best_recog/text": [f"short {json.dumps(segments)}"]}
    model = AutoModel(model=parity / "Paraformer", vad_model=parity / "FsmnVADStreaming" / "model", device="cpu")
    result = model.generate(audio, output_dir=tmp_path / "all")[0]
    files = written(tmp_path / "all")
    assert files["1best_recog/segments"] == [f"short {json.dumps(segments)}"]
    assert files["1best_recog/text"] == [f"short {result['text']}"]


def test_keywords_and_aligned_words_where_they_were(parity: Path, tmp_path: Path) -> None:
    spotter = AutoModel(model=parity / "FsmnKWS" / "model", device="cpu")
    wav = sorted((parity / "FsmnKWS" / "audio").glob("*.wav"))[0]
    result = spotter.generate(str(wav), keywords="你好", output_dir=tmp_path / "kws")[0]
    assert written(tmp_path / "kws") == {"detect": [f"{wav.stem} {result['text']}"]}
    aligner = AutoModel(model=parity / "MonotonicAligner" / "model", device="cpu")
    pair = (str(parity / "MonotonicAligner" / "audio" / "a.wav"), "今 天 hello world 好")
    result = aligner.generate(pair, data_type=("sound", "text"), output_dir=tmp_path / "fa")[0]
    files = written(tmp_path / "fa")
    assert files["tp_res/timestamp_list"] == [f"a {json.dumps(result['timestamp'])}"]
    spans = [entry.split() for entry in files["tp_res/timestamp_str"][0].removeprefix("a ").split(";") if entry]
    assert [[word, float(start) * 1000, float(end) * 1000] for word, start, end in spans] == [
        [word, start, end] for word, (start, end) in zip(result["text"].split(), result["timestamp"])
    ]


def test_arrays(parity: Path, wavs: Path, tmp_path: Path) -> None:
    speakers = AutoModel(model=parity / "CAMPPlus" / "model", device="cpu")
    result = speakers.generate(str(wavs / "a.wav"), output_dir=tmp_path)[0]
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), result["spk_embedding"])


def test_keys_stay_in_the_directory_and_lines_are_lines(tmp_path: Path) -> None:
    results: list[list[dict[str, Any]]] = [
        [{"key": "../up", "text": "two\nlines", "feats": np.zeros(2), "extra": np.ones(1)}],
        [{"key": "n", "text": "best", "score": -1.25}, {"key": "n", "text": "second", "score": -2.0, "none": None}],
        [{"key": "n", "text": ""}],
    ]
    write_results(tmp_path / "out", results)
    assert written(tmp_path / "out") == {
        "1best_recog/text": ["../up two lines", "n best", "n"],
        "1best_recog/score": ["n -1.2500"],
        "2best_recog/text": ["n second"],
        "2best_recog/score": ["n -2.0000"],
    }
    assert sorted(path.name for path in tmp_path.rglob("*.npy")) == ["_.._up.extra.npy", "_.._up.npy"]


def test_an_interrupted_call_leaves_the_files_as_they_were(parity: Path, wavs: Path, tmp_path: Path) -> None:
    model = AutoModel(model=parity / "Paraformer", device="cpu", output_dir=tmp_path)
    model.generate(str(wavs / "a.wav"))
    before = written(tmp_path)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.generate([str(wavs / "b.wav")] * 2, progress_callback=stop)
    assert written(tmp_path) == before

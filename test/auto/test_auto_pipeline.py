"""The pipeline: one result for each input whatever happens, the same however it is batched, in memory that is flat."""

from __future__ import annotations

import http.server
import json
import logging
import sys
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from funasr import AutoModel
from funasr.auto import pipeline, progress
from funasr.auto.results import Segment, Transcript
from funasr.utils.errors import ConfigError, DamagedUtteranceError

PARITY = Path(__file__).parents[1] / "parity"
AUDIO = PARITY / "Pipeline-bicif" / "audio"
LONG, SHORT, SILENCE = (str(AUDIO / name) for name in ("long.flac", "short.wav", "sil.wav"))
MODELS = {
    "model": PARITY / "Pipeline-bicif" / "asr",
    "vad_model": PARITY / "FsmnVADStreaming" / "model",
    "punc_model": PARITY / "CTTransformer" / "model",
    "spk_model": PARITY / "CAMPPlus" / "model",
}
EVERYTHING = {"sentence_timestamp": True, "return_raw_text": True, "return_word_info": True}


def build(*names: str, **options: Any) -> AutoModel:
    return AutoModel(device="cpu", **{name: MODELS[name] for name in ("model", *names)}, **options)


@pytest.fixture(scope="module")
def full() -> AutoModel:
    return build("vad_model", "punc_model", "spk_model")


@pytest.fixture(scope="module")
def spoken() -> AutoModel:
    """Without speakers."""
    return build("vad_model", "punc_model")


def samples(path: str) -> np.ndarray:
    return soundfile.read(path, dtype="float32")[0]


def without_keys(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{name: value for name, value in result.items() if name != "key"} for result in results]


def test_views_cannot_disagree(full: AutoModel) -> None:
    result = full.generate(LONG, max_end_silence_time=500, **EVERYTHING)[0]
    words = result["word_info"]
    assert [word["text"] for word in words] == result["raw_text"].split()
    assert [[word["start"], word["end"]] for word in words] == result["timestamp"]
    assert [span for sentence in result["sentence_info"] for span in sentence["timestamp"]] == result["timestamp"]
    assert "".join(word["text"] for word in words) == "".join(s["raw_text"] for s in result["sentence_info"])
    assert sum(bool(word["punc"]) for word in words) == len(result["sentence_info"])
    assert {word["spk"] for word in words} >= {sentence["spk"] for sentence in result["sentence_info"]}
    assert len({word["spk"] for word in words}) == 2
    assert json.dumps(words)


def test_batches_do_not_change_results(full: AutoModel) -> None:
    inputs = [LONG, SHORT, SILENCE, LONG]
    options = {"max_end_silence_time": 300, **EVERYTHING}
    alone = [full.generate(item, **options)[0] for item in (LONG, SHORT, SILENCE)]
    for batch_size_s in (0, 10, 1000):
        assert full.generate(inputs, batch_size_s=batch_size_s, **options) == [*alone, alone[0]]


def test_pools_do_not_change_results(full: AutoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Speaker windows that wait for those of the next pool stay their recording's."""
    inputs = [LONG, SHORT, SILENCE, LONG]
    options = {"max_end_silence_time": 300, **EVERYTHING}
    expected = full.generate(inputs, **options)
    monkeypatch.setattr(pipeline, "ON_CPU", pipeline.Amounts(batch_s=5.0, pool_s=5.0, windows=7))
    assert full.generate(inputs, **options) == expected


def test_second_call_equals_the_first(full: AutoModel) -> None:
    first = full.generate(LONG)
    full.generate(SHORT, max_end_silence_time=100, merge_vad=True, return_raw_text=True, preset_spk_num=2)
    assert full.generate(LONG) == first


def test_threads_share_one_model(full: AutoModel) -> None:
    options = [{"max_end_silence_time": time, **EVERYTHING} for time in (300, 800, 300)]
    expected = [full.generate(LONG, **option) for option in options]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(lambda option: full.generate(LONG, **option), options)) == expected


def test_a_built_model_does_not_change(full: AutoModel) -> None:
    with pytest.raises(AttributeError, match="fs"):
        full.fs = 8000  # type: ignore[misc]


def test_every_input_form(spoken: AutoModel, tmp_path: Path) -> None:
    wave = samples(SHORT)
    expected = without_keys(spoken.generate(SHORT, **EVERYTHING))
    eight = np.zeros((len(wave), 8), np.float32)
    eight += wave[:, None]
    many = tmp_path / "many.wav"
    soundfile.write(many, eight, 16000, subtype="PCM_16")
    scp = tmp_path / "wav.scp"
    scp.write_text(f"a {SHORT}\n")
    paths = tmp_path / "paths.txt"
    paths.write_text(f"{SHORT}\n")
    forms = [Path(SHORT).read_bytes(), wave, torch.from_numpy(wave), eight, str(many), str(scp), str(paths), [wave]]
    for form in forms:
        assert without_keys(spoken.generate(form, **EVERYTHING)) == expected
    assert without_keys(spoken.generate(iter([wave, SHORT]), **EVERYTHING)) == expected * 2
    fast = np.repeat(wave, 2)
    assert without_keys(spoken.generate(fast, fs=32000)) != []


def test_a_damaged_file_does_not_take_its_neighbours_along(full: AutoModel, tmp_path: Path) -> None:
    garbage, truncated, nan = tmp_path / "garbage.wav", tmp_path / "truncated.flac", tmp_path / "nan.wav"
    garbage.write_text("this is not audio")
    truncated.write_bytes(Path(LONG).read_bytes()[:300_000])  # breaks off after speech that was recognised
    soundfile.write(nan, np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    inputs = [LONG, str(garbage), SHORT, str(truncated), str(nan), str(tmp_path / "absent.wav"), SILENCE, LONG]
    results = full.generate(inputs, batch_size_s=20)
    assert [result["key"] for result in results] == [Path(item).stem for item in inputs]
    assert ["error" in result for result in results] == [False, True, False, True, True, True, False, False]
    assert results[0] == results[7] == full.generate(LONG)[0]
    assert results[2] == full.generate(SHORT)[0]
    with pytest.raises(DamagedUtteranceError, match="garbage"):
        full.generate(str(garbage))


@pytest.mark.parametrize("count", [0, 1, 160, 399, 400, 16000])
def test_silence_and_too_short_audio_give_an_empty_text(full: AutoModel, count: int) -> None:
    assert full.generate(np.zeros(count, np.float32), key="k") == [{"key": "k", "text": "", "timestamp": []}]


def test_too_short_audio_without_vad() -> None:
    model = build("punc_model", "spk_model")
    result = model.generate(np.zeros(10, np.float32), key="k")
    assert [entry["key"] for entry in result] == ["k"]
    assert model.generate(SHORT)[0]["sentence_info"][0]["spk"] == 0


def test_the_longest_pause_is_not_recognised_and_merging_goes_on_behind_it(spoken: AutoModel) -> None:
    """Silence of more than what is held in memory between two stretches of speech that are to be merged."""
    wave = samples(SHORT)
    pause = np.zeros(300 * 16000, np.float32)
    audio = np.concatenate([wave, pause, wave])
    first = spoken.generate(np.concatenate([wave, pause]), merge_vad=True)[0]
    both = spoken.generate(audio, merge_vad=True)[0]
    assert len(both["timestamp"]) >= 2 * len(first["timestamp"]) - 2
    assert both["timestamp"][-1][1] > 300_000
    assert all(end < 6_000 or start > 300_000 for start, end in both["timestamp"])


@pytest.mark.parametrize("dtype", ["bfloat16", "auto"])
def test_half_precision(dtype: str) -> None:
    """A 16-bit type changes little; "auto" changes nothing in a probe, whatever it picks."""
    result = build("vad_model", "punc_model", dtype=dtype).generate(SHORT)[0]
    expected = build("vad_model", "punc_model").generate(SHORT)[0]
    assert abs(len(result["timestamp"]) - len(expected["timestamp"])) <= 2


def test_an_address(spoken: AutoModel) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(AUDIO))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/short.wav"
        try:
            assert spoken.generate(url) == spoken.generate(SHORT)
            assert "404" in spoken.generate([url + "x", SHORT])[0]["error"]
        finally:
            server.shutdown()
            thread.join()


def test_options(full: AutoModel, caplog: pytest.LogCaptureFixture) -> None:
    full.generate(SHORT, preset_spk_nun=2)
    assert "preset_spk_nun" in caplog.text and "did you mean preset_spk_num" in caplog.text
    caplog.clear()
    build("vad_model", vad_kwargs={"max_end_silence_tim": 3}, disable_update=True)
    assert "max_end_silence_tim" in caplog.text and "disable_update" not in caplog.text
    with pytest.raises(TypeError, match="vad_model"):
        AutoModel(model=MODELS["model"], vda_model="x")
    with pytest.raises(ConfigError, match="spk_mode"):
        build(spk_mode="bogus")


def test_call_over_constructor_over_configuration(spoken: AutoModel) -> None:
    built = build("vad_model", vad_kwargs={"max_end_silence_time": 300})
    assert built.generate(LONG) != build("vad_model").generate(LONG)
    assert (
        built.generate(LONG, max_end_silence_time=800)[0]["timestamp"]
        == (spoken.generate(LONG, max_end_silence_time=800)[0]["timestamp"])
    )
    short = build("vad_model", vad_kwargs={"max_single_segment_time": 3000})
    assert short.engines.vad is not None and short.engines.vad.config["model_conf"]["max_single_segment_time"] == 3000


def test_texts_go_to_a_model_that_reads_text(tmp_path: Path) -> None:
    punc = AutoModel(model=MODELS["punc_model"], device="cpu")
    text = "贵发杂已多下论们多 will"
    single = punc.generate(text)
    assert single[0]["key"] == "input_0001"
    listed = tmp_path / "texts.txt"
    listed.write_text(f"a {text.replace(' ', '')}\nb {text}\n", encoding="utf-8")
    results = punc.generate(str(listed))
    assert [result["key"] for result in results] == ["a", "b"]
    assert results[1]["text"] == single[0]["text"] == punc.generate([text, "下"], batch_size=2)[0]["text"]
    assert punc.generate("missing.txt")[0]["text"]  # a text, not a list


def test_streaming_cache_is_passed_through() -> None:
    vad = AutoModel(model=MODELS["vad_model"], device="cpu")
    wave, cache, events = samples(LONG), {}, []  # type: ignore[var-annotated]
    for start in range(0, len(wave), 9600):
        chunk = wave[start : start + 9600]
        final = start + 9600 >= len(wave)
        events += vad.generate(chunk, cache=cache, is_final=final, chunk_size=600)[0]["value"]
    assert cache == {}
    starts = [start for start, _ in events if start >= 0]
    assert len(starts) > 1 and starts == sorted(starts)


def test_audio_and_text_for_an_aligner(tmp_path: Path) -> None:
    aligner = AutoModel(model=PARITY / "MonotonicAligner" / "model", device="cpu")
    audio = str(PARITY / "MonotonicAligner" / "audio" / "a.wav")
    result = aligner.generate(input=(audio, "希 望"), data_type=("sound", "text"))[0]
    assert result["key"] == "a" and len(result["timestamp"]) == len(result["text"].split())
    lines = tmp_path / "text.txt"
    lines.write_text("x 希 望\n", encoding="utf-8")
    scp = tmp_path / "wav.scp"
    scp.write_text(f"x {audio}\n")
    listed = aligner.generate(input=(str(scp), str(lines)), data_type=("sound", "text"))[0]
    assert listed == {**result, "key": "x"}


def repeated(path: Path, minutes: float) -> Path:
    """A file of that length: speech again and again with pauses."""
    wave = samples(LONG)
    with soundfile.SoundFile(path, "w", 16000, 1, subtype="PCM_16") as file:
        for _ in range(int(minutes * 60 / (len(wave) / 16000))):
            file.write(wave)
    return path


def peak_bytes(run: Callable[[], Any]) -> int:
    tracemalloc.start()
    try:
        run()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Python and numpy hold: a pool of segments, however long the file; only words and embeddings stay."""
    monkeypatch.setattr(pipeline, "ON_CPU", replace(pipeline.ON_CPU, pool_s=60.0))
    model = build("vad_model", "punc_model", "spk_model")
    ten, twenty = repeated(tmp_path / "10.wav", 10), repeated(tmp_path / "20.wav", 20)
    results: list[dict[str, Any]] = []
    options = {"max_end_silence_time": 500}
    small = peak_bytes(lambda: results.extend(model.generate(str(ten), **options)))
    large = peak_bytes(lambda: results.extend(model.generate(str(twenty), **options)))
    assert large - small < 8e6, (small, large)
    assert large < 1.5 * small
    # The same speech over and over: the same text over and over, at other times.
    count = len(results[0]["timestamp"])
    assert abs(len(results[1]["timestamp"]) - 2 * count) < 0.05 * count
    assert results[1]["timestamp"][-1][1] > 18 * 60_000


def test_samples_of_a_segment_are_dropped_once_it_is_recognised(
    spoken: AutoModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from funasr.auto.recording import RollingAudio

    monkeypatch.setattr(pipeline, "ON_CPU", replace(pipeline.ON_CPU, pool_s=30.0))
    held: list[int] = []
    append = RollingAudio.append

    def watched(self: RollingAudio, block: np.ndarray) -> None:
        append(self, block)
        held.append(sum(len(kept) for _, kept in self._blocks))

    monkeypatch.setattr(RollingAudio, "append", watched)
    long = tmp_path / "long.wav"
    soundfile.write(long, np.tile(samples(LONG), 12), 16000)  # 8 minutes
    spoken.generate(str(long), max_end_silence_time=500)
    assert len(held) > 45 and max(held) <= 200 * 16000  # a segment, two pieces of the detector, and a block or two


def test_progress_counts_inputs(spoken: AutoModel, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[tuple[int, int]] = []
    spoken.generate([SHORT, "absent.wav", SILENCE], progress_callback=lambda *call: calls.append(call))
    assert calls[-1] == (3, 3)
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_how_far_a_long_recording_is(
    spoken: AutoModel, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "PATIENCE_S", 0.0)
    monkeypatch.setattr(pipeline, "ON_CPU", replace(pipeline.ON_CPU, batch_s=1.0, pool_s=0.0))
    spoken.generate(SHORT)
    shown = capsys.readouterr().err
    assert f"{Path(SHORT).stem} to 0:0" in shown
    spoken.generate(SHORT, disable_pbar=True)
    assert capsys.readouterr().err == ""


def test_text_that_punctuation_has_changed_stays_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    from funasr.text.words import Word

    transcript = Transcript("k", (Segment(0, 1000, (Word("下", 0, 500),), timed=True),))
    with caplog.at_level(logging.WARNING):
        assert transcript.punctuated_as("上。") == transcript
    assert "k is left without punctuation" in caplog.text


@pytest.fixture(autouse=True)
def no_left_over_trace() -> Iterator[None]:
    yield
    assert not tracemalloc.is_tracing()

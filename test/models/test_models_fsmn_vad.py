"""Voice activity detection against scores, segments and streams recorded from released FunASR 1.4.16.

Scores agree within 1e-4, segments exactly.  Where the reference loses a segment, keeps an option of an earlier call or
dies on audio without a frame (`leak/*`, `error/*`, `two_final_empty`, `two_c10`), the right behaviour is asserted.
"""

from __future__ import annotations

import copy
import json
import pickle
import threading
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from funasr.audio.resample import resample
from funasr.auto.model_dir import read_model_dir
from funasr.models.build import build, build_model
from funasr.models.fsmn_vad.dynamic import DynamicStreamingVAD
from funasr.models.fsmn_vad.frames import frame_levels
from funasr.models.fsmn_vad.model import FsmnVADStreaming
from funasr.models.fsmn_vad.options import VADOptions
from funasr.models.fsmn_vad.segmenter import Segmenter
from funasr.utils.config import read_yaml
from funasr.utils.errors import ConfigError
from funasr.utils.weights import load_into, load_weights

PARITY = Path(__file__).parents[1] / "parity"
MODELS = ("FsmnVADStreaming", "FsmnVADStreaming-long", "FsmnVADStreaming-rorder")
# Given to AutoModel(...) they count as given to each call; other options go to the model's constructor.
CALL_OPTIONS = ("max_end_silence_time", "speech_noise_thres", "dynamic_silence", "silence_schedule", "chunk_size")
HEARD_TWO = {"FsmnVADStreaming": [[290, 3320], [4130, 6150]], "FsmnVADStreaming-long": [[280, 3340], [4130, 6150]]}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Chunks of a few frames are too little work for two threads to share, and they would wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@cache
def loaded(name: str) -> tuple[FsmnVADStreaming, Any]:
    directory = read_model_dir(PARITY / name / "model")
    parts = build(directory.config, strict=False)
    assert not load_into(parts.model, load_weights(directory.weights)).missing
    return parts.model.eval(), parts.frontend  # type: ignore[return-value]


def load(name: str, init: dict[str, Any] | None = None) -> tuple[FsmnVADStreaming, Any]:
    model, frontend = loaded(name)
    conf = read_yaml(PARITY / name / "model" / "config.yaml")["model_conf"]
    used = {k: v for k, v in {**conf, **(init or {})}.items() if k not in FsmnVADStreaming.training_only_options}
    return FsmnVADStreaming(model.encoder, **used).eval(), frontend


@cache
def wave(name: str, audio: str) -> np.ndarray:
    """Recorded with `audio` (the same recordings in all directories, but each with noise of its own), kept as FLAC."""
    return soundfile.read((PARITY / name / "audio" / audio).with_suffix(".flac"), dtype="float32")[0]


@cache
def recorded(name: str) -> dict[str, dict[str, Any]]:
    cases = json.loads((PARITY / name / "expected" / "expected.json").read_text())["cases"]
    return {case["name"]: case for case in cases}


@cache
def arrays(name: str) -> dict[str, np.ndarray]:
    with np.load(PARITY / name / "expected" / "tensors.npz") as stored:
        return dict(stored)


def cases(prefix: str) -> list[Any]:
    return [
        pytest.param(model, case, id=f"{model}-{case['name']}")
        for model in MODELS
        for name, case in recorded(model).items()
        if name.startswith(prefix)
    ]


def segments(vad: tuple[FsmnVADStreaming, Any], samples: Any, **options: Any) -> list[list[int]]:
    (result,), _ = vad[0].inference([samples], key=["k"], frontend=vad[1], **options)
    assert result["key"] == "k"
    return result["value"]


def pieces(samples: np.ndarray, size: int) -> list[np.ndarray]:
    return [samples[i : i + size] for i in range(0, len(samples), size)]


def run_stream(vad: tuple[FsmnVADStreaming, Any], parts: list[np.ndarray], **options: Any) -> list[list[list[int]]]:
    state: dict[str, Any] = {}
    events = [segments(vad, x, cache=state, is_final=i == len(parts) - 1, **options) for i, x in enumerate(parts)]
    assert state == {}, "a finished stream leaves a fresh cache"
    return events


def features(name: str, audio: str) -> tuple[torch.Tensor, torch.Tensor]:
    samples = torch.from_numpy(wave(name, audio))[None]
    return loaded(name)[1](samples, torch.tensor([samples.size(1)]), cache={}, is_final=True)


@pytest.mark.parametrize("name, case", cases("scores/"))
def test_scores_and_levels_equal_the_recording(name: str, case: dict[str, Any]) -> None:
    model, _ = loaded(name)
    wanted = {k: arrays(name)[v] for k, v in case["arrays"].items()}
    feats, lengths = features(name, case["input"])
    with torch.no_grad():
        scores = model.encoder(feats, lengths)[0][0].numpy()
    assert scores.shape == (case["frames"], case["outputs"])
    silence = scores[:, list(model.options.sil_pdf_ids)].sum(1)
    np.testing.assert_allclose(feats[0, :6].numpy(), wanted["feats_head"], atol=2e-3)
    np.testing.assert_allclose(scores[:40], wanted["head"], atol=1e-4)
    np.testing.assert_allclose(silence, wanted["psil"], atol=1e-4)
    levels = frame_levels(torch.from_numpy(wave(name, case["input"])), 400, 160)
    np.testing.assert_allclose(levels, wanted["decibel"], atol=1e-4)


@pytest.mark.parametrize("name, case", cases("chunkscores/"))
def test_scores_of_chunks_equal_the_recording(name: str, case: dict[str, Any]) -> None:
    model, _ = loaded(name)
    feats, _ = features(name, case["input"])
    state: dict[str, torch.Tensor] = {}
    with torch.no_grad():
        blocks = feats[:, : sum(case["blocks"])].split(case["blocks"], dim=1)
        scores = torch.cat([model.encoder.forward_chunk(block, state) for block in blocks], 1)[0]
    silence = scores[:, list(model.options.sil_pdf_ids)].sum(1)
    np.testing.assert_allclose(silence.numpy(), arrays(name)[case["arrays"]["psil"]], atol=1e-4)
    assert sorted(state) == case["cache_keys"]
    np.testing.assert_allclose(state["cache_layer_0"].numpy(), arrays(name)[case["arrays"]["cache0"]], atol=1e-4)


@pytest.mark.parametrize("name, case", cases("offline/"))
def test_recorded_segments(name: str, case: dict[str, Any]) -> None:
    given = case["init"]
    vad = load(name, {k: v for k, v in given.items() if k not in CALL_OPTIONS})
    options = {k: v for k, v in {**given, **case["kwargs"]}.items() if k in CALL_OPTIONS}
    samples = wave(name, "two.wav" if case["name"] == "offline/list_two_files" else case["input"])
    if case["name"] == "offline/fs8000_numpy":
        samples = resample(samples[::2], 8000, 16000)
    assert segments(vad, samples, **options) == case["value"]


@pytest.mark.parametrize("name, case", cases("stream/"))
def test_recorded_streams(name: str, case: dict[str, Any]) -> None:
    vad = load(name, case.get("init"))
    parts = pieces(wave(name, case["input"]), case["feed"])
    if case.get("final_empty"):
        parts.append(np.zeros(0, np.float32))
    options = {"chunk_size": case["chunk_size"], **case["kwargs"]}
    events = run_stream(vad, parts, **options)
    if "values" in case:  # a second stream with the same dict
        assert events * 2 == case["values"]
        return
    found = [[i, event] for i, event in enumerate(events) if event]
    if "error" in case:  # the first chunks hold no frame: the reference dies, here nothing is found in them
        told = [time for _, event in found for times in event for time in times if time >= 0]
        whole = segments(load(name), wave(name, case["input"]), **case["kwargs"])
        assert told == [t for times in HEARD_TWO[name] for t in times] if name in HEARD_TWO else len(told) == 4
        assert len(whole) == 2
    elif case.get("final_empty"):  # the reference never closes the last segment
        *before, (last, [[begin, end]]) = found
        assert before == case["nonempty"] and last == len(parts) - 1 and begin == -1
        assert end == segments(load(name), wave(name, case["input"]), **case["kwargs"])[-1][1]
    else:
        assert found == case["nonempty"] and len(events) == case["n_calls"]


@pytest.mark.parametrize("name", MODELS)
def test_several_recordings_and_no_option_that_leaks(name: str) -> None:
    """`leak/*`: the reference keeps max_end_silence_time of one call for the next."""
    vad = load(name)
    wanted = recorded(name)["multi/list"]
    waves = [wave(name, audio) for audio in wanted["input"]]
    keys = [Path(audio).stem for audio in wanted["input"]]
    results, _ = vad[0].inference(waves, key=keys, frontend=vad[1], **wanted["kwargs"])
    assert results == wanted["value"]
    leak = recorded(name)["leak/max_end_silence_time"]
    assert segments(vad, wave(name, "main.wav"), dynamic_silence=False) == leak["call1"]
    assert segments(vad, wave(name, "main.wav"), max_end_silence_time=100) == leak["call2_maxend100"]
    assert segments(vad, wave(name, "main.wav"), dynamic_silence=False) == leak["call1"]


@pytest.mark.parametrize("name", MODELS)
def test_dynamic_streaming_vad(name: str) -> None:
    model, frontend = load(name)
    vad = DynamicStreamingVAD(SimpleNamespace(model=model, frontend=frontend))
    case = recorded(name)["dynamic_class/process"]
    assert vad.process(wave(name, case["input"])) == case["value"]
    live = [found for part in pieces(wave(name, case["input"]), 1111) for found in vad.feed(part)] + vad.finalize()
    assert live == case["value"]


def test_audio_without_speech_or_without_a_frame() -> None:
    vad = load("FsmnVADStreaming")
    for samples in (np.zeros(0), np.zeros(160), np.zeros(16000), np.full(8000, np.nan)):
        assert segments(vad, samples.astype(np.float32)) == []
    assert vad[0].inference([], frontend=vad[1])[0] == []
    two = wave("FsmnVADStreaming", "two.wav")
    wanted = segments(vad, two)
    assert segments(vad, two.astype(np.float64)) == segments(vad, torch.from_numpy(two)) == wanted
    assert segments(vad, np.round(two * 32768).astype(np.int16)) == wanted  # the reference does not scale integers


def test_wrong_calls_are_refused_by_name() -> None:
    model, frontend = load("FsmnVADStreaming")
    two = wave("FsmnVADStreaming", "two.wav")
    with pytest.raises(ConfigError, match="WavFrontendOnline"):
        model.inference([two])
    with pytest.raises(ConfigError, match="cache"):
        model.inference([two], frontend=frontend, is_final=False)
    with pytest.raises(ConfigError, match="one input"):
        model.inference([two, two], frontend=frontend, cache={})
    with pytest.raises(ConfigError, match="chunk_size"):
        model.inference([two], frontend=frontend, chunk_size=0)
    with pytest.raises(ConfigError, match="silence_schedule"):
        model.inference([two], frontend=frontend, silence_schedule=[[1000, 200], [500, 100]])
    with pytest.raises(ValueError, match=r"\(samples,\)"):
        model.inference([np.stack([two, two])], frontend=frontend)
    with pytest.raises(ConfigError, match="frame_in_ms 20"):
        FsmnVADStreaming(model.encoder, frame_in_ms=20).inference([two], frontend=frontend)
    for bad in ({"sil_pdf_ids": (0, 1)}, {"detect_mode": 2}, {"window_size_ms": 5}, {"sil_pdf_ids": (999,)}):
        with pytest.raises(ConfigError, match="|".join(bad)):
            FsmnVADStreaming(model.encoder, **bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["FsmnVADStreaming", "FsmnVADStreaming-rorder"])
@pytest.mark.parametrize("options", [{}, {"max_end_silence_time": 500}])
def test_a_stream_gives_the_same_however_it_is_cut(name: str, options: dict[str, Any]) -> None:
    vad = load(name, {"snr_thres": 10.0})  # so that levels and the noise level matter
    samples = wave(name, "two.wav")
    streams = []
    for seed in range(3):
        cuts = np.sort(np.random.default_rng(seed).integers(0, len(samples), 12 * seed))
        events = run_stream(vad, np.split(samples, cuts), chunk_size=200, **options)
        streams.append([event for call in events for event in call])
    assert streams[0] and streams[0] == streams[1] == streams[2]


def test_stream_of_chunks_equals_the_whole_recording_in_constant_memory() -> None:
    vad = load("FsmnVADStreaming-long")
    samples = wave("FsmnVADStreaming-long", "long.flac")
    for options in ({}, {"max_end_silence_time": 500, "chunk_size": 4000}):
        chunks = iter(pieces(samples, 7000))
        assert list(vad[0].stream(chunks, vad[1], **options)) == segments(vad, samples, **options)

    state: dict[str, Any] = {}
    sizes = []
    for part in pieces(np.tile(samples, 2), 16000):
        segments(vad, part, cache=state, chunk_size=1000, is_final=False)
        sizes.append(len(pickle.dumps(state)))
    assert max(sizes[60:-1]) <= max(sizes[2:60]) + 100  # larger integers


def test_sessions_and_threads_share_one_model() -> None:
    vad = load("FsmnVADStreaming")
    parts = {name: pieces(wave("FsmnVADStreaming", name), 9600) for name in ("two.wav", "sil.wav")}
    wanted = {name: run_stream(vad, parts[name], chunk_size=200) for name in parts}
    found: dict[int, Any] = {}
    names = ["two.wav", "sil.wav", "two.wav"]

    def work(i: int) -> None:
        found[i] = run_stream(vad, parts[names[i]], chunk_size=200)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(3)] == [wanted[name] for name in names]
    state: dict[str, Any] = {}  # a copied cache is a stream of its own
    segments(vad, parts["two.wav"][0], cache=state, chunk_size=200)
    twin = copy.deepcopy(state)
    rest = np.concatenate(parts["two.wav"][1:])
    first = segments(vad, rest, cache=state, chunk_size=200, is_final=True)
    assert first == segments(vad, rest, cache=twin, chunk_size=200, is_final=True)


def machine_frame_by_frame(options: VADOptions, speech: list[bool], end_silence_ms: float) -> list[tuple[int, int]]:
    """The definition of the segment machine, frame by frame."""
    o, frame_ms = options, options.frame_in_ms
    state, start, silence, floor, speaking = "wait", 0, 0, 0, False
    ring: list[bool] = []
    found: list[tuple[int, int]] = []
    for t, now in enumerate(speech):
        if state == "end":
            break
        ring = [*ring, now][-o.window_frames :]
        end = None
        before, votes = speaking, sum(ring)
        if not speaking and votes >= o.frames(o.sil_to_speech_time_thres):
            speaking = True
        elif speaking and votes <= o.frames(o.speech_to_sil_time_thres):
            speaking = False
        if speaking or before:
            silence = 0
            if state == "in":
                end = t if t - start + 1 > o.limit_frames else None
            elif speaking:
                start, state = max(floor, t - o.lookback_frames), "in"
        else:
            silence += 1
            if state == "wait":
                if o.detect_mode == 0 and silence * frame_ms > o.max_start_silence_time:
                    state = "end"
                elif t >= o.lookback_frames:
                    floor = max(floor, t - o.lookback_frames)
            elif silence * frame_ms >= end_silence_ms:
                back = int(end_silence_ms / frame_ms)
                back -= o.frames(o.lookahead_time_end_point) + 1 if o.do_extend else 0
                end = t - max(back, 0)
            elif t - start + 1 > o.limit_frames:
                end = t
        if end is not None:
            found.append((start, end + 1))
            floor, silence, speaking, ring = end + 1, 0, False, []
            state = "wait" if o.detect_mode == 1 else "end"
    if state == "in":
        found.append((start, len(speech)))
    return found


def test_the_machine_that_jumps_equals_the_one_that_walks() -> None:
    """Random decisions, options and cuts."""
    found = 0
    for seed in range(300):
        rng = np.random.default_rng(seed)
        runs = [np.full(rng.integers(1, 60), rng.random() < 0.5) for _ in range(40)]
        speech = np.concatenate(runs) ^ (np.random.default_rng(seed).random(sum(map(len, runs))) < 0.1)
        model_conf = {
            "detect_mode": int(rng.random() < 0.8),
            "max_start_silence_time": float(rng.choice([200, 3000])),
            "window_size_ms": float(rng.choice([10, 100, 205])),
            "sil_to_speech_time_thres": float(rng.choice([10, 60, 150])),
            "speech_to_sil_time_thres": float(rng.choice([0, 50, 150])),
            "do_extend": int(rng.random() < 0.7),
            "lookback_time_start_point": float(rng.choice([0, 200])),
            "lookahead_time_end_point": float(rng.choice([0, 100, 300])),
            "max_single_segment_time": float(rng.choice([50, 1505, 60000])),
        }
        options = FsmnVADStreaming(loaded("FsmnVADStreaming")[0].encoder, **model_conf).options  # type: ignore[arg-type]
        end_silence_ms = float(rng.choice([-50, 0, 55, 350]))
        wanted = machine_frame_by_frame(options, speech.tolist(), end_silence_ms)
        cuts = np.sort(rng.integers(0, len(speech), rng.integers(0, 40)))
        segmenter = Segmenter(options)
        parts = np.split(speech, cuts)
        closed = [s for i, x in enumerate(parts) for s in segmenter.push(x, end_silence_ms, i == len(parts) - 1)]
        assert closed == wanted, (seed, model_conf, end_silence_ms)
        found += len(closed)
    assert found > 1000


def test_state_dict_has_the_keys_of_the_official_model() -> None:
    config = read_yaml(PARITY / "FsmnVADStreaming" / "model" / "config.yaml")
    config["encoder_conf"] |= {"input_affine_dim": 140, "linear_dim": 250, "proj_dim": 128, "output_affine_dim": 140}
    with torch.device("meta"):
        model = build_model(config, None, None, strict=False)
    actual = {key: str(list(value.shape)) for key, value in model.state_dict().items()}
    lines = (PARITY / "official_keys" / "fsmn-vad.txt").read_text().splitlines()
    official = {line.split()[0]: line[line.index("[") : line.index("]") + 1] for line in lines if line[0] != "#"}
    assert actual == official


def test_training_loss_counts_labelled_frames_only() -> None:
    model, _ = load("FsmnVADStreaming-rorder")
    torch.manual_seed(0)
    feats, lengths = torch.randn(2, 30, 120), torch.tensor([30, 20])
    labels = torch.randint(0, 9, (2, 32))
    loss, stats, weight = model(feats, lengths, labels, torch.tensor([29, 32]))
    assert int(weight) == 29 + 20 and 0.0 <= float(stats["acc"]) <= float(stats["acc_speech"]) <= 1.0
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    junk = labels.clone()
    junk[1, 20:] = -1
    assert torch.equal(model(feats, lengths, junk, torch.tensor([29, 32]))[0], loss)
    model.zero_grad()


def test_padding_stays_out_of_a_batch() -> None:
    model, _ = load("FsmnVADStreaming-rorder")
    feats = torch.randn(2, 40, 120)
    with torch.no_grad():
        together = model.encoder(feats, torch.tensor([40, 25]), isolate=True)[0]
        alone = model.encoder(feats[1:, :25], torch.tensor([25]))[0]
    torch.testing.assert_close(together[1, :25], alone[0], atol=1e-6, rtol=1e-5)


def test_bfloat16_weights_find_nearly_the_same() -> None:
    model, frontend = load("FsmnVADStreaming")
    half = copy.deepcopy(model).bfloat16()
    wanted = np.array(segments((model, frontend), wave("FsmnVADStreaming", "two.wav")))
    found = np.array(segments((half, frontend), wave("FsmnVADStreaming", "two.wav")))
    assert found.shape == wanted.shape and abs(found - wanted).max() <= 30

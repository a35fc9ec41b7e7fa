"""Silero VAD: the package's network and rule, heard in pieces, without state in the model and without side effects.

The package is simulated by a file with the same functions, so these tests are the same with and without it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from funasr import AutoModel
from funasr.auto.hub import find_model
from funasr.utils.errors import ConfigError, DamagedUtteranceError

PACKAGE = '''
import torch

torch.set_num_threads(1)
loaded = []


class Network:
    """Loudness, with a memory of what it has heard."""

    def __init__(self):
        self.level = None

    def reset_states(self):
        self.level = 0.0

    def __call__(self, window, fs):
        assert window.shape == ({16000: 512, 8000: 256}[fs],) and window.dtype == torch.float32
        self.level = 0.5 * self.level + float(window.abs().mean())
        return torch.tensor([[min(1.0, 20 * self.level)]])


def load_silero_vad(onnx=False):
    if onnx:
        import onnxruntime_that_is_not_there
    loaded.append(Network())
    return loaded[-1]


def get_speech_timestamps_from_probs(
    speech_probs, sampling_rate, threshold, neg_threshold, min_speech_duration_ms, max_speech_duration_s,
    min_silence_duration_ms, speech_pad_ms, audio_length_samples
):
    per_ms, size = sampling_rate // 1000, {16000: 512, 8000: 256}[sampling_rate]
    spans = []
    for i, probability in enumerate(speech_probs):
        if probability < threshold:
            continue
        begin, end = i * size, min((i + 1) * size, audio_length_samples)
        joins = spans and begin - spans[-1][1] <= min_silence_duration_ms * per_ms
        if joins and end - spans[-1][0] <= max_speech_duration_s * sampling_rate:
            spans[-1][1] = end
        else:
            spans.append([begin, end])
    pad = speech_pad_ms * per_ms
    return [{"start": max(0, a - pad), "end": min(audio_length_samples, b + pad)} for a, b in spans
            if b - a >= min_speech_duration_ms * per_ms]
'''


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The simulated package, the one that is imported."""
    file = tmp_path / "packages" / "silero_vad.py"
    file.parent.mkdir()
    file.write_text(PACKAGE)
    monkeypatch.syspath_prepend(file.parent)
    monkeypatch.delitem(sys.modules, "silero_vad", raising=False)
    yield file
    sys.modules.pop("silero_vad", None)


@pytest.fixture(scope="module")
def wave() -> np.ndarray:
    """Three bursts of noise, 8 s."""
    rng = np.random.default_rng(0)
    samples = 0.0001 * rng.standard_normal(8 * 16000)
    for begin, end in ((0.5, 2.0), (2.6, 4.0), (6.0, 7.9)):
        samples[int(begin * 16000) : int(end * 16000)] += 0.1 * rng.standard_normal(int((end - begin) * 16000) + 1)[:-1]
    return samples.astype(np.float32)


def test_segments_in_ms_whatever_the_pieces(wave: np.ndarray, tmp_path: Path) -> None:
    model = AutoModel(model="silero-vad", device="cpu")
    result = model.generate(wave, key="k")
    assert [span[0] // 100 for span in result[0]["value"]] == [4, 25, 59] and result[0]["key"] == "k"
    assert result[0]["value"][-1][1] <= 8000
    soundfile.write(tmp_path / "k.wav", wave, 16000, subtype="FLOAT")
    assert model.generate(str(tmp_path / "k.wav")) == model.generate(torch.from_numpy(wave), key="k") == result
    for size in (100, 513, 20000):
        pieces = [wave[start : start + size] for start in range(0, len(wave), size)]
        assert list(model.model.stream(pieces)) == result[0]["value"]
    assert model.generate([wave, wave[:16000]], batch_size=2)[0]["value"] == result[0]["value"]


def test_options(wave: np.ndarray) -> None:
    model = AutoModel(model="silero_vad", min_silence_duration_ms=1000)
    assert len(model.generate(wave)[0]["value"]) == 2
    assert len(model.generate(wave, min_silence_duration_ms=50)[0]["value"]) == 3
    assert len(model.generate(wave, min_speech_duration_ms=1600)[0]["value"]) == 2
    assert len(model.generate(wave, max_speech_duration_s=1)[0]["value"]) > 3
    assert model.generate(wave, threshold=1.1)[0]["value"] == []
    padded, plain = (model.generate(wave, speech_pad_ms=pad)[0]["value"][0][0] for pad in (100, 0))
    assert padded == plain - 100


def test_half_rate(wave: np.ndarray) -> None:
    model = AutoModel(model="silero-vad", sample_rate=8000)
    assert model.fs == 8000
    assert [span[0] // 100 for span in model.generate(wave[::2])[0]["value"]] == [4, 25, 59]
    with pytest.raises(ConfigError, match="16000 or 8000"):
        AutoModel(model="silero-vad", sample_rate=44100)


def test_threads_share_one_model(wave: np.ndarray) -> None:
    model = AutoModel(model="silero-vad")
    expected = model.generate(wave)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: model.generate(wave), range(8))) == [expected] * 8
    (network,) = sys.modules["silero_vad"].loaded
    assert network.level is None  # a copy of it has heard the audio


@pytest.mark.parametrize("count", [0, 1, 160, 512, 513])
def test_short_audio(count: int) -> None:
    assert AutoModel(model="silero-vad").generate(np.zeros(count, np.float32), key="k") == [{"key": "k", "value": []}]


def test_the_number_of_threads_stays(wave: np.ndarray) -> None:
    torch.set_num_threads(2)
    AutoModel(model="silero-vad").generate(wave)
    assert torch.get_num_threads() == 2


def test_in_a_pipeline(parity: Path, tmp_path: Path) -> None:
    """It answers at the end: the recording is read again and cut; a damaged one is reported."""
    models = {"model": parity / "Pipeline-bicif" / "asr", "punc_model": parity / "CTTransformer" / "model"}
    pipeline = AutoModel(device="cpu", vad_model="silero-vad", vad_kwargs={"threshold": 0.3}, **models)
    long = parity / "Pipeline-bicif" / "audio" / "long.flac"
    broken = tmp_path / "broken.flac"
    broken.write_bytes(long.read_bytes()[:300_000])
    expected = pipeline.generate(str(long))
    assert len(expected[0]["timestamp"]) > 20
    found = pipeline.generate([str(long), str(broken), long.read_bytes()])
    assert found[0] == expected[0] and "broken" in found[1]["error"]
    assert found[2] == {**expected[0], "key": found[2]["key"]}
    spans = AutoModel(model="silero-vad", threshold=0.3).generate(str(long))[0]["value"]
    inside = [any(a <= start and end <= b for a, b in spans) for start, end in expected[0]["timestamp"]]
    assert all(inside)
    merged = pipeline.generate(str(long), merge_vad=True)[0]
    assert merged["timestamp"] and merged["timestamp"] == sorted(merged["timestamp"])
    with pytest.raises(DamagedUtteranceError, match="broken"):
        pipeline.generate(str(broken))


def test_what_is_missing_is_named(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="pip install onnxruntime"):
        AutoModel(model="silero-vad", onnx=True)
    package.write_text(PACKAGE.replace("def get_speech_timestamps_from_probs", "def get_speech_timestamps"))
    sys.modules.pop("silero_vad")
    with pytest.raises(ConfigError, match=r"6\.2\.3 or later .*funasr\[silero\]"):
        AutoModel(model="silero-vad")
    monkeypatch.setitem(sys.modules, "silero_vad", None)
    with pytest.raises(ConfigError, match=r"needs the package silero-vad.*pip install 'funasr\[silero\]'"):
        AutoModel(model="silero-vad")
    with pytest.raises(ConfigError, match="comes with a Python package"):
        find_model("silero-vad")

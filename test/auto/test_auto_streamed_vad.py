"""A detector alone hears a file in pieces: the segments of the whole, in memory that does not grow with the file."""

from __future__ import annotations

import io
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from funasr import AutoModel
from funasr.utils.errors import DamagedUtteranceError

PARITY = Path(__file__).parents[1] / "parity"
LONG = PARITY / "Pipeline-bicif" / "audio" / "long.flac"


@pytest.fixture(scope="module")
def vad() -> AutoModel:
    return AutoModel(model=PARITY / "FsmnVADStreaming" / "model", device="cpu")


@pytest.mark.parametrize(
    "options", [{}, {"max_end_silence_time": 300}, {"chunk_size": 5000}, {"dynamic_silence": False}], ids=str
)
def test_segments_are_those_of_the_whole(vad: AutoModel, options: dict[str, Any]) -> None:
    wave = soundfile.read(LONG, dtype="float32")[0]
    whole = vad.recognise_batch([wave], None, ["long"], options)
    assert vad.generate(str(LONG), **options) == whole and len(whole[0]["value"]) > 1
    for form in (LONG, LONG.read_bytes(), io.BytesIO(LONG.read_bytes()), wave, [wave]):
        assert vad.generate(form, key="long", **options) == whole


def test_the_file_is_not_read_as_a_whole(vad: AutoModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Not even if it has another rate; what is in memory at once stays the same when there is more to hear."""
    wave = soundfile.read(LONG, dtype="float32")[0]
    peaks, segments = [], []
    for times in (4, 16):
        path = tmp_path / f"{times}.wav"
        with soundfile.SoundFile(path, "w", 8000, 1, subtype="PCM_16") as file:
            for _ in range(times):
                file.write(wave[::2])
        monkeypatch.setattr("funasr.auto.inputs.read_audio", None)
        tracemalloc.start()
        segments.append(vad.generate(str(path))[0]["value"])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert len(segments[1]) > 2 * len(segments[0])
    assert peaks[1] < peaks[0] + 2e6, peaks  # the longer file alone is 20 MB more


def test_a_list_with_a_damaged_file(vad: AutoModel, tmp_path: Path) -> None:
    broken = tmp_path / "broken.flac"
    broken.write_bytes(LONG.read_bytes()[:300_000])
    results = vad.generate([str(LONG), str(broken), str(LONG)], batch_size=3)
    assert results[0] == results[2] and results[0]["value"]
    assert "truncated" in results[1]["error"] or "broken" in results[1]["error"]
    with pytest.raises(DamagedUtteranceError, match="broken"):
        vad.generate(str(broken))


def test_events_of_a_stream_are_given_as_before(vad: AutoModel) -> None:
    """What only `inference` does: a stream with a cache, and the answers of a stream for a whole file."""
    events = vad.generate(str(LONG), is_streaming_input=True, chunk_size=600)[0]["value"]
    assert any(end < 0 for _, end in events) and any(start < 0 for start, _ in events)
    cache: dict[str, Any] = {}
    assert vad.generate(np.zeros(1600, np.float32), cache=cache, is_final=False, chunk_size=100)[0]["value"] == []
    assert cache

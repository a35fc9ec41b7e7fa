"""Bad input: one clear error or a correct empty result, and no neighbour is lost; for a model alone and a pipeline."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from funasr import AutoModel
from funasr.utils.errors import ConfigError, DamagedUtteranceError

PARITY = Path(__file__).parents[1] / "parity"
AUDIO = PARITY / "Pipeline-bicif" / "audio"
SHORT = str(AUDIO / "short.wav")
RECOGNISER = PARITY / "Pipeline-bicif" / "asr"
DETECTOR = PARITY / "FsmnVADStreaming" / "model"
SUB_MODELS = {
    "vad_model": DETECTOR,
    "punc_model": PARITY / "CTTransformer" / "model",
    "spk_model": PARITY / "CAMPPlus" / "model",
}


@pytest.fixture(scope="module", params=["alone", "pipeline", "detector"])
def model(request: pytest.FixtureRequest) -> AutoModel:
    if request.param == "detector":
        return AutoModel(model=DETECTOR, device="cpu")
    return AutoModel(model=RECOGNISER, device="cpu", **(SUB_MODELS if request.param == "pipeline" else {}))


def content(result: dict[str, Any]) -> Any:
    return result["text"] if "text" in result else result["value"]


def unreadable(folder: Path) -> dict[str, str]:
    """Files that are not what their name says, with words that the error has."""
    (folder / "text.wav").write_text("this is not audio")
    (folder / "nothing.wav").write_bytes(b"")
    soundfile.write(folder / "no_samples.wav", np.zeros(0, np.float32), 16000)
    soundfile.write(folder / "nan.wav", np.full(16000, np.nan, np.float32), 16000, subtype="FLOAT")
    whole = Path(SHORT).read_bytes()
    (folder / "half.wav").write_bytes(whole[: len(whole) // 2])
    (folder / "folder.wav").mkdir()
    return {
        "text.wav": "is not audio", "nothing.wav": "is empty", "no_samples.wav": "has no samples",
        "nan.wav": "not finite", "half.wav": "truncated", "folder.wav": "is a directory",
        "absent.wav": "does not exist",
    }  # fmt: skip


def test_each_bad_file_of_a_list_is_named_and_the_others_are_done(model: AutoModel, tmp_path: Path) -> None:
    wrong = unreadable(tmp_path)
    inputs = [item for name in wrong for item in (str(tmp_path / name), SHORT)]
    expected = content(model.generate(SHORT)[0])
    assert expected
    for batch_size in (1, 5):
        results = model.generate(inputs, batch_size=batch_size)
        assert [result["key"] for result in results] == [Path(item).stem for item in inputs]
        for (name, words), bad, good in zip(wrong.items(), results[::2], results[1::2]):
            assert name in bad["error"] and words in bad["error"] and bad["text"] == ""
            assert content(good) == expected and "error" not in good


def test_one_bad_file_alone_is_one_error(model: AutoModel, tmp_path: Path) -> None:
    for name, words in unreadable(tmp_path).items():
        with pytest.raises(DamagedUtteranceError, match=words) as raised:
            model.generate(str(tmp_path / name))
        assert name in str(raised.value) and "\n" not in str(raised.value)


def test_what_the_system_does_not_let_be_read(model: AutoModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a file without permission; root may read everything, so the refusal is simulated."""
    real = Path.open

    def refused(path: Path, *args: Any, **kwargs: Any) -> Any:
        if path.name == "stereo44.wav":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refused)
    bad, good = model.generate([str(AUDIO / "stereo44.wav"), SHORT])
    assert "Permission denied" in bad["error"] and "stereo44.wav" in bad["error"] and content(good)
    with pytest.raises(PermissionError, match="stereo44"):
        model.generate(str(AUDIO / "stereo44.wav"))


@pytest.mark.parametrize("count", [0, 1, 160, 399, 401])
def test_next_to_no_audio(model: AutoModel, count: int) -> None:
    """160 samples are 10 ms."""
    (result,) = model.generate(np.zeros(count, np.float32), key="k")
    assert result["key"] == "k" and len(content(result)) <= 1
    first, tiny, last = model.generate([SHORT, np.zeros(count, np.float32), SHORT], batch_size=3)
    assert content(first) == content(last) == content(model.generate(SHORT)[0]) and "error" not in tiny


def test_pure_silence(model: AutoModel, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "zero.wav", np.zeros(5 * 16000, np.float32), 16000)
    zero, good = model.generate([str(tmp_path / "zero.wav"), SHORT], batch_size=2)
    assert zero["key"] == "zero" and "error" not in zero
    if hasattr(model.model, "stream") or model.engines.vad is not None:
        assert not content(zero)
    assert content(good) == content(model.generate(SHORT)[0])


@pytest.mark.parametrize("rate", [8000, 16000, 44100])
def test_eight_channels_of_any_rate(model: AutoModel, rate: int, tmp_path: Path) -> None:
    wave = soundfile.read(SHORT, dtype="float32")[0]
    spread = np.repeat(wave[:, None], 8, axis=1)
    soundfile.write(tmp_path / "eight.wav", spread, rate, subtype="PCM_16")
    result = model.generate(str(tmp_path / "eight.wav"))[0]
    assert "error" not in result
    if rate == 16000:
        assert content(result) == content(model.generate(SHORT)[0]) == content(model.generate(spread)[0])


@pytest.mark.parametrize("fs", [0, -16000, 16, 16000.5, "16k", 10**9])
def test_a_sample_rate_that_cannot_be(model: AutoModel, fs: Any) -> None:
    with pytest.raises(ValueError, match="fs is the sample rate"):
        model.generate(np.zeros(16000, np.float32), fs=fs)


def test_the_wrong_sample_rate_changes_the_answer_and_nothing_else(model: AutoModel) -> None:
    wave = soundfile.read(SHORT, dtype="float32")[0]
    assert "error" not in model.generate(wave, fs=48000)[0]
    assert model.generate(wave, fs=16000)[0] == model.generate(wave)[0]


def test_what_is_no_audio_at_all(model: AutoModel) -> None:
    for item in (None, 3.5, {"a": 1}, np.zeros((3, 20, 20)), np.array([np.inf] * 1600), b"", object()):
        with pytest.raises(DamagedUtteranceError):
            model.generate(item)
        bad, good = model.generate([item, SHORT])
        assert bad["error"] and content(good)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A copy of a recogniser's directory that a test may damage."""
    return Path(shutil.copytree(RECOGNISER, tmp_path / "model"))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def unregistered(directory: Path) -> None:
    edit(directory / "config.yaml", "model: BiCifParaformer", "model: BiCifParaformr")


def unregistered_part(directory: Path) -> None:
    edit(directory / "config.yaml", "frontend: WavFrontend", "frontend: WaveFrontend")


def climbing(directory: Path) -> None:
    edit(directory / "configuration.json", '"model.pt"', '"../secret.pt"')


def absolute(directory: Path) -> None:
    edit(directory / "configuration.json", '"model.pt"', '"/etc/hostname"')


def incomplete(directory: Path) -> None:
    weights = torch.load(directory / "model.pt", weights_only=True)
    weights = weights.get("state_dict", weights)
    torch.save({k: v for k, v in weights.items() if k != "encoder.after_norm.bias"}, directory / "model.pt")


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch executed",))


def code_in_a_pickle(directory: Path) -> None:
    torch.save({"state_dict": Evil()}, directory / "model.pt")


def broken_json(directory: Path) -> None:
    (directory / "configuration.json").write_text("{")


def broken_yaml(directory: Path) -> None:
    (directory / "config.yaml").write_text("model: [unclosed")


WRONG_DIRECTORIES = {
    unregistered: "BiCifParaformr.*BiCifParaformer",
    unregistered_part: "WaveFrontend.*WavFrontend",
    climbing: r"configuration\.json.*\.\./secret\.pt.*outside",
    absolute: r"configuration\.json.*/etc/hostname.*outside",
    incomplete: r"model\.pt.*encoder\.after_norm\.bias",
    code_in_a_pickle: r"model\.pt is refused.*could run code",
    broken_json: r"configuration\.json",
    broken_yaml: r"config\.yaml",
}


@pytest.mark.parametrize("role", ["model", "vad_model"])
@pytest.mark.parametrize("damage", WRONG_DIRECTORIES, ids=lambda damage: damage.__name__)
def test_wrong_model_directories(
    damage: Any, role: str, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damage(directory)
    monkeypatch.chdir(tmp_path)
    models = {"model": RECOGNISER, role: directory}
    with pytest.raises((ConfigError, LookupError), match=WRONG_DIRECTORIES[damage]):
        AutoModel(device="cpu", **models)
    assert not (tmp_path / "executed").exists()


def test_a_hub_that_is_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="offline is set"):
        AutoModel(model=RECOGNISER, vad_model="fsmn-vad", offline=True)


def test_files_of_a_hubs_cache_are_links(directory: Path, tmp_path: Path) -> None:
    """To files without a name of their own, outside of the model directory; code and folders too."""
    expected = AutoModel(model=directory, device="cpu").generate(SHORT)
    (directory / "model.py").write_text("LOADED = True\n")
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "0123"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(directory.iterdir())):
        shutil.copy(file, blobs / f"{number:040x}")
        (snapshot / file.name).symlink_to(f"../../blobs/{number:040x}")
    model = AutoModel(model=snapshot, device="cpu", trust_remote_code=True, remote_code="model.py")
    assert model.generate(SHORT) == expected
    (snapshot / "configuration.json").unlink()
    assert AutoModel(model=snapshot, device="cpu").generate(SHORT) == expected


@pytest.fixture
def site() -> Iterator[str]:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(AUDIO))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_file_at_an_address_that_is_too_large(model: AutoModel, site: str) -> None:
    url = f"{site}/short.wav"
    expected = model.generate(SHORT)
    assert model.generate(url, max_download_mb=1) == model.generate(url) == expected
    with pytest.raises(DamagedUtteranceError, match="larger than the limit"):
        model.generate(url, max_download_mb=0.05)
    small = AutoModel(model=DETECTOR, device="cpu", max_download_mb=0.05)
    assert "larger" in small.generate([url, SHORT])[0]["error"]
    assert small.generate(url, max_download_mb=1)[0]["value"]
    with pytest.raises(ValueError, match="max_download_mb"):
        small.generate(url, max_download_mb=0)


def test_lists_that_are_wrong(model: AutoModel, tmp_path: Path) -> None:
    scp, jsonl = tmp_path / "wav.scp", tmp_path / "list.jsonl"
    scp.write_text(f"a {SHORT}\n\na {SHORT}\n")
    with pytest.raises(ValueError, match=r"wav\.scp:3: id 'a' was given before"):
        model.generate(str(scp))
    jsonl.write_text(json.dumps({"source": SHORT}) + '\n{"key": 1}\n')
    with pytest.raises(ValueError, match=r"list\.jsonl:2"):
        model.generate(str(jsonl))
    with pytest.raises(FileNotFoundError, match="absent"):
        model.generate(str(tmp_path / "absent.scp"))
    assert model.generate([]) == []
    with pytest.raises(ValueError, match="2 keys were given for 1"):
        model.generate(SHORT, key=["a", "b"])

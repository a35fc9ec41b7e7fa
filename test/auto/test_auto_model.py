"""AutoModel: inputs of every kind give one answer; what is wrong gets one clear error; nothing is remembered."""

from __future__ import annotations

import io
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from funasr import AutoModel
from funasr.utils.errors import ConfigError, DamagedUtteranceError


@pytest.fixture(scope="module")
def wav() -> Path:
    return Path(__file__).parents[1] / "parity" / "_wavs" / "b.wav"


@pytest.fixture(scope="module")
def model() -> AutoModel:
    return AutoModel(model=Path(__file__).parents[1] / "parity" / "Paraformer", device="cpu")


@pytest.fixture
def directory(parity: Path, tmp_path: Path) -> Path:
    """A copy of a model directory that a test may damage."""
    return Path(shutil.copytree(parity / "Paraformer", tmp_path / "model"))


def test_every_input_form_gives_the_same_text(model: AutoModel, wav: Path, tmp_path: Path) -> None:
    samples, fs = soundfile.read(wav, dtype="float32")
    expected = model.generate(str(wav))[0]["text"]
    assert expected
    scp = tmp_path / "wav.scp"
    scp.write_text(f"b {wav}\n")
    jsonl = tmp_path / "list.jsonl"
    jsonl.write_text(json.dumps({"key": "b", "source": str(wav)}) + "\n")
    forms = [
        wav, wav.read_bytes(), io.BytesIO(wav.read_bytes()), samples, samples.astype(np.float64),
        torch.from_numpy(samples), (samples * 32768).astype(np.int16), np.stack([samples, samples]),
        np.stack([samples, samples], axis=1), str(scp), str(jsonl),
    ]  # fmt: skip
    assert [model.generate(form)[0]["text"] for form in forms] == [expected] * len(forms)
    assert fs == model.fs


def test_batch_equals_singles(model: AutoModel, parity: Path) -> None:
    inputs = [str(parity / "_wavs" / name) for name in ("a.wav", "c.wav", "b.wav", "s.wav")]
    alone = [model.generate(item)[0] for item in inputs]
    assert model.generate(inputs, batch_size=4) == alone


def test_nothing_is_remembered_between_calls(model: AutoModel, wav: Path) -> None:
    first = model.generate(wav)
    with_times = model.generate(wav, output_timestamp=True)
    assert "timestamp" in with_times[0]
    assert model.generate(wav) == first


def test_threads_share_one_model(model: AutoModel, parity: Path) -> None:
    inputs = [str(parity / "_wavs" / name) for name in ("a.wav", "b.wav", "c.wav")] * 3
    expected = [model.generate(item) for item in inputs]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(model.generate, inputs)) == expected


def test_inputs_are_not_changed(model: AutoModel, wav: Path) -> None:
    samples = soundfile.read(wav, dtype="float32")[0]
    kept = samples.copy()
    model.generate(samples)
    assert np.array_equal(samples, kept)


def test_other_sample_rate_is_resampled(model: AutoModel, wav: Path) -> None:
    from torchaudio.functional import resample

    fast = resample(torch.from_numpy(soundfile.read(wav, dtype="float32")[0]), 16000, 32000)
    assert model.generate(fast, fs=32000) == model.generate(resample(fast, 32000, 16000))


@pytest.mark.parametrize("samples", [0, 1, 100, 399, 400, 800])
def test_too_short_audio_is_an_empty_or_short_text(model: AutoModel, samples: int) -> None:
    result = model.generate(np.zeros(samples, np.float32), key="tiny")
    assert [item["key"] for item in result] == ["tiny"]
    assert isinstance(result[0]["text"], str)


def test_empty_list(model: AutoModel) -> None:
    assert model.generate([]) == []


def test_a_damaged_file_does_not_take_its_neighbours_along(model: AutoModel, wav: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("this is not audio")
    results = model.generate([str(wav), str(text), str(tmp_path / "absent.wav"), str(wav)], batch_size=4)
    assert [bool(result["text"]) for result in results] == [True, False, False, True]
    assert "text.wav" in results[1]["error"] and "absent.wav" in results[2]["error"]
    with pytest.raises(DamagedUtteranceError, match=r"text\.wav"):
        model.generate(str(text))


@pytest.mark.parametrize(
    "bad", [np.array([0.1, np.nan] * 800, np.float32), np.zeros((20, 30, 2), np.float32), 3.5, None]
)
def test_what_is_no_waveform_is_refused(model: AutoModel, bad: object) -> None:
    with pytest.raises(DamagedUtteranceError, match="input_0001"):
        model.generate(bad)


def test_unknown_option_is_named(model: AutoModel, wav: Path, caplog: pytest.LogCaptureFixture) -> None:
    model.generate(wav, beam_sise=3)
    assert "beam_sise" in caplog.text and "beam_size" in caplog.text


@pytest.mark.parametrize("name", ["no/such/directory", "."])
def test_no_model_directory(name: str) -> None:
    with pytest.raises(ConfigError, match="director"):
        AutoModel(model=name)


def test_missing_weights(directory: Path) -> None:
    (directory / "model.pt").unlink()
    with pytest.raises(ConfigError, match="holds no weights"):
        AutoModel(model=directory)


def test_token_list_that_does_not_fit(directory: Path) -> None:
    tokens = json.loads((directory / "tokens.json").read_text(encoding="utf-8"))
    (directory / "tokens.json").write_text(json.dumps([*tokens[:-1], "x1", "x2", tokens[-1]]), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"token list does not fit .* 78 tokens, .* 76"):
        AutoModel(model=directory)


def test_path_outside_the_directory(directory: Path) -> None:
    metas = json.loads((directory / "configuration.json").read_text())
    metas["file_path_metas"]["frontend_conf"]["cmvn_file"] = "../secret"
    (directory / "configuration.json").write_text(json.dumps(metas))
    with pytest.raises(ConfigError, match="outside the model directory"):
        AutoModel(model=directory)


def test_pickle_with_code_is_refused(directory: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (print, ("run",))

    torch.save({"state_dict": Evil()}, directory / "model.pt")
    with pytest.raises(ConfigError, match="refused"):
        AutoModel(model=directory)


def test_missing_key_in_the_checkpoint(directory: Path) -> None:
    weights = torch.load(directory / "model.pt", weights_only=True)
    weights.pop("decoder.after_norm.weight")
    torch.save(weights, directory / "model.pt")
    with pytest.raises(ConfigError, match=r"decoder\.after_norm\.weight"):
        AutoModel(model=directory)


def test_unregistered_class(directory: Path) -> None:
    config = (directory / "config.yaml").read_text().replace("encoder: SANMEncoder", "encoder: SANNEncoder")
    (directory / "config.yaml").write_text(config)
    with pytest.raises(LookupError, match=r"SANNEncoder.*Did you mean SANMEncoder"):
        AutoModel(model=directory)


def test_directory_without_configuration_json(directory: Path, wav: Path, model: AutoModel) -> None:
    (directory / "configuration.json").unlink()
    assert AutoModel(model=directory, device="cpu").generate(wav) == model.generate(wav)


def test_safetensors(directory: Path, wav: Path, model: AutoModel) -> None:
    from safetensors.torch import save_file

    save_file(torch.load(directory / "model.pt", weights_only=True), directory / "model.safetensors")
    (directory / "model.pt").unlink()
    assert AutoModel(model=directory, device="cpu").generate(wav) == model.generate(wav)

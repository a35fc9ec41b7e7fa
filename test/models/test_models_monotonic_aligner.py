"""MonotonicAligner against outputs recorded from released FunASR 1.4.16."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from recorded_models import PARITY, close, inside

from funasr.auto.model_dir import read_model_dir
from funasr.layers.cif import CifPredictorV2
from funasr.models.build import Recognizer, build
from funasr.models.monotonic_aligner.model import MonotonicAligner
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.weights import load_into, load_weights

ROOT = PARITY / "MonotonicAligner"
CASES = {case["name"]: case for case in json.loads((ROOT / "expected" / "expected.json").read_text())["cases"]}
SINGLE = ["zh", "mixed", "one", "file", "nospace", "long", "many"]


@pytest.fixture(scope="module")
def parts() -> Recognizer:
    directory = read_model_dir(ROOT / "model")
    parts = build(directory.config, strict=False)
    report = load_into(parts.model, load_weights(directory.weights))
    assert not report.missing and not report.mismatched
    parts.model.eval()
    return parts


def wave(name: str) -> np.ndarray:
    return soundfile.read(ROOT / "audio" / name, dtype="float32")[0]


def align(parts: Recognizer, *pairs: tuple[Any, str], **options: Any) -> list[dict[str, Any]]:
    data = [(torch.from_numpy(audio), text) for audio, text in pairs]
    keys = [f"k{row}" for row in range(len(pairs))]
    results, meta = parts.model.inference(data, None, keys, parts.tokenizer, parts.frontend, **options)
    assert [result.pop("key") for result in results] == keys and set(meta) == {"extract_feat", "decode"}
    return results


@pytest.mark.parametrize("name", SINGLE)
def test_times_equal_the_recording(parts: Recognizer, name: str) -> None:
    case = CASES[f"align/{name}"]
    audio = wave(case["input"][0].removeprefix("audio/"))
    wanted = case["value"][0]
    # The recorded text file names its key first; to read such files is not the model's business.
    text = case["input"][1] if name != "file" else wanted["text"]
    (found,) = align(parts, (audio, text))
    assert found == {"text": wanted["text"], "timestamp": inside(wanted["timestamp"], audio)}


def test_a_batch_equals_the_recording_and_its_members_alone(parts: Recognizer) -> None:
    texts = ["今 天 好", "我 们", ""]
    pairs = [(wave("a.wav"), texts[0]), (wave("b.wav"), texts[1]), (wave("a.wav")[:9000], texts[2])]
    found = align(parts, *pairs)
    assert found == [align(parts, pair)[0] for pair in pairs]
    wanted = [{"text": value["text"], "timestamp": value["timestamp"]} for value in CASES["align/batch2"]["value"]]
    assert found[:2] == wanted and found[2] == {"text": "", "timestamp": []}


def test_unknown_tokens_take_their_times_with_them(parts: Recognizer) -> None:
    """In the recording (align/oov) the tokens that are left have the times of those that were dropped."""
    (found,) = align(parts, (wave("b.wav"), "魑 魅 天 go"))
    (known,) = align(parts, (wave("b.wav"), "今 天 天 go"))
    assert found["text"] == CASES["align/oov"]["value"][0]["text"]
    assert known["timestamp"][:2] == CASES["align/oov"]["value"][0]["timestamp"]
    assert found["timestamp"] == known["timestamp"][2:]


def test_curves_equal_the_recording(parts: Recognizer) -> None:
    with np.load(ROOT / "expected" / "tensors.npz") as stored:
        recorded = {key: torch.from_numpy(stored[key]) for key in stored}
    audio = torch.from_numpy(wave("a.wav"))[None]
    feats, lengths = parts.frontend(audio, torch.tensor([audio.size(1)]))
    with torch.no_grad():
        memory, _, alphas, peaks = parts.model.align(feats, lengths, torch.tensor([CASES["inner/a"]["token_num"] - 1]))
    close(memory, recorded["encoder"])
    close(alphas, recorded["us_alphas"])
    close(peaks, recorded["us_peaks"])


def test_begin_time_and_separate_texts(parts: Recognizer) -> None:
    audio = torch.from_numpy(wave("a.wav"))
    (found,) = align(parts, (audio.numpy(), "今 天 好"))
    (later,) = align(parts, (audio.numpy(), "今 天 好"), begin_time=1000)
    for early, late in zip(found["timestamp"], later["timestamp"]):
        assert [t + 1000 for t in early] == pytest.approx(late, abs=1)
    (apart,), _ = parts.model.inference([audio], None, ["k"], parts.tokenizer, parts.frontend, text=["今 天 好"])
    assert apart == {"key": "k", **found}


def test_nothing_to_hear_or_to_align(parts: Recognizer) -> None:
    (silent,) = align(parts, (np.zeros(0, np.float32), "今 天"))
    assert silent == {"text": "今 天", "timestamp": [[0, 0], [0, 0]]}
    assert parts.model.inference([]) == ([], {})
    audio = torch.zeros(8000)
    for data, text in (([audio], None), ([audio], ["今", "天"])):
        with pytest.raises(DataError, match="text"):
            parts.model.inference(data, None, None, parts.tokenizer, parts.frontend, text=text)
    with pytest.raises(ConfigError, match="tokenizer"):
        parts.model.inference([(audio, "今")], None, None, None, parts.frontend)


def test_training_loss_is_the_length_loss_of_the_second_branch(parts: Recognizer) -> None:
    model = parts.model
    feats, lengths = torch.randn(2, 20, 560), torch.tensor([20, 20])
    loss, stats, weight = model(feats, lengths, torch.tensor([[3, 4, 5], [3, 4, -1]]), torch.tensor([3, 2]))
    with torch.no_grad():
        memory, _ = model.encode(feats, lengths)
        token_num = model.predictor.upsampled_weights(memory, None).sum(dim=1)
    assert loss.item() == pytest.approx((token_num - torch.tensor([4.0, 3.0])).abs().sum().item() / 2, rel=1e-5)
    assert stats["loss"] == stats["loss_pre"] == loss and weight == 2
    loss.backward()
    assert model.predictor.blstm.weight_hh_l0.grad.abs().sum() > 0


def test_another_predictor_is_refused(parts: Recognizer) -> None:
    with pytest.raises(ConfigError, match="CifPredictorV3"):
        MonotonicAligner(parts.model.encoder, CifPredictorV2(32))

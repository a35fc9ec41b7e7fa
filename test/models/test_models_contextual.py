"""ContextualParaformer against arrays recorded from released FunASR 1.4.16."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from recorded_models import (
    PARITY,
    arrays,
    cases,
    check_alone_equals_batch,
    check_official_keys,
    check_training,
    close,
    options,
    samples,
)

from funasr import AutoModel
from funasr.models.paraformer.hotwords import encode_hotwords, pad_hotwords
from funasr.utils.errors import ConfigError, DataError

NAME = "ContextualParaformer"
HOTWORDS = "你好 hello 公园玩 语音识别 zzz 三"
TRAIN_EXTRA = ("hotword_pad", "hotword_lengths")


@pytest.fixture(scope="module")
def auto() -> AutoModel:
    return AutoModel(PARITY / NAME, device="cpu")


@pytest.fixture(scope="module")
def model(auto: AutoModel) -> Any:
    return auto.model


@pytest.mark.parametrize(("name", "case"), cases(NAME))
def test_text_equals_the_recording(auto: AutoModel, name: str, case: dict[str, Any]) -> None:
    if len(case["input"]) > 1:
        check_alone_equals_batch(auto, name, case)
        return
    (found,) = auto.generate(samples(case["input"][0]), **options(name, case))
    (wanted,) = case.get("output") or [{"text": ""}]  # on empty audio the recording has an error
    assert found["text"] == wanted["text"] and "timestamp" not in found


@pytest.mark.parametrize("case", ["a", "b", "hot_str"])
def test_network_equals_the_recording(auto: AutoModel, model: Any, case: str) -> None:
    recorded = arrays(NAME, case)
    feats = recorded["feats"] if "feats" in recorded else arrays(NAME, "a")["feats"]
    ids = encode_hotwords(HOTWORDS, auto.tokenizer, 1) if case == "hot_str" else [[1]]
    heard: list[torch.Tensor] = []
    handle = model.decoder.bias_decoder.register_forward_hook(lambda module, inputs, output: heard.append(output))
    with torch.no_grad():
        vectors = model.hotword_vectors(*pad_hotwords(ids, torch.device("cpu")))
        output = model.recognise(feats, torch.tensor([feats.size(1)]), model._scorer(vectors))
    handle.remove()
    close(vectors, recorded["bias_decoder.2"][0])
    close(heard[0], recorded["bias_decoder.out"], 3e-4)
    close(output.alphas, recorded["cif.alphas"])
    close(output.logits, recorded["decoder.logits"], 3e-4)
    close(model.predictor(output.encoder_out).embeds, recorded["cif.acoustic_embeds"])
    if case == "a":
        close(output.encoder_out, recorded["encoder_out"])


@pytest.mark.parametrize(("run", "ratio"), [("no_sampler", 0.0), ("sampler", 0.75)])
def test_training_equals_the_recording(model: Any, run: str, ratio: float, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = copy.deepcopy(model)
    glance = trained.glance

    def glance_at_padding(
        embeds: torch.Tensor, labels: torch.Tensor, label_lengths: torch.Tensor, predicted: torch.Tensor
    ) -> torch.Tensor:
        """The recording counted padding, as label 0, among the wrong tokens; ours does not."""
        everything = torch.full_like(label_lengths, labels.size(1))
        return glance(embeds, labels.clamp(min=0), everything, predicted)

    monkeypatch.setattr(trained, "glance", glance_at_padding)
    check_training(trained, NAME, run, monkeypatch, ratio, TRAIN_EXTRA)


def test_training_without_hotwords_is_refused(model: Any) -> None:
    recorded = arrays(NAME, "train")
    with pytest.raises(DataError, match="hotword_pad"):
        model(*(recorded[key] for key in ("speech", "speech_lengths", "text", "text_lengths")))


def test_state_dict_has_the_keys_of_the_official_model() -> None:
    check_official_keys(NAME, "contextual_paraformer-large", model_conf={"inner_dim": 512})


def test_hotwords_and_scale_belong_to_the_call(auto: AutoModel) -> None:
    wave = samples("a.wav")
    plain = auto.generate(wave)
    assert auto.generate(wave, hotword=HOTWORDS.split())[0]["text"] != plain[0]["text"]
    assert (
        auto.generate(wave, hotword=HOTWORDS, clas_scale=0.0)[0]["text"]
        == (auto.generate(wave, clas_scale=0.0)[0]["text"])
    )
    assert auto.generate(wave)[0]["text"] == plain[0]["text"]


def test_options_act_or_are_refused(model: Any) -> None:
    parts = {name: getattr(model, name) for name in ("encoder", "decoder", "predictor", "ctc")}
    make = {"vocab_size": 76, "ctc_weight": 0.0, "inner_dim": 32}
    shared = type(model)(**parts, **make, use_decoder_embedding=True)
    shared.bias_embed.weight.data.fill_(float("nan"))
    assert shared.hotword_vectors(torch.tensor([[3, 4]]), torch.tensor([2])).isfinite().all()
    with pytest.raises(ConfigError, match="bias_encoder_type"):
        type(model)(**parts, **make, bias_encoder_type="mean")

"""BiCifParaformer and CifPredictorV3 against arrays recorded from released FunASR 1.4.16, and their promises."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from recorded_models import (
    arrays,
    cases,
    check_alone_equals_batch,
    check_official_keys,
    check_training,
    close,
    inside,
    options,
    samples,
)

from funasr import AutoModel
from funasr.layers.cif import CifPredictorV2, CifPredictorV3, integrator_curve
from funasr.layers.timestamps import FIRE
from funasr.models.paraformer.bicif import BiCifParaformer
from funasr.utils.errors import ConfigError

MODELS = ("BiCifParaformer", "BiCifParaformer-cnn")
# Units of s.wav whose recorded times are not their own: a Chinese character behind an open `@@` piece has the time of
# that piece, and behind a dropped <unk> each unit has the time of the one before.
SHIFTED = {"BiCifParaformer": {1, 2, 3}, "BiCifParaformer-cnn": {0, 4, *range(16, 38)}}


@pytest.fixture(scope="module")
def models() -> dict[str, AutoModel]:
    from recorded_models import PARITY

    return {name: AutoModel(PARITY / name, device="cpu") for name in MODELS}


@pytest.mark.parametrize(("name", "case"), cases("BiCifParaformer") + cases("BiCifParaformer-cnn"))
def test_results_equal_the_recording(models: dict[str, AutoModel], name: str, case: dict[str, Any]) -> None:
    if case["name"] == "batch3":
        check_alone_equals_batch(models[name], name, case)
        return
    wave = samples(case["input"][0])
    (found,) = models[name].generate(wave, **options(name, case))
    (wanted,) = case.get("output") or [{"text": ""}]  # on empty audio the recording has an error
    times = inside(wanted.get("timestamp", []), wave, options(name, case).get("begin_time", 0))
    assert found["text"] == wanted["text"] and len(found["timestamp"]) == len(found["text"].split())
    shifted = SHIFTED[name] if case["name"] == "s" else set()
    for unit, (span, recorded) in enumerate(zip(found["timestamp"], times, strict=True)):
        assert (span == recorded) == (unit not in shifted), unit


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("case", ["a", "b"])
def test_network_equals_the_recording(models: dict[str, AutoModel], name: str, case: str) -> None:
    model, recorded = models[name].model, arrays(name, case)
    lengths = recorded["feats.lens"]
    with torch.no_grad():
        output = model.recognise(recorded["feats"], lengths)
        mask = torch.ones(output.encoder_out.shape[:2], dtype=torch.bool)
        alphas, peaks = model.predictor.timestamp_curves(output.encoder_out, mask, output.token_lengths)
        cif = model.predictor(output.encoder_out, mask=mask)
        token_num2 = model.predictor.upsampled_weights(output.encoder_out, mask).sum(dim=1)
    if case == "a":
        close(output.encoder_out, recorded["encoder_out"])
        close(output.peaks, recorded["cif.peaks"])
    close(output.alphas, recorded["cif.alphas"])
    close(cif.embeds, recorded["cif.acoustic_embeds"])
    close(output.logits, recorded["decoder.logits"], 3e-4)
    close(alphas, recorded["upsample.us_alphas"])
    close(peaks, recorded["upsample.us_peaks"])
    close(token_num2, recorded["cif.token_num2"])
    assert output.token_lengths.tolist() == recorded["cif.token_num"].long().tolist()


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(("run", "ratio"), [("no_sampler", 0.0), ("sampler", 0.75)])
def test_training_equals_the_recording(
    models: dict[str, AutoModel], name: str, run: str, ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_training(copy.deepcopy(models[name].model), name, run, monkeypatch, ratio)


def test_state_dict_has_the_keys_of_the_official_model() -> None:
    check_official_keys("BiCifParaformer", "bicif_paraformer-large")


def test_times_cost_nothing_if_nobody_wants_them(models: dict[str, AutoModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model, wave = models["BiCifParaformer"], samples("a.wav")
    (timed,) = model.generate(wave)
    monkeypatch.delattr(CifPredictorV3, "upsampled_weights")
    (plain,) = model.generate(wave, output_timestamp=False)
    assert plain["text"] == timed["text"].replace(" ", "") and "timestamp" not in plain


def test_another_predictor_is_refused(models: dict[str, AutoModel]) -> None:
    model = models["BiCifParaformer"].model
    with pytest.raises(ConfigError, match="CifPredictorV3"):
        BiCifParaformer(model.encoder, model.decoder, CifPredictorV2(32), None, 76, ctc_weight=0.0)


def test_half_precision_model_gives_the_same_times_but_for_a_frame_or_two(models: dict[str, AutoModel]) -> None:
    wave = torch.from_numpy(samples("b.wav"))
    model, frontend = models["BiCifParaformer"].model, models["BiCifParaformer"].frontend
    (full,), _ = model.inference([wave], frontend=frontend)
    (half,), _ = copy.deepcopy(model).bfloat16().inference([wave], frontend=frontend)
    assert len(half["token_int"]) == len(full["token_int"])
    assert np.abs(np.array(half["timestamp"]) - np.array(full["timestamp"])).max() <= 80


def tiny_predictor(kind: str, **conf: Any) -> CifPredictorV3:
    torch.manual_seed(0)
    return CifPredictorV3(8, upsample_type=kind, upsample_times=3, tail_threshold=0.45, **conf).eval()


@pytest.mark.parametrize("kind", ["cnn", "cnn_blstm", "cnn_attn"])
@pytest.mark.parametrize("use_cif1_cnn", [True, False])
def test_curves_of_an_utterance_are_the_same_in_any_batch(kind: str, use_cif1_cnn: bool) -> None:
    predictor = tiny_predictor(kind, use_cif1_cnn=use_cif1_cnn)
    hidden, lengths, tokens = torch.randn(4, 12, 8), [12, 7, 1, 0], torch.tensor([4, 3, 1, 0])
    mask = torch.arange(12) < torch.tensor(lengths)[:, None]
    batch = predictor.timestamp_curves(hidden, mask, tokens)
    torch.testing.assert_close(batch[0].sum(dim=1)[:3], tokens[:3].float())
    for row, length in enumerate(lengths):
        alone = predictor.timestamp_curves(hidden[row : row + 1, :length], None, tokens[row : row + 1])
        assert alone[0].shape == (1, 3 * length)
        for together, one in zip(batch, alone):
            torch.testing.assert_close(together[row, : 3 * length], one[0])
        assert not batch[0][row, 3 * length :].any()


def test_upsampling_is_the_transposed_convolution() -> None:
    predictor = tiny_predictor("cnn")
    x = torch.randn(2, 5, 8)
    wanted = predictor.upsample_cnn(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(predictor._upsample(x), wanted)


def test_integrator_equals_the_frame_by_frame_definition() -> None:
    alphas = torch.rand(3, 200, generator=torch.Generator().manual_seed(5)) * 0.4
    wanted = torch.zeros_like(alphas)
    for row, weights in enumerate(alphas.double().tolist()):
        integrated = 0.0
        for frame, weight in enumerate(weights):
            integrated += weight
            wanted[row, frame] = integrated
            integrated -= FIRE if integrated >= FIRE else 0.0
    peaks = integrator_curve(alphas, FIRE)
    torch.testing.assert_close(peaks, wanted, atol=1e-5, rtol=1e-5)
    assert torch.equal(peaks >= FIRE, wanted >= FIRE)


def test_unknown_upsampling_is_named() -> None:
    with pytest.raises(ConfigError, match="upsample_type"):
        tiny_predictor("lstm")


def test_second_branch_trains() -> None:
    predictor = tiny_predictor("cnn_attn").train()
    predictor.upsampled_weights(
        torch.randn(2, 6, 8), torch.ones(2, 6, dtype=torch.bool), isolate=False
    ).sum().backward()
    assert all(p.grad is not None for p in predictor.self_attn.parameters())

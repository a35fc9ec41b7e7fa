"""HybridCTCAttention: recorded numbers of released FunASR, official shapes, losses and recognition."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from funasr.layers.mask import length_mask
from funasr.models.build import build_model
from funasr.models.hybrid.model import HybridCTCAttention
from funasr.models.results import make_result
from funasr.register import tables
from funasr.utils.config import read_yaml
from funasr.utils.errors import ConfigError

RECORDED = ("Conformer", "Conformer-latest-conv2d6", "Transformer")


class Recorded:
    """A model directory of test/parity with what released FunASR gave for it."""

    def __init__(self, directory: Path) -> None:
        config = read_yaml(directory / "config.yaml")
        self.tokens = json.loads((directory / "tokens.json").read_text(encoding="utf-8"))
        config |= {"specaug": None, "input_size": 80, "vocab_size": len(self.tokens)}
        self.model = build_model(config, None, None)
        self.model.load_state_dict(torch.load(directory / "model.pt", weights_only=True), strict=True)
        self.model.eval()
        arrays = np.load(directory / "expected" / "tensors.npz")
        self.tensors = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
        self.expected = json.loads((directory / "expected" / "expected.json").read_text(encoding="utf-8"))

    def model_without_dropout(self) -> Any:
        model = copy.deepcopy(self.model)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        return model

    def batch(self) -> tuple[Tensor, ...]:
        return tuple(self.tensors[f"train/{name}"] for name in ("speech", "speech_lengths", "text", "text_lengths"))


@pytest.fixture(scope="module", params=RECORDED)
def recorded(request, parity) -> Recorded:
    return Recorded(parity / request.param)


@pytest.fixture(scope="module")
def conformer(parity) -> Recorded:
    return Recorded(parity / "Conformer")


class ListTokenizer:
    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens

    def ids2tokens(self, ids: list[int]) -> list[str]:
        return [self.tokens[i] for i in ids]

    def tokens2text(self, tokens: list[str]) -> str:
        return "".join(tokens)


@pytest.mark.parametrize("case", ["c_default", "a_beam3_ctc0.3_n3"])
def test_recorded_encoder_output(recorded: Recorded, case: str) -> None:
    feats, lengths = recorded.tensors[f"{case}/feats"], recorded.tensors[f"{case}/feats.lens"]
    for isolate in (True, False):
        with torch.no_grad():
            out, out_lengths, _ = recorded.model.encode(feats, lengths, isolate=isolate)
            log_probs = recorded.model.ctc.log_softmax(out)
        assert out_lengths.equal(recorded.tensors[f"{case}/encoder_out.lens"])
        torch.testing.assert_close(out, recorded.tensors[f"{case}/encoder_out"], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(log_probs, recorded.tensors[f"{case}/ctc_log_probs"], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("run", ["eval", "train_mode_no_dropout"])
def test_recorded_training(recorded: Recorded, run: str) -> None:
    model, expected = recorded.model_without_dropout(), recorded.expected["train"]["runs"][run]
    model.train(run != "eval")
    outputs: dict[str, Tensor] = {}
    model.encoder.register_forward_hook(lambda *args: outputs.update(encoder_out=args[-1][0]))
    model.decoder.register_forward_hook(lambda *args: outputs.update(decoder_logits=args[-1][0]))
    loss, stats, weight = model(*recorded.batch())
    loss.backward()
    assert loss.item() == pytest.approx(expected["loss"], rel=1e-5)
    for name in ("loss", "loss_ctc", "loss_att", "acc"):
        assert stats[name].item() == pytest.approx(expected["stats"][name][0], rel=1e-5)
        assert not stats[name].requires_grad and stats[name].dim() == 0
    assert weight.item() == expected["weight"][0]
    # What the decoder says behind the last label of an utterance enters no loss.
    labelled = length_mask(recorded.tensors["train/text_lengths"] + 1)
    for name, value in outputs.items():
        kept = labelled if name == "decoder_logits" else ...
        reference = recorded.tensors[f"train/{run}/{name}"]
        torch.testing.assert_close(value[kept], reference[kept], atol=1e-4, rtol=1e-4)
    norms = {name: p.grad.norm().item() for name, p in model.named_parameters()}
    assert norms == pytest.approx(expected["grad_norms"], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("case", ["a_beam3_ctc0.3_n3", "c_default"])
def test_recorded_search(recorded: Recorded, case: str) -> None:
    feats, lengths = recorded.tensors[f"{case}/feats"], recorded.tensors[f"{case}/feats.lens"]
    expected = next(c for c in recorded.expected["cases"] if c["name"] == case)
    keys = [expected["output"][0]["key"]]
    tokenizer = ListTokenizer(recorded.tokens)
    results, _ = recorded.model.inference(feats, lengths, keys, tokenizer, **expected.get("kwargs", {}))
    assert [(r["key"], r["token"]) for r in results] == [(r["key"], r["token"]) for r in expected["output"]]


@pytest.mark.parametrize(
    "options", [{}, {"nbest": 2, "beam_size": 4}, {"decoding": "ctc_greedy"}, {"decoding": "ctc_prefix"}]
)
def test_each_utterance_as_alone_and_too_short_ones_empty(conformer: Recorded, options: dict) -> None:
    feats = conformer.tensors["a_beam3_ctc0.3_n3/feats"].repeat(4, 1, 1)
    lengths, keys, tokenizer = torch.tensor([277, 4, 108, 0]), ["a", "b", "c", "d"], ListTokenizer(conformer.tokens)
    before = feats.clone()
    results, _ = conformer.model.inference(feats, lengths, keys, tokenizer, **options)
    alone = [
        result
        for b, n in enumerate(lengths.tolist())
        for result in conformer.model.inference(
            feats[b : b + 1, :n], lengths[b : b + 1], keys[b : b + 1], tokenizer, **options
        )[0]
    ]
    assert results == alone
    assert [r for r in results if r["key"] in "bd"] == [{"key": k, "token": [], "text": ""} for k in "bd"]
    assert feats.equal(before) and all(r["text"] for r in results if r["key"] in "ac")


def test_results_without_tokenizer_keys_or_input(conformer: Recorded) -> None:
    assert conformer.model.inference([]) == ([], {})
    feats = conformer.tensors["c_default/feats"]
    (first, second), _ = conformer.model.inference([feats[0], feats[0, :50]], decoding="ctc_greedy")
    assert first["key"] == "utt_0" and second["key"] == "utt_1" and not {0, 1, 2} & set(first["token_int"])
    assert make_result("k", [1, 5, 0, 2], ListTokenizer(list("abcdef"))) == {"key": "k", "token": ["f"], "text": "f"}
    with pytest.raises(ConfigError, match="beam, ctc_greedy"):
        conformer.model.inference(feats, decoding="magic")


def official_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    lines = [line.split() for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {name: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for name, shape, *_ in lines}


def aishell(model: str, **parts: Any) -> dict[str, Any]:
    return {
        "model": model,
        "vocab_size": 4234,
        "input_size": 80,
        "decoder": "TransformerDecoder",
        "encoder_conf": {"num_blocks": 12},
        **parts,
    }


CONFORMER_CONF = {"num_blocks": 12, "macaron_style": True, "cnn_module_kernel": 15}


@pytest.mark.parametrize(
    ("name", "config"),
    [
        ("aishell-transformer", aishell("Transformer", encoder="TransformerEncoder")),
        ("aishell-conformer", aishell("Conformer", encoder="ConformerEncoder", encoder_conf=CONFORMER_CONF)),
    ],
)
def test_official_keys_and_shapes(parity: Path, name: str, config: dict[str, Any]) -> None:
    with torch.device("meta"):
        model = build_model(config, None, None)
    assert {k: tuple(v.shape) for k, v in model.state_dict().items()} == official_shapes(
        parity / "official_keys" / f"{name}.txt"
    )


def test_paraformer_conformer_encoder_has_the_official_shapes(parity: Path) -> None:
    official = official_shapes(parity / "official_keys" / "aishell-paraformer-conformer.txt")
    with torch.device("meta"):
        encoder = tables.encoder_classes["conformer"](80, **CONFORMER_CONF)
    shapes = {f"encoder.{k}": tuple(v.shape) for k, v in encoder.state_dict().items()}
    assert shapes == {k: v for k, v in official.items() if k.startswith("encoder.")}


SMALL = {"attention_heads": 2, "linear_units": 8, "num_blocks": 2}


def small_model(encoder_conf: dict[str, Any] | None = None, **model_conf: Any) -> HybridCTCAttention:
    torch.manual_seed(0)
    config = {
        "model": "asr",
        "vocab_size": 9,
        "input_size": 20,
        "encoder": "conformer",
        "encoder_conf": {**SMALL, "output_size": 8, **(encoder_conf or {})},
        "decoder": "transformer",
        "decoder_conf": SMALL,
        "model_conf": model_conf,
    }
    return build_model(config, None, None).eval()


def small_batch() -> tuple[Tensor, ...]:
    text = torch.tensor([[3, 4, 5], [6, 7, -1]])
    return torch.randn(2, 60, 20), torch.tensor([60, 45]), text, torch.tensor([3, 2])


def test_loss_is_the_weighted_sum() -> None:
    batch = small_batch()
    loss, stats, weight = small_model(ctc_weight=0.3, length_normalized_loss=True)(*batch)
    assert loss.item() == pytest.approx(0.3 * stats["loss_ctc"].item() + 0.7 * stats["loss_att"].item())
    assert weight.item() == 7 and stats["cer_ctc"].item() >= 0.0
    loss, stats, weight = small_model({"interctc_layer_idx": [1]}, interctc_weight=0.25)(*batch)
    ctc = 0.75 * stats["loss_ctc"] + 0.25 * stats["loss_interctc"]
    assert loss.item() == pytest.approx((0.5 * ctc + 0.5 * stats["loss_att"]).item()) and weight.item() == 2


def test_a_branch_without_weight_is_not_built() -> None:
    batch = small_batch()
    only_ctc, only_attention = small_model(ctc_weight=1.0), small_model(ctc_weight=0.0)
    assert only_ctc.decoder is None and only_attention.ctc is None
    loss, stats, _ = only_ctc(*batch)
    assert loss == stats["loss_ctc"] and stats["loss_att"] is None and stats["acc"] is None
    loss, stats, _ = only_attention(*batch)
    assert loss == stats["loss_att"] and stats["loss_ctc"] is None
    for model in (only_ctc, only_attention):
        results, _ = model.inference(batch[0], batch[1], beam_size=2)
        assert [r["key"] for r in results] == ["utt_0", "utt_1"]
    with pytest.raises(ConfigError, match="no"):
        only_attention.inference(batch[0], batch[1], decoding="ctc_prefix")


def test_padding_labels_and_short_utterances_do_not_matter() -> None:
    model = small_model().train()
    speech, lengths, text, text_lengths = small_batch()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    loss, _, _ = model(speech, lengths, text, text_lengths)
    wider = torch.cat([text, text.new_full((2, 2), -1)], dim=1)
    assert model(speech, lengths, wider, text_lengths)[0].item() == pytest.approx(loss.item(), rel=1e-5)
    loss, _, _ = model(speech, torch.tensor([60, 0]), text, text_lengths)
    loss.backward()
    assert loss.isfinite() and all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_bfloat16_autocast_trains() -> None:
    model, batch = small_model().train(), small_batch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, _, _ = model(*batch)
    loss.backward()
    assert loss.dtype == torch.float32 and all(p.grad.isfinite().all() for p in model.parameters())


def test_wrong_options_are_refused() -> None:
    with pytest.raises(ConfigError, match="interctc_layer_idx"):
        small_model(interctc_weight=0.3)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        small_model(ctc_weight=1.5)
    with pytest.raises(ConfigError, match="decoder"):
        HybridCTCAttention(small_model().encoder, None, None, 9)
    with pytest.raises(ConfigError, match="ctc_weight"):
        small_model(ctc_weigth=0.3)


def test_one_class_under_all_names() -> None:
    for name in ("asr", "Transformer", "Conformer", "Branchformer", "EBranchformer", "SANM"):
        assert tables.model_classes[name] is HybridCTCAttention

"""Paraformer against arrays recorded from released FunASR 1.4.16, and what must hold for any Paraformer.

In the recorded batches padding leaks into short utterances (predictor convolution and tail), so only recordings of
single utterances are compared; our batches must equal our single utterances.
"""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from funasr.models.build import build_model
from funasr.utils.config import read_yaml
from funasr.utils.errors import ConfigError

SANM_MODELS = ("Paraformer", "Paraformer-ctc", "Paraformer-dec2")
MODELS = (*SANM_MODELS, "Paraformer-conformer")


class Tokens:
    """The least a tokenizer must do for `inference`."""

    def __init__(self, path: Path) -> None:
        self.token_list = json.loads(path.read_text())
        self.vocab_size = len(self.token_list)

    def ids2tokens(self, ids: list[int]) -> list[str]:
        return [self.token_list[i] for i in ids]

    def tokens2text(self, tokens: list[str]) -> str:
        return "".join(tokens)


def load(directory: Path) -> tuple[Any, Tokens]:
    config = read_yaml(directory / "config.yaml")
    config["input_size"] = config["frontend_conf"]["n_mels"] * config["frontend_conf"]["lfr_m"]
    config["specaug"] = None
    tokens = Tokens(directory / "tokens.json")
    model = build_model(config, None, tokens, strict=False)
    model.load_state_dict(torch.load(directory / "model.pt", weights_only=True))
    return model.eval(), tokens


def arrays(directory: Path) -> dict[str, torch.Tensor]:
    with np.load(directory / "expected" / "tensors.npz") as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored}


def expected(directory: Path) -> dict[str, Any]:
    return json.loads((directory / "expected" / "expected.json").read_text())


def close(actual: torch.Tensor, wanted: torch.Tensor, tolerance: float = 1e-4) -> None:
    torch.testing.assert_close(actual, wanted, atol=tolerance, rtol=tolerance)


def batch_of(first: torch.Tensor, second: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Features padded with something that must not matter."""
    length = max(first.size(1), second.size(1))
    batch = torch.full((2, length, first.size(2)), 7.0)
    for row, feats in enumerate((first, second)):
        batch[row, : feats.size(1)] = feats[0]
    return batch, torch.tensor([first.size(1), second.size(1)])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("case", ["a", "b"])
def test_recognition_equals_the_recording(parity: Path, name: str, case: str) -> None:
    model, _ = load(parity / name)
    recorded = {k.removeprefix(f"{case}/"): v for k, v in arrays(parity / name).items() if k.startswith(f"{case}/")}
    lengths = recorded["feats.lens"]
    with torch.no_grad():
        output = model.recognise(recorded["feats"], lengths)
    if "encoder_out" in recorded:
        close(output.encoder_out, recorded["encoder_out"])
    assert output.encoder_lengths.tolist() == recorded["encoder_out.lens"].tolist()
    assert output.token_lengths.tolist() == recorded["cif.token_num"].long().tolist()
    close(output.alphas, recorded["cif.alphas"])
    if "cif.peaks" in recorded:
        close(output.peaks, recorded["cif.peaks"])
    close(output.logits, recorded["decoder.logits"], 3e-4)
    close(output.log_probs, recorded["decoder.logits"].log_softmax(-1), 3e-4)
    mask = torch.ones(output.encoder_out.shape[:2], dtype=torch.bool)
    close(model.predictor(output.encoder_out, mask=mask).embeds, recorded["cif.acoustic_embeds"])
    if "ctc_log_probs" in recorded:
        close(model.ctc.log_softmax(output.encoder_out), recorded["ctc_log_probs"])


@pytest.mark.parametrize("name", MODELS)
def test_an_utterance_has_the_same_result_in_any_batch(parity: Path, name: str) -> None:
    model, tokens = load(parity / name)
    recorded = arrays(parity / name)
    pair = [recorded["b/feats"], recorded["a/feats"][:, :-9]]
    feats, lengths = batch_of(*pair)
    both, meta = model.inference(feats, lengths, key=["x", "y"], tokenizer=tokens, output_timestamp=True)
    alone = [
        model.inference(f, None, key=[key], tokenizer=tokens, output_timestamp=True)[0][0] for key, f in zip("xy", pair)
    ]
    assert both == alone
    assert all(result["text"] for result in both)
    assert set(meta) == {"extract_feat", "decode"}
    with torch.no_grad():
        together = model.recognise(feats, lengths)
        for row, single in enumerate(pair):
            one = model.recognise(single, torch.tensor([single.size(1)]))
            frames, rows = one.alphas.size(1), one.logits.size(1)
            close(together.alphas[row, :frames], one.alphas[0])
            assert not together.alphas[row, frames:].any()
            close(together.logits[row, :rows], one.logits[0])


@pytest.mark.parametrize("name", MODELS)
def test_greedy_text_equals_the_recording(parity: Path, name: str) -> None:
    from funasr.tokenizers.char_tokenizer import CharTokenizer

    model, _ = load(parity / name)
    tokenizer = CharTokenizer(token_list=str(parity / name / "tokens.json"))
    recorded = arrays(parity / name)
    for case in expected(parity / name)["cases"]:
        if case["name"] in ("a", "b"):
            results, _ = model.inference(recorded[f"{case['name']}/feats"], key=[case["name"]], tokenizer=tokenizer)
            assert [{k: r[k] for k in ("key", "text")} for r in results] == case["output"]


@pytest.mark.parametrize("name", ["Paraformer-ctc"])
def test_search_with_ctc_equals_the_recording(parity: Path, name: str) -> None:
    model, _ = load(parity / name)
    feats = arrays(parity / name)["a/feats"]
    case = next(c for c in expected(parity / name)["cases"] if c["name"].startswith("beam_ctc0.3"))
    results, _ = model.inference(feats, key=["a"], **case["kwargs"])
    wanted = [[i for i in found["ids"] if i > 2] for found in case["nbest"][: len(results)]]
    assert [r["token_int"] for r in results] == wanted and len(results) == 3
    greedy, _ = model.inference(feats, key=["a"])
    assert greedy[0]["token_int"] != wanted[0], "the options of a call must not stay"


def lose_the_last_token(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this recording (alone) rounding kept the last token of both utterances from firing; ours always fires."""
    align = model.predictor.forward

    def forward(hidden: torch.Tensor, target_lengths: torch.Tensor, mask: torch.Tensor) -> Any:
        out = align(hidden, target_lengths, mask)
        last = torch.arange(out.embeds.size(1)) == target_lengths[:, None] - 1
        assert out.embeds[last].any(dim=1).all()
        return out._replace(embeds=out.embeds.masked_fill(last[..., None], 0.0))

    monkeypatch.setattr(model.predictor, "forward", forward)


def train_runs() -> list[tuple[str, str]]:
    runs = [(name, run) for name in SANM_MODELS for run in ("no_sampler", "sampler")]
    return [*runs, ("Paraformer-conformer", "eval"), ("Paraformer-conformer", "train_mode_no_dropout")]


@pytest.mark.parametrize(("name", "run"), train_runs())
def test_training_loss_and_gradients_equal_the_recording(
    parity: Path, name: str, run: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = load(parity / name)
    recorded = arrays(parity / name)
    wanted = expected(parity / name)["train"]["runs"][run]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    if run in ("no_sampler", "eval"):
        model.sampling_ratio = 0.0
    if run == "train_mode_no_dropout":
        model.train()
    # The recording replaced random permutations by the identity.
    monkeypatch.setattr(model, "sampling_ranks", lambda valid: torch.arange(valid.size(1)).expand(valid.shape))
    if run == "train_mode_no_dropout":
        lose_the_last_token(model, monkeypatch)
    inputs = [recorded[f"train/{key}"] for key in ("speech", "speech_lengths", "text", "text_lengths")]
    before = [x.clone() for x in inputs]
    loss, stats, weight = model(*inputs)
    assert all(torch.equal(x, y) for x, y in zip(inputs, before)), "inputs must stay as they are"
    loss.backward()
    assert loss.item() == pytest.approx(wanted["loss"], rel=1e-5)
    assert weight.item() == wanted["weight"][0]
    for key in stats:
        assert stats[key].item() == pytest.approx(wanted["stats"][key][0], rel=2e-5, abs=1e-6), key
    for key, norm in wanted["grad_norms"].items():
        gradient = model.get_parameter(key).grad
        assert (0.0 if gradient is None else gradient.norm().item()) == pytest.approx(
            norm or 0.0, rel=1e-3, abs=2e-4
        ), key
    if run == "no_sampler":
        labels_lengths = recorded["train/text_lengths"] + model.predictor_bias
        memory, lengths = model.encode(*inputs[:2])
        cif = model.predictor(memory, labels_lengths, torch.arange(memory.size(1)) < lengths[:, None])
        for actual, key in zip(cif, ("acoustic_embeds", "token_num", "alphas", "peaks")):
            close(actual, recorded[f"train/no_sampler/{key}"])


@pytest.mark.parametrize("name", ["paraformer-large", "aishell-paraformer-conformer"])
def test_state_dict_has_the_keys_of_the_official_model(parity: Path, name: str) -> None:
    small = read_yaml(parity / ("Paraformer" if name == "paraformer-large" else "Paraformer-conformer") / "config.yaml")
    if name == "paraformer-large":
        sizes = {"output_size": 512, "num_blocks": 50, "linear_units": 2048}
        blocks, att, vocab, features = 16, {"att_layer_num": 16}, 8404, 560
    else:
        sizes = {"output_size": 256, "num_blocks": 12, "linear_units": 2048}
        blocks, att, vocab, features = 6, {}, 4234, 80
    small["encoder_conf"].update(sizes)
    small["decoder_conf"].update(num_blocks=blocks, linear_units=2048, **att)
    small["predictor_conf"]["idim"] = sizes["output_size"]
    small |= {"specaug": None, "vocab_size": vocab, "input_size": features}
    with torch.device("meta"):
        model = build_model(small, None, None, strict=False)
    actual = {key: "x".join(map(str, value.shape)) or "scalar" for key, value in model.state_dict().items()}
    lines = (parity / "official_keys" / f"{name}.txt").read_text().splitlines()
    official = dict(line.split()[:2] for line in lines if not line.startswith("#"))
    assert actual == official


@pytest.fixture
def small(parity: Path) -> Any:
    return load(parity / "Paraformer")[0]


def test_timestamps_pair_with_tokens_and_lie_in_the_audio(parity: Path, small: Any) -> None:
    from funasr.tokenizers.char_tokenizer import CharTokenizer

    tokenizer = CharTokenizer(token_list=str(parity / "Paraformer" / "tokens.json"))
    feats = arrays(parity / "Paraformer")["b/feats"]
    (plain,), _ = small.inference(feats, key=["b"], tokenizer=tokenizer)
    (timed,), _ = small.inference(feats, key=["b"], tokenizer=tokenizer, pred_timestamp=True, begin_time=1000)
    assert "timestamp" not in plain
    assert len(timed["timestamp"]) == len(timed["text"].split()) and timed["text"].split() != [plain["text"]]
    times = [t for pair in timed["timestamp"] for t in pair]
    assert times == sorted(times) and times[0] >= 1000 and times[-1] <= 1000 + 60 * feats.size(1)


def test_nothing_to_hear(small: Any) -> None:
    """No input, no frame at all, and one utterance without a frame beside another."""
    assert small.inference([]) == ([], {})
    results, _ = small.inference(torch.zeros(2, 0, 560), key=["p", "q"], output_timestamp=True)
    assert results == [{"key": k, "token_int": [], "timestamp": []} for k in "pq"]
    feats = torch.randn(2, 40, 560, generator=torch.Generator().manual_seed(0))
    alone, _ = small.inference(feats[1:], key=["q"])
    results, _ = small.inference(feats, torch.tensor([0, 40]), key=["p", "q"])
    assert results == [{"key": "p", "token_int": []}, *alone]


def test_glancing_replaces_the_right_number_of_random_tokens(small: Any) -> None:
    small.sampling_ratio = 0.5
    lengths = torch.tensor([8, 3])
    labels = torch.randint(3, 70, (2, 8))
    predicted = labels.clone()
    predicted[0, :5] += 1  # 5 wrong -> 2 replaced
    predicted[1, 3:] = 0  # only beyond the end
    embeds = torch.zeros(2, 8, 32) + 1e6
    seen = set()
    for _ in range(20):
        mixed = small.glance(embeds, labels, lengths, predicted)
        replaced = (mixed[0] != 1e6).all(dim=1)
        assert replaced.sum() == 2 and (mixed[1, :3] == 1e6).all() and not mixed[1, 3:].any()
        torch.testing.assert_close(mixed[0][replaced], small.decoder.embed(labels[0])[replaced])
        seen.add(tuple(replaced.nonzero().flatten().tolist()))
    assert len(seen) > 5
    small.sampling_ratio = 1.0
    small.share_embedding = True
    mixed = small.glance(embeds, labels, lengths, torch.zeros_like(labels))
    torch.testing.assert_close(mixed[0], small.decoder.output_layer.weight[labels[0]])


def test_autocast_trains_every_parameter_of_the_decoder(parity: Path, small: Any) -> None:
    """The first, gradient-free pass must not leave its cast weights to the second."""
    recorded = arrays(parity / "Paraformer")
    inputs = [recorded[f"train/{key}"] for key in ("speech", "speech_lengths", "text", "text_lengths")]
    full, _, _ = small(*inputs)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _, _ = small(*inputs)
    loss.backward()
    assert loss.item() == pytest.approx(full.item(), rel=0.3)
    missing = [n for n, p in small.named_parameters() if p.grad is None or not p.grad.any()]
    assert missing == ["decoder.embed.0.weight"] or missing == []


def test_half_precision_model_recognises(small: Any, parity: Path) -> None:
    feats = arrays(parity / "Paraformer")["b/feats"]
    wanted, _ = small.inference(feats, key=["b"])
    half = copy.deepcopy(small).to(torch.bfloat16)
    found, _ = half.inference(feats, key=["b"])
    assert math.isclose(len(found[0]["token_int"]), len(wanted[0]["token_int"]), abs_tol=1)
    assert half.recognise(feats.bfloat16(), torch.tensor([feats.size(1)])).log_probs.dtype == torch.float32


def test_wrong_options_are_named(parity: Path) -> None:
    config = read_yaml(parity / "Paraformer" / "config.yaml") | {"specaug": None, "vocab_size": 76, "input_size": 560}
    for key, value in (("ctc_weight", 1.0), ("predictor_bias", 2), ("sampling_ratio", 1.5)):
        with pytest.raises(ConfigError, match=key):
            build_model({**config, "model_conf": {key: value}}, None, None, strict=False)
    model = build_model(config, None, None, strict=False)
    with pytest.raises(ConfigError, match="CTC head"):
        model.inference(torch.zeros(1, 20, 560), decoding_ctc_weight=0.3)

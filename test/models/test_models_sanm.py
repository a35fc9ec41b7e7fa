"""The SANM encoder and FsmnDecoder against arrays recorded from released FunASR 1.4.16, and their own promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from funasr.models.build import build_model
from funasr.models.sanm.decoder import FsmnDecoder
from funasr.models.sanm.encoder import SANMEncoder
from funasr.utils.config import read_yaml


@pytest.fixture
def recorded(parity: Path) -> dict[str, torch.Tensor]:
    with np.load(parity / "SANM" / "expected" / "tensors.npz") as stored:
        return {name: torch.from_numpy(stored[name]) for name in stored}


@pytest.fixture
def model(parity: Path) -> Any:
    config = read_yaml(parity / "SANM" / "config.yaml") | {"specaug": None, "vocab_size": 40, "input_size": 560}
    model = build_model(config, None, None, strict=False)
    model.load_state_dict(torch.load(parity / "SANM" / "model.pt", weights_only=True))
    return model.eval()


def test_teacher_forced_loss_equals_the_recording(model: Any, recorded: dict[str, torch.Tensor], parity: Path) -> None:
    wanted = json.loads((parity / "SANM/expected/expected.json").read_text())["train"]["runs"]["eval"]
    loss, _, weight = model(*(recorded[f"train/{k}"] for k in ("speech", "speech_lengths", "text", "text_lengths")))
    loss.backward()
    assert loss.item() == pytest.approx(wanted["loss"], rel=1e-5)
    assert weight.item() == wanted["weight"][0]
    for key, norm in wanted["grad_norms"].items():
        assert model.get_parameter(key).grad.norm().item() == pytest.approx(norm, rel=1e-3, abs=2e-4), key


@pytest.mark.parametrize("case", ["c_default", "a_beam3_ctc0.3_n3"])
def test_search_equals_the_recording(model: Any, recorded: dict[str, torch.Tensor], parity: Path, case: str) -> None:
    cases = json.loads((parity / "SANM/expected/expected.json").read_text())["cases"]
    wanted = next(c for c in cases if c["name"] == case)
    feats, lengths = recorded[f"{case}/feats"], recorded[f"{case}/feats.lens"]
    with torch.no_grad():
        memory, _, _ = model.encode(feats, lengths, isolate=True)
        torch.testing.assert_close(memory, recorded[f"{case}/encoder_out"], atol=1e-4, rtol=1e-4)
        best = wanted["nbest"][0]
        state, score = model.decoder.init_state(memory, lengths), 0.0
        for last, following in zip(best["ids"], best["ids"][1:]):
            log_probs, state = model.decoder.step(torch.tensor([last]), state)
            score += log_probs[0, following].item()
    assert score == pytest.approx(best["scores"]["decoder"], abs=1e-3)
    found, _ = model.inference(feats, key=["x"], **wanted.get("kwargs", {}))
    assert found[0]["token_int"] == [i for i in best["ids"] if i > 2]


def test_state_dict_has_the_keys_of_the_official_model(parity: Path) -> None:
    config = read_yaml(parity / "SANM" / "config.yaml") | {"specaug": None, "vocab_size": 8404, "input_size": 560}
    config["encoder_conf"].update(output_size=512, num_blocks=50, linear_units=2048)
    config["decoder_conf"].update(num_blocks=16, att_layer_num=16, linear_units=2048)
    with torch.device("meta"):
        model = build_model(config, None, None, strict=False)
    actual = {key: "x".join(map(str, value.shape)) for key, value in model.state_dict().items()}
    lines = (parity / "official_keys" / "sanm-large.txt").read_text().splitlines()
    assert actual == dict(line.split()[:2] for line in lines if not line.startswith("#"))


def test_causal_steps_equal_the_teacher_forced_pass() -> None:
    torch.manual_seed(0)
    decoder = FsmnDecoder(12, 16, linear_units=8, num_blocks=3, att_layer_num=2, kernel_size=5, attention_dim=8).eval()
    memory, lengths = torch.randn(2, 7, 16), torch.tensor([7, 4])
    ids = torch.randint(0, 12, (2, 9))
    with torch.no_grad():
        whole, _ = decoder(memory, lengths, ids, torch.tensor([9, 9]))
        state = decoder.init_state(memory, lengths)
        for t in range(9):
            if t == 5:  # a search re-orders its hypotheses
                state = {name: value.index_select(0, torch.tensor([1, 0])) for name, value in state.items()}
            log_probs, state = decoder.step(ids[[1, 0] if t >= 5 else [0, 1], t], state)
            wanted = whole[[1, 0] if t >= 5 else [0, 1], t].log_softmax(-1)
            torch.testing.assert_close(log_probs, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("input_layer", "features", "factor"), [("pe", 20, 1), ("conv2d", 20, 4), ("linear", 20, 1), (None, 16, 1)]
)
def test_padding_does_not_matter_and_input_stays(input_layer: str | None, features: int, factor: int) -> None:
    torch.manual_seed(0)
    encoder = SANMEncoder(
        features, 16, linear_units=8, num_blocks=3, kernel_size=5, input_layer=input_layer, interctc_layer_idx=[1, 2]
    ).eval()
    xs, lengths = torch.randn(3, 40, features), torch.tensor([40, 23, 3])
    before = xs.clone()
    with torch.no_grad():
        out, out_lengths, inner = encoder(xs, lengths, isolate=True)
        assert torch.equal(xs, before) and len(inner) == 2 and inner[0].shape == out.shape
        for row, length in enumerate(lengths.tolist()):
            one, one_length, _ = encoder(xs[row : row + 1, :length], lengths[row : row + 1], isolate=True)
            frames = int(one_length)
            assert frames == int(out_lengths[row])
            torch.testing.assert_close(out[row, :frames], one[0, :frames], atol=1e-5, rtol=1e-5)
    assert out_lengths[2] == (3 if factor == 1 else 0)
    assert abs(out.size(1) - 40 // factor) <= 1


def test_positional_dropout_acts_where_positions_are_followed_by_it() -> None:
    encoder = SANMEncoder(20, 16, linear_units=8, num_blocks=1, dropout_rate=0.0, positional_dropout_rate=0.5)
    xs, lengths = torch.randn(1, 30, 20), torch.tensor([30])
    assert not torch.equal(encoder(xs, lengths)[0], encoder(xs, lengths)[0])


def test_post_norm_differs_and_trains() -> None:
    encoder = SANMEncoder(8, 8, linear_units=8, num_blocks=2, input_layer="pe", normalize_before=False)
    out, _, _ = encoder(torch.randn(2, 6, 8), torch.tensor([6, 2]))
    out.square().mean().backward()
    assert all(p.grad is not None for p in encoder.parameters())
    assert not hasattr(encoder, "after_norm")

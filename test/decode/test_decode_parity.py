"""The searches give the n-best lists recorded from released FunASR 1.4.16."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from funasr.decode.beam_search import BeamSearchOptions, joint_beam_search
from funasr.decode.hypothesis import Hypothesis
from funasr.decode.paraformer_beam import paraformer_beam_search
from funasr.models.build import build_model
from funasr.utils.config import read_yaml

SOS, EOS = 1, 2
MODELS = ("Conformer", "Transformer", "Conformer-latest-conv2d6")
FEATS = {"c.wav": "c_default/feats", "a.wav": "a_beam3_ctc0.3_n3/feats"}
CASES = (
    "c_default",
    "a_beam3_ctc0.3_n3",
    "c_beam5_ctc0.3_n5_penalty",
    "c_beam4_ctc0",
    "c_maxlenratio0.3",
    "c_beam1",
)


@dataclass(frozen=True)
class Recording:
    """A model directory's recorded cases and arrays."""

    cases: dict[str, dict[str, Any]]
    arrays: dict[str, np.ndarray]

    @classmethod
    def load(cls, directory: Path) -> Recording:
        cases = json.loads((directory / "expected" / "expected.json").read_text(encoding="utf-8"))["cases"]
        with np.load(directory / "expected" / "tensors.npz") as arrays:
            return cls({case["name"]: case for case in cases}, dict(arrays))

    def options(self, name: str) -> BeamSearchOptions:
        """Options of a case; all hypotheses that were recorded are asked for, whatever its nbest was."""
        given = dict(self.cases[name].get("kwargs", {}))
        given["ctc_weight"] = given.pop("decoding_ctc_weight", 0.5)
        return BeamSearchOptions(**{**given, "nbest": len(self.cases[name]["nbest"])})


@dataclass(frozen=True)
class Loaded:
    """A model and what was recorded of it."""

    model: Any
    recording: Recording

    @torch.inference_mode()
    def search(self, feats: list[np.ndarray], options: BeamSearchOptions) -> list[list[Hypothesis]]:
        lengths = torch.tensor([len(x) for x in feats])
        batch = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(x) for x in feats], batch_first=True)
        memory, memory_lengths, _ = self.model.encoder(batch, lengths, isolate=True)
        ctc = self.model.ctc.log_softmax(memory)
        return joint_beam_search(memory, memory_lengths, self.model.decoder, ctc, options, SOS, EOS)

    def feats(self, name: str) -> np.ndarray:
        return self.recording.arrays[FEATS[self.recording.cases[name]["input"][0]]][0]


@pytest.fixture(scope="module", params=MODELS)
def loaded(request: pytest.FixtureRequest, parity: Path) -> Loaded:
    directory = parity / request.param
    config = {**read_yaml(directory / "config.yaml"), "input_size": 80, "vocab_size": 40}
    model = build_model(config, None, None, strict=False)
    model.load_state_dict(torch.load(directory / "model.pt", map_location="cpu", weights_only=True))
    return Loaded(model.eval(), Recording.load(directory))


def assert_nbest(found: list[Hypothesis], expected: list[dict[str, Any]]) -> None:
    assert [list(h.ids) for h in found] == [h["ids"] for h in expected]
    for hypothesis, wanted in zip(found, expected):
        assert hypothesis.score == pytest.approx(wanted["score"], abs=1e-3)
        for name, value in wanted["scores"].items():
            assert hypothesis.scores[name] == pytest.approx(value, abs=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_joint_search_gives_the_recorded_nbest(loaded: Loaded, name: str) -> None:
    if name not in loaded.recording.cases or "nbest" not in loaded.recording.cases[name]:
        pytest.skip("not recorded for this model")
    (found,) = loaded.search([loaded.feats(name)], loaded.recording.options(name))
    assert_nbest(found, loaded.recording.cases[name]["nbest"])


def test_a_batch_gives_the_recorded_nbest_of_each(loaded: Loaded) -> None:
    """The recorded utterance beside a longer, a shorter and an equal one."""
    options = loaded.recording.options("c_default")
    c, a = loaded.feats("c_default"), loaded.feats("a_beam3_ctc0.3_n3")
    found = loaded.search([c, a, c[:60], c], options)
    expected = loaded.recording.cases["c_default"]["nbest"]
    assert_nbest(found[0], expected)
    assert_nbest(found[3], expected)
    for row, feats in ((1, a), (2, c[:60])):
        (alone,) = loaded.search([feats], options)
        assert [h.ids for h in alone] == [h.ids for h in found[row]]


def test_pure_ctc_search_is_not_the_broken_one(loaded: Loaded) -> None:
    """Released FunASR explores arbitrary tokens when CTC alone decides (its case is marked `reference_bug`), so its
    list is no model to follow: ours is much better, and its scores are the CTC likelihoods of the sequences."""
    case = loaded.recording.cases["c_beam4_ctc1"]
    assert "reference_bug" in case
    (found,) = loaded.search([loaded.feats("c_default")], loaded.recording.options("c_beam4_ctc1"))
    assert found[0].score > case["nbest"][0]["score"] + 10
    log_probs = torch.from_numpy(loaded.recording.arrays["c_default/ctc_log_probs"]).double().transpose(0, 1)
    for hypothesis in found:
        labels = torch.tensor([hypothesis.ids[1:-1]])
        sizes = torch.tensor([log_probs.size(0)]), torch.tensor([labels.size(1)])
        loss = torch.nn.functional.ctc_loss(log_probs, labels, *sizes, reduction="sum")
        assert hypothesis.score == pytest.approx(-float(loss), abs=1e-3)


def test_paraformer_search_gives_the_recorded_nbest(parity: Path) -> None:
    recording = Recording.load(parity / "Paraformer-ctc")
    case = recording.cases["beam_ctc0.3_n3"]
    am = torch.from_numpy(recording.arrays["a/decoder.logits"][0]).log_softmax(-1)
    ctc = torch.from_numpy(recording.arrays["a/ctc_log_probs"][0])
    given = case["kwargs"]
    found = paraformer_beam_search(
        am, ctc, given["decoding_ctc_weight"], given["beam_size"], len(case["nbest"]), given["penalty"], SOS, EOS
    )
    assert_nbest(found, case["nbest"])

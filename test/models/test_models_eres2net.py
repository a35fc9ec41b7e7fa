"""ERes2NetV2 against arrays recorded from released FunASR 1.4.16, and what must hold for any batch.

As for CAM++, the recordings of a padded batch (`forward/unequal`) and of audio too short for a deviation over time
(`embed/short_400`: NaN; `error/*`) show faults; the right behaviour is asserted instead.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from recorded_speakers import CASES, arrays, audio_of, check_embedding, close

from funasr import AutoModel
from funasr.models.eres2net.layers import AttentionalFusion
from funasr.models.eres2net.model import ERes2NetV2
from funasr.models.speaker_embedding import speaker_features
from funasr.register import tables
from funasr.utils.errors import ConfigError

NAME = "ERes2NetV2"


@pytest.fixture(scope="module")
def model(parity: Path) -> AutoModel:
    return AutoModel(model=parity / NAME / "model", device="cpu")


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray]:
    return arrays(NAME)


@pytest.fixture(scope="module")
def waves() -> dict[str, np.ndarray]:
    return audio_of(NAME)


@pytest.mark.parametrize("case", CASES)
def test_embedding_equals_the_recording(
    model: AutoModel, recorded: dict[str, np.ndarray], waves: dict[str, np.ndarray], case: str
) -> None:
    check_embedding(model, NAME, case, waves, recorded[case])


def test_batch_of_features_equals_the_recording(
    model: AutoModel, recorded: dict[str, np.ndarray], waves: dict[str, np.ndarray]
) -> None:
    batch = torch.from_numpy(np.stack([waves[name][:24000] for name in ("f", "m", "e1")]))
    with torch.no_grad():
        close(model.model.embed(speaker_features(batch)), recorded["forward/out"])
        close(model.model.embed(torch.from_numpy(recorded["forward/feats0"])), recorded["forward/out"][:1])


def test_a_batch_of_different_lengths_equals_the_single_utterances(
    model: AutoModel, waves: dict[str, np.ndarray]
) -> None:
    inputs = [waves["f"], waves["m"][:33333], waves["e1"][:33333], waves["f"][:1680], waves["m"][:1679]]
    together = model.generate(inputs, batch_size=5)
    for item, result in zip(inputs[:4], together):
        close(result["spk_embedding"], model.generate(item)[0]["spk_embedding"].numpy())
    assert together[4]["spk_embedding"].shape == (0, 32) and "at least 1680" in together[4]["error"]


@pytest.mark.parametrize("samples", [0, 200, 400])
def test_what_is_too_short_is_an_empty_embedding(model: AutoModel, samples: int) -> None:
    found, _ = model.model.inference([torch.zeros(samples)], key=["x"])
    assert found[0]["spk_embedding"].shape == (0, 32) and "too short" in found[0]["error"]


def test_state_dict_has_the_official_keys(parity: Path) -> None:
    lines = (parity / "official_keys" / "eres2netv2.txt").read_text().splitlines()
    official = dict(line.split(" ", 1) for line in lines if not line.startswith("#"))
    with torch.device("meta"):
        state = tables.model_classes["iic/speech_eres2netv2_sv_zh-cn_16k-common"]().state_dict()
    assert {k: f"{list(v.shape)} {str(v.dtype).removeprefix('torch.')}" for k, v in state.items()} == official
    bare = {name.removeprefix("model."): value for name, value in state.items()}
    assert set(ERes2NetV2.adapt_weights(bare)) == set(ERes2NetV2.adapt_weights(state)) == set(official)


def test_fusing_a_tensor_with_itself_doubles_it() -> None:
    fusion = AttentionalFusion(8).eval()
    x = torch.randn(2, 8, 5, 7)
    with torch.no_grad():
        torch.testing.assert_close(fusion(x, x), 2 * x)


def test_options() -> None:
    sizes = {"m_channels": 4, "num_blocks": [1, 1, 1, 1], "embedding_size": 6, "baseWidth": 32}
    network = ERes2NetV2(**sizes, feat_dim=20, scale=3, two_emb_layer=True).eval()
    assert {"model.seg_bn_1.running_mean", "model.seg_2.weight"} <= set(network.state_dict())
    assert network.embed(torch.randn(2, 9, 20)).shape == (2, 6)
    network.train().embed(torch.randn(2, 20, 20)).sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    for options in ({"pooling_func": "ASTP"}, {"num_blocks": [1, 2]}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            ERes2NetV2(**{**sizes, **options})

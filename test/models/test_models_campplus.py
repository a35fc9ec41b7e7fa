"""CAM++ against arrays recorded from released FunASR 1.4.16, and what must hold for any batch.

Where the recordings show faults of the reference the right behaviour is asserted instead: a batch of different lengths
changed the embeddings of its shorter members (`forward/unequal`), audio of less than 3 frames gave NaN
(`embed/short_400`), and shorter audio an assertion that took the rest of the batch with it (`error/*`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from recorded_speakers import CASES, arrays, audio_of, check_embedding, close

from funasr import AutoModel
from funasr.models.campplus.model import CAMPPlus
from funasr.models.speaker_embedding import speaker_features
from funasr.register import tables
from funasr.utils.errors import ConfigError, DamagedUtteranceError

NAME = "CAMPPlus"
INSIDE = ("head", "tdnn", *(f"{part}{i}" for i in (1, 2, 3) for part in ("block", "transit")), "out_nonlinear", "stats")


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
    feats = speaker_features(batch)
    assert np.abs(feats[:1].numpy() - recorded["forward/feats0"]).max() < 1e-3
    with torch.no_grad():
        close(model.model.embed(feats), recorded["forward/out"])
    found, _ = model.model.inference(feats, key=list("abc"))
    close(torch.cat([result["spk_embedding"] for result in found]), recorded["forward/out"])


def test_inside_the_network(model: AutoModel, recorded: dict[str, np.ndarray], waves: dict[str, np.ndarray]) -> None:
    network, seen = model.model, {}
    parts = {name: network.head if name == "head" else getattr(network.xvector, name) for name in (*INSIDE, "dense")}
    hooks = [
        part.register_forward_hook(lambda _m, _i, out, name=name: seen.__setitem__(name, out.clone()))
        for name, part in parts.items()
    ]
    with torch.no_grad():
        network.embed(speaker_features(torch.from_numpy(waves["f"][None, :24000])))
    for hook in hooks:
        hook.remove()
    for name, out in seen.items():
        step = 1 if out.dim() == 2 else 16 if name == "head" else 8
        wanted = recorded[f"inter/{name}"]
        found = (out if out.dim() == 2 else out.mT)[:, ::step].numpy()  # recorded with frames last
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() < 2e-3 * max(1.0, np.abs(wanted).max())


def test_frame_level_output(parity: Path, recorded: dict[str, np.ndarray], waves: dict[str, np.ndarray]) -> None:
    frames = AutoModel(model=parity / NAME / "model", device="cpu", model_conf={"output_level": "frame"})
    found = frames.generate(waves["f"][:24000])[0]["spk_embedding"]
    assert found.shape == (1, 74, 64)
    assert np.abs(found[..., ::8].numpy() - recorded["inter/frame"]).max() < 2e-3


def test_a_batch_of_different_lengths_equals_the_single_utterances(
    model: AutoModel, waves: dict[str, np.ndarray]
) -> None:
    inputs = [waves["f"], waves["m"][:33333], waves["f"][:33333], waves["e1"][:4000], waves["m"][:720]]
    together = model.generate(inputs, key=list("abcde"), batch_size=5)
    assert [result["key"] for result in together] == list("abcde")
    for item, result in zip(inputs, together):
        close(result["spk_embedding"], model.generate(item)[0]["spk_embedding"].numpy())
    feats = [speaker_features(torch.from_numpy(wave[None]))[0] for wave in inputs]
    lengths = torch.tensor([len(item) for item in feats])
    padded = torch.nn.utils.rnn.pad_sequence(feats, batch_first=True, padding_value=7.0)
    found, _ = model.model.inference(padded, lengths, key=list("abcde"))
    for result, wanted in zip(found, together):
        close(result["spk_embedding"], wanted["spk_embedding"].numpy())


def test_what_is_too_short_is_empty_and_its_neighbours_are_not_lost(
    model: AutoModel, recorded: dict[str, np.ndarray], waves: dict[str, np.ndarray]
) -> None:
    silence = np.zeros(24000, np.float32)
    inputs = [waves["f"][8000:8400], waves["e1"], waves["f"][:200], silence[:0], silence]
    results = model.generate(inputs, batch_size=5)
    for result in (results[0], results[2], results[3]):
        assert result["spk_embedding"].shape == (0, 48) and "too short" in result["error"]
    close(results[1]["spk_embedding"], recorded["embed/array"])
    assert torch.isfinite(results[4]["spk_embedding"]).all()
    with pytest.raises(DamagedUtteranceError, match=r"nofile\.wav"):
        model.generate("nofile.wav")
    found, _ = model.model.inference([torch.full((24000,), torch.nan)], key=["x"])
    assert "NaN" in found[0]["error"]
    assert model.model.inference([])[0] == []


def test_longer_than_a_context_segment(waves: dict[str, np.ndarray]) -> None:
    """More than 100 frames behind the TDNN: the mask differs from segment to segment, by the formula of the paper."""
    from funasr.models.campplus.layers import ContextMask

    torch.manual_seed(0)
    layer, x = ContextMask(6, 4, 2), torch.randn(2, 230, 6)
    pieces = [piece.mean(1, keepdim=True).expand_as(piece) for piece in x.split(100, dim=1)]
    context = x.mean(1, keepdim=True) + torch.cat(pieces, dim=1)
    mask = torch.sigmoid(layer.linear2(torch.relu(layer.linear1(context))))
    torch.testing.assert_close(layer(x), layer.linear_local(x) * mask)


def test_state_dict_has_the_official_keys(parity: Path) -> None:
    lines = (parity / "official_keys" / "cam++.txt").read_text().splitlines()
    official = dict(line.split(" ", 1) for line in lines if not line.startswith("#"))
    with torch.device("meta"):
        state = tables.model_classes["cam++"]().state_dict()
    assert {k: f"{list(v.shape)} {str(v.dtype).removeprefix('torch.')}" for k, v in state.items()} == official


def test_training_mode_gives_gradients_and_the_same_with_less_memory() -> None:
    torch.manual_seed(0)
    sizes = {"embedding_size": 8, "growth_rate": 4, "bn_size": 2, "init_channels": 8, "feat_dim": 16}
    thrifty, plain = CAMPPlus(**sizes), CAMPPlus(**sizes, memory_efficient=False)
    plain.load_state_dict(thrifty.state_dict())
    feats = torch.randn(3, 30, 16)
    outputs = [network.train().embed(feats) for network in (thrifty, plain)]
    torch.testing.assert_close(*outputs)
    for out in outputs:
        out.square().sum().backward()
    for ours, theirs in zip(thrifty.parameters(), plain.parameters()):
        assert ours.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-3)
    with pytest.raises(RuntimeError, match="no speaker classes"):
        thrifty(feats, None, None)


def test_wrong_options_are_named() -> None:
    for options in ({"output_level": "x"}, {"config_str": "swish"}, {"feat_dim": 81}):
        with pytest.raises(ConfigError, match=next(iter(options))):
            CAMPPlus(**options)
    network = CAMPPlus(config_str="batchnorm_-prelu", embedding_size=8, growth_rate=4)
    assert network.eval().embed(torch.randn(1, 9, 80)).shape == (1, 8)
    with pytest.raises(ConfigError, match="8000"):
        network.inference([torch.zeros(9000)], frontend=type("Frontend", (torch.nn.Module,), {"fs": 8000})())

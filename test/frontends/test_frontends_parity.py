"""Features recorded from released FunASR 1.4.16: values within single-precision noise, counts exact."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from funasr.frontends.cmvn import read_cmvn
from funasr.frontends.fbank import FbankOptions, fbank
from funasr.frontends.wav_frontend import WavFrontend
from funasr.frontends.wav_frontend_online import WavFrontendOnline
from funasr.layers.lfr import lfr_stack
from funasr.layers.mvn import UtteranceMVN

ROOT = Path(__file__).parents[1] / "parity" / "Frontend"
CASES = json.loads((ROOT / "expected" / "expected.json").read_text())["cases"]
# the rounding of both in an almost empty mel bin (see benchmarks/fbank.py); the mean difference is checked to 1e-5
FBANK_TOLERANCE = 1e-3


def cases(kind: str) -> list:
    return [pytest.param(case, id=case["name"]) for case in CASES if case["name"].startswith(kind + "/")]


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    with np.load(ROOT / "expected" / "tensors.npz") as loaded:
        return dict(loaded)


def wave_of(source: dict[str, Any]) -> torch.Tensor:
    samples, _ = soundfile.read(ROOT / "audio" / source["audio"], dtype="float32")
    return torch.from_numpy(samples[source["start"] : source.get("end")])


def batch_of(sources: list[dict[str, Any]]) -> tuple[torch.Tensor, torch.Tensor]:
    waves = [wave_of(source) for source in sources]
    return torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), torch.tensor([len(wave) for wave in waves])


def options_of(case: dict[str, Any]) -> dict[str, Any]:
    conf = dict(case["conf"])
    if "cmvn_file" in conf:
        conf["cmvn_file"] = ROOT / conf["cmvn_file"]
    return conf


def assert_close(feats: torch.Tensor, expected: np.ndarray, tolerance: float = FBANK_TOLERANCE) -> None:
    assert tuple(feats.shape) == expected.shape
    difference = (feats - torch.from_numpy(expected)).abs()
    assert difference.max() < tolerance
    assert difference.mean() < 1e-5


@pytest.mark.parametrize("case", cases("offline"))
def test_offline(case: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    frontend = WavFrontend(**options_of(case))
    waves, lengths = batch_of(case["input"])
    if "error" in case:  # the reference raises for a single sample; here it is no frame
        feats, feats_lengths = frontend(waves, lengths)
        assert feats.shape == (1, 0, 80)
        assert feats_lengths.tolist() == [0]
        return
    if case["seed"] is None:
        frontend.eval()
    else:
        torch.manual_seed(case["seed"])
    feats, feats_lengths = frontend(waves, lengths)
    assert feats_lengths.tolist() == case["feats_lens"]
    assert feats_lengths.dtype == torch.int64
    assert frontend.output_size() == case["output_size"]
    assert_close(feats, arrays[case["arrays"]["feats"]])


@pytest.mark.parametrize("case", cases("online"))
def test_online(case: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    frontend = WavFrontendOnline(**options_of(case)).eval()
    wave = wave_of(case["input"])[None]
    cache: dict[str, Any] = {}
    begin, rows, emitted = 0, [], []
    for i, size in enumerate(case["chunk_sizes"]):
        is_final = i == len(case["chunk_sizes"]) - 1
        feats, lengths = frontend(wave[:, begin : begin + size], torch.tensor([size]), cache, is_final)
        assert feats.size(1) == int(lengths[0])
        begin += size
        rows.append(feats.size(1))
        emitted.append(feats)
    assert cache == {}
    if "error" in case:  # without stacking the reference fails; the offline features are the truth
        expected, _ = WavFrontend(**options_of(case)).eval()(wave[:, :begin], torch.tensor([begin]))
        assert_close(torch.cat(emitted, 1), expected.numpy())
        return
    assert rows == case["n_frames"]
    if "arrays" in case:
        assert_close(torch.cat(emitted, 1), arrays[case["arrays"]["feats"]])


def test_lfr() -> None:
    checked = 0
    for parameter in cases("lfr"):
        case = parameter.values[0]
        if "error" in case:
            continue
        column = torch.arange(case["T"], dtype=torch.float32)[None, :, None]
        rows, lengths = lfr_stack(column, torch.tensor([case["T"]]), case["lfr_m"], case["lfr_n"])
        assert lengths.tolist() == [case["rows"]]
        index = rows[0].long().tolist()
        assert len(index) == case["rows"]
        assert case["index"] is None or index == case["index"]
        assert (index[0], index[-1]) == (case["first_row"], case["last_row"])
        checked += 1
    assert checked > 100


@pytest.mark.parametrize("case", cases("spk"))
def test_speaker_features(case: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    feats, lengths = fbank(*batch_of(case["input"]), FbankOptions(window="povey", scale=1.0))
    feats, _ = UtteranceMVN()(feats, lengths)
    assert lengths.tolist() == case["feature_lengths"]
    assert_close(feats, arrays[case["arrays"]["feats"]])


@pytest.mark.parametrize("case", cases("cmvn"))
def test_cmvn(case: dict[str, Any]) -> None:
    cmvn = read_cmvn(ROOT / case["file"])
    assert list(cmvn.shape) == case["shape"]
    for row, name in zip(cmvn, ("first_shift", "first_scale"), strict=True):
        expected = case[name]
        assert row[: len(expected)].tolist() == pytest.approx(expected, rel=1e-7)

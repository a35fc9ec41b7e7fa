"""WavFrontend and its filterbank: independent of the batch, of the cutting into chunks, of autocast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio.compliance.kaldi

from funasr.frontends import fbank
from funasr.frontends.fbank import WINDOWS
from funasr.frontends.wav_frontend import WavFrontend
from funasr.frontends.wav_frontend_online import WavFrontendOnline
from funasr.register import tables
from funasr.utils.errors import ConfigError


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return 0.1 * torch.randn(samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("window", WINDOWS)
def test_equals_torchaudio_across_blocks(window: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fbank, "CPU_BLOCK_FRAMES", 300)
    wave = noise(160 * 1000)[None]
    feats, lengths = WavFrontend(window=window).eval()(wave, torch.tensor([wave.size(1)]))
    expected = torchaudio.compliance.kaldi.fbank(wave * 32768, num_mel_bins=80, window_type=window, energy_floor=0.0)
    assert int(lengths[0]) == len(expected)
    difference = (feats[0] - expected).abs()
    assert difference.max() < 1e-2  # single-precision rounding of both in an almost empty mel bin
    assert difference.quantile(0.999) < 1e-4


@pytest.mark.parametrize("n_mels", [23, 64, 100, 300])
@pytest.mark.filterwarnings("ignore:The number of mel bins")
def test_any_number_of_filters_equals_torchaudio(n_mels: int) -> None:
    wave = noise(8000)[None]
    feats, _ = WavFrontend(fs=8000, n_mels=n_mels).eval()(wave, torch.tensor([8000]))
    expected = torchaudio.compliance.kaldi.fbank(
        wave * 32768, num_mel_bins=n_mels, sample_frequency=8000, window_type="hamming", energy_floor=0.0
    )
    reached = expected[0] > -15.9  # of 300 filters some lie between two bins
    assert reached.sum() >= min(n_mels, 64)
    torch.testing.assert_close(feats[0, :, reached], expected[:, reached], rtol=0, atol=1e-2)
    assert (feats[0, :, ~reached] == expected[0, ~reached]).all()


@pytest.mark.parametrize("snip_edges", [True, False])
def test_each_utterance_as_if_alone(snip_edges: bool) -> None:
    sizes = [16000, 0, 1, 2, 37, 399, 400, 401, 5000, 15999]
    frontend = WavFrontend(lfr_m=7, lfr_n=6, snip_edges=snip_edges).eval()
    waves = torch.full((len(sizes), max(sizes)), 0.5)  # padding that would show
    for i, size in enumerate(sizes):
        waves[i, :size] = noise(size, seed=i)
    before = waves.clone()
    feats, lengths = frontend(waves, torch.tensor(sizes))
    assert torch.equal(waves, before)
    for i, size in enumerate(sizes):
        alone, length = frontend(waves[i : i + 1, :size], torch.tensor([size]))
        assert int(length[0]) == int(lengths[i]) == alone.size(1)
        torch.testing.assert_close(feats[i, : alone.size(1)], alone[0], rtol=0, atol=1e-6)
        assert not feats[i, alone.size(1) :].any()


def test_nothing_to_compute_raises_nothing() -> None:
    frontend = WavFrontend(lfr_m=7, lfr_n=6).eval()
    for waves in (torch.zeros(2, 0), torch.zeros(2, 1)):
        feats, lengths = frontend(waves, torch.full((2,), waves.size(1)))
        assert feats.shape == (2, 0, 560)
        assert lengths.tolist() == [0, 0]
    silence, _ = frontend(torch.zeros(1, 400), torch.tensor([400]))
    assert silence.unique().tolist() == pytest.approx([-15.9424], abs=1e-4)


def test_dither_in_training_only() -> None:
    wave, length = noise(3000)[None], torch.tensor([3000])
    frontend = WavFrontend(dither=1.0)
    assert not torch.equal(frontend(wave, length)[0], frontend(wave, length)[0])
    frontend.eval()
    assert torch.equal(frontend(wave, length)[0], frontend(wave, length)[0])


def test_integer_samples() -> None:
    wave, length = (noise(3000)[None] * 32768).short(), torch.tensor([3000])
    frontend = WavFrontend().eval()
    assert torch.equal(frontend(wave, length)[0], frontend(wave.float() / 32768, length)[0])
    with pytest.raises(TypeError, match="int32"):
        frontend(wave.int(), length)
    with pytest.raises(ValueError, match="batch, samples"):
        frontend(wave[0], length)


def test_float32_under_autocast_and_inference_mode() -> None:
    wave, length = noise(3000)[None], torch.tensor([3000])
    expected = WavFrontend().eval()(wave, length)[0]
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        feats = WavFrontend(window="hamming").eval()(wave, length)[0]
    assert torch.equal(feats, expected)


def test_no_state_and_attributes_of_the_contract(tmp_path: Path) -> None:
    frontend = WavFrontend(cmvn_file=tables_file(tmp_path, 560), lfr_m=7, lfr_n=6)
    assert frontend.state_dict() == {}
    assert not list(frontend.parameters())
    assert (frontend.fs, frontend.frame_shift, frontend.lfr_n, frontend.n_mels) == (16000, 10, 6, 80)
    assert tables.frontend_classes["wav_frontend"] is WavFrontend
    assert tables.frontend_classes["wav_frontend_online"] is WavFrontendOnline


def tables_file(directory: Path, dim: int) -> Path:
    path = directory / "cmvn.npz"
    np.savez(path, count=10, sum=np.arange(dim) * 10.0, sum_square=np.arange(dim) ** 2 * 10.0 + 40.0)
    return path


def test_cmvn_applied_after_stacking_and_not_to_padding(tmp_path: Path) -> None:
    waves, lengths = torch.stack([noise(4000), noise(4000, 1)]), torch.tensor([4000, 1000])
    plain, rows = WavFrontend(n_mels=10, lfr_m=3, lfr_n=2).eval()(waves, lengths)
    feats, _ = WavFrontend(tables_file(tmp_path, 40), n_mels=10, lfr_m=3, lfr_n=2).eval()(waves, lengths)
    torch.testing.assert_close(feats[0], (plain[0] - torch.arange(30)) / 2)
    assert not feats[1, rows[1] :].any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": "hann"}, "hamming"),
        ({"n_mels": 3}, "n_mels"),
        ({"frame_shift": 0}, "frame_shift"),
        ({"lfr_m": 0}, "lfr_m"),
        ({"cmvn_file": "nowhere/am.mvn"}, "nowhere"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        WavFrontend(**options)


def test_cmvn_too_short(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cmvn\.npz has 80 values.*560"):
        WavFrontend(tables_file(tmp_path, 80), lfr_m=7, lfr_n=6)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (7, 6), (5, 1), (3, 2), (4, 3), (1, 3), (2, 5)])
def test_streaming_is_offline_however_it_is_cut(m: int, n: int) -> None:
    wave = noise(6000)[None]
    expected, _ = WavFrontend(lfr_m=m, lfr_n=n).eval()(wave, torch.tensor([6000]))
    online = WavFrontendOnline(lfr_m=m, lfr_n=n).eval()
    rng = np.random.default_rng(m * 10 + n)
    for largest in (150, 1500, 6000):
        cache: dict[str, Any] = {}
        emitted, spans, begin = [], [], 0
        while begin < 6000:
            size = int(min(rng.integers(1, largest + 1), 6000 - begin))
            is_final = begin + size == 6000
            feats, rows = online(wave[:, begin : begin + size], torch.tensor([size]), cache, is_final, True)
            assert rows.tolist() == [feats.size(1)]
            begin += size
            emitted.append(feats)
            spans.append((feats.size(1), cache["aligned_waveforms"]))
        torch.testing.assert_close(torch.cat(emitted, 1), expected, rtol=0, atol=1e-6)
        row = 0
        for rows, span in spans:
            start = row * n * 160
            length = (rows - 1) * n * 160 + 400 if rows else 0
            assert torch.equal(span, wave[:, start : start + length])
            row += rows
        assert set(cache) == {"aligned_waveforms"}


def test_streaming_state_is_bounded_and_separate() -> None:
    online = WavFrontendOnline(lfr_m=7, lfr_n=6).eval()
    first: dict[str, Any] = {}
    second: dict[str, Any] = {}
    held = []
    for _ in range(50):
        online(noise(960)[None], torch.tensor([960]), first, return_waveform=True)
        held.append(sum(value.numel() for value in first.values() if isinstance(value, torch.Tensor)))
    assert max(held[25:]) <= max(held[:25])
    with pytest.raises(ValueError, match="one stream"):
        online(torch.zeros(2, 10), torch.tensor([10, 10]), second)
    assert second == {}
    with pytest.raises(ConfigError, match="frame_shift"):
        WavFrontendOnline(frame_shift=30)

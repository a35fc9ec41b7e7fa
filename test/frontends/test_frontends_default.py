"""DefaultFrontend: torch.stft and Slaney's mel bank; the same features in a batch as alone; differentiable."""

from __future__ import annotations

import pytest
import torch
import torchaudio.functional

from funasr.frontends.default_frontend import DefaultFrontend, slaney_mel_bank
from funasr.register import tables
from funasr.utils.errors import ConfigError


@pytest.mark.parametrize("htk", [False, True])
def test_mel_bank_is_that_of_librosa(htk: bool) -> None:
    bank = slaney_mel_bank(16000, 512, 80, 0.0, 8000.0, htk)
    expected = torchaudio.functional.melscale_fbanks(257, 0.0, 8000.0, 80, 16000, "slaney", "htk" if htk else "slaney")
    torch.testing.assert_close(bank, expected, rtol=1e-3, atol=2e-7)


@pytest.mark.parametrize("center", [True, False])
def test_values_lengths_and_batch(center: bool) -> None:
    frontend = DefaultFrontend(fs="16k", win_length=400, center=center)
    sizes = [4000, 0, 1, 100, 511, 512, 3999]
    waves = torch.randn(len(sizes), 4000, generator=torch.Generator().manual_seed(0))
    feats, lengths = frontend(waves, torch.tensor(sizes))
    expected = [n // 128 + 1 if n else 0 for n in sizes] if center else [max(0, (n - 512) // 128 + 1) for n in sizes]
    assert lengths.tolist() == expected
    for i, size in enumerate(sizes):
        alone, _ = frontend(waves[i : i + 1, :size], torch.tensor([size]))
        torch.testing.assert_close(feats[i, : expected[i]], alone[0], rtol=1e-5, atol=1e-5)
        assert not feats[i, expected[i] :].any()
    spectrum = torch.stft(
        waves[0], 512, 128, 400, torch.hann_window(400), center=center, pad_mode="reflect", return_complex=True
    )
    power = (spectrum.abs() ** 2).T @ slaney_mel_bank(16000, 512, 80, 0.0, 8000.0, False)
    torch.testing.assert_close(feats[0], power.clamp(min=1e-10).log(), rtol=1e-4, atol=1e-4)


def test_log_base_and_attributes() -> None:
    waves, lengths = torch.randn(1, 2000), torch.tensor([2000])
    natural = DefaultFrontend(n_mels=40)
    decimal = DefaultFrontend(n_mels=40, log_base=10)
    torch.testing.assert_close(decimal(waves, lengths)[0], natural(waves, lengths)[0] / torch.tensor(10.0).log())
    assert (natural.fs, natural.frame_shift, natural.lfr_n, natural.n_mels, natural.output_size()) == (
        16000,
        8,
        1,
        40,
        40,
    )
    assert natural.state_dict() == {}
    assert tables.frontend_classes["default"] is tables.frontend_classes["EspnetFrontend"] is DefaultFrontend


def test_differentiable() -> None:
    waves = torch.randn(1, 2000, requires_grad=True)
    DefaultFrontend()(waves, torch.tensor([2000]))[0].sum().backward()
    assert waves.grad is not None
    assert waves.grad.abs().sum() > 0


@pytest.mark.parametrize(
    "options", [{"fs": "fast"}, {"fs": 0}, {"window": "povey"}, {"win_length": 600}, {"fmax": 9000}]
)
def test_wrong_options(options: dict) -> None:
    with pytest.raises(ConfigError):
        DefaultFrontend(**options)

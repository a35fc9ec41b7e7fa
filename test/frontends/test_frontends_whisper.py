"""WhisperFrontend: features recorded from released FunASR 1.4.16, and independence of the batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from funasr.frontends.whisper_frontend import WhisperFrontend, slaney_mel_filters
from funasr.utils.errors import ConfigError

ROOT = Path(__file__).parents[1] / "parity" / "Frontend"
CASES = [
    pytest.param(case, id=case["name"])
    for case in json.loads((ROOT / "expected" / "expected.json").read_text())["cases"]
    if case["name"].startswith("whisper/")
]


@pytest.mark.parametrize("case", CASES)
def test_recorded(case: dict[str, Any]) -> None:
    source = case["input"]
    wave = torch.from_numpy(soundfile.read(ROOT / "audio" / source["audio"], dtype="float32")[0])
    wave = wave[source["start"] : source["end"]]
    frontend = WhisperFrontend(**case["conf"])
    feats, lengths = frontend(wave[None], torch.tensor([len(wave)]))
    assert lengths.tolist() == case["feats_lens"] and lengths.dtype == torch.int64
    assert list(feats.shape) == case["shape"]
    if not frontend.permute:
        feats = feats.transpose(1, 2)
    if "stored" in case:
        stored = case["stored"]
        feats = torch.cat([feats[:, : stored["first_frames"]], feats[:, -stored["last_frames"] :]], dim=1)
    with np.load(ROOT / "expected" / "tensors.npz") as arrays:
        wanted = torch.from_numpy(arrays[case["arrays"]["feats"]])
    wanted = wanted.transpose(1, 2) if wanted.size(1) == frontend.n_mels else wanted
    torch.testing.assert_close(feats, wanted, atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("pad_trim", [False, True])
def test_each_utterance_as_if_it_were_alone(pad_trim: bool) -> None:
    """The reference gives every utterance the length of the first and cannot batch without padding to 30 s."""
    torch.manual_seed(0)
    frontend = WhisperFrontend(do_pad_trim=pad_trim, permute=True)
    lengths = torch.tensor([3300, 160, 0, 159, 4000])
    waves = torch.randn(5, 4200) * torch.logspace(-3, 0, 5)[:, None]  # another level in each; noise as padding
    before = waves.clone()
    feats, counts = frontend(waves, lengths)
    assert counts.tolist() == [20, 1, 0, 0, 25]
    assert torch.equal(waves, before)
    for row, (samples, frames) in enumerate(zip(lengths.tolist(), counts.tolist())):
        alone, count = frontend(waves[row : row + 1, :samples], lengths[row : row + 1])
        assert count.tolist() == [frames]
        torch.testing.assert_close(feats[row, : alone.size(1)], alone[0], atol=1e-5, rtol=0.0)
    assert feats.shape == (5, 3000 if pad_trim else 25, 80)
    assert feats.isfinite().all()


def test_longer_than_30_s_is_cut() -> None:
    feats, lengths = WhisperFrontend()(torch.randn(1, 490000), torch.tensor([490000]))
    assert feats.shape == (1, 80, 3000) and lengths.tolist() == [3000]


def test_the_model_decides_the_number_of_bins() -> None:
    assert WhisperFrontend(whisper_model="large-v3").output_size() == 128
    assert WhisperFrontend(whisper_model="small").output_size() == 80
    assert not WhisperFrontend().state_dict()


def test_filters_from_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "filters.npz", mel_80=slaney_mel_filters(80).numpy() * 2.0)
    wave, length = torch.randn(1, 3200), torch.tensor([3200])
    doubled = WhisperFrontend(do_pad_trim=False, filters_path=tmp_path / "filters.npz")(wave, length)[0]
    plain = WhisperFrontend(do_pad_trim=False)(wave, length)[0]
    torch.testing.assert_close(doubled, plain + np.log10(2.0) / 4.0)
    with pytest.raises(ConfigError, match="mel_128"):
        WhisperFrontend(n_mels=128, filters_path=tmp_path / "filters.npz")
    with pytest.raises(ConfigError, match="does not exist"):
        WhisperFrontend(filters_path=tmp_path / "none.npz")


def test_wrong_options() -> None:
    with pytest.raises(ConfigError, match="16000"):
        WhisperFrontend(fs=8000)
    with pytest.raises(ConfigError, match="n_mels"):
        WhisperFrontend(n_mels=0)

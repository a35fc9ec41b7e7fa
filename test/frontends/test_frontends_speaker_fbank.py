"""The features of speaker models: the same for an utterance alone, in a padded batch, and in `inference`."""

from __future__ import annotations

import pytest
import torch

from funasr.frontends.speaker_fbank import SpeakerFbank, speaker_features
from funasr.utils.errors import ConfigError


def test_padded_batch_equals_single_utterances() -> None:
    waves = [0.1 * torch.randn(size, generator=torch.Generator().manual_seed(size)) for size in (8000, 4000, 720)]
    padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    feats, lengths = SpeakerFbank(n_mels=24)(padded, torch.tensor([len(wave) for wave in waves]))
    assert lengths.tolist() == [48, 23, 3] and feats.shape == (3, 48, 24)
    for row, length, wave in zip(feats, lengths.tolist(), waves):
        torch.testing.assert_close(row[:length], speaker_features(wave[None], 24)[0], atol=1e-5, rtol=1e-5)
        assert row[:length].mean(0).abs().max() < 1e-5 and not row[length:].any()


def test_rate_is_fixed_and_nothing_is_stored() -> None:
    frontend = SpeakerFbank()
    assert (frontend.fs, frontend.output_size(), len(frontend.state_dict())) == (16000, 80, 0)
    with pytest.raises(ConfigError, match="16000, not 8000"):
        SpeakerFbank(fs=8000)
    feats, lengths = frontend(torch.zeros(1, 1), torch.tensor([1]))
    assert feats.shape == (1, 0, 80) and lengths.tolist() == [0]

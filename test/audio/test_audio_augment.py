"""Augmentation on signals with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from funasr.audio.augment import (
    add_noise,
    change_speed,
    convolve_rir,
    limit_peak,
    normalise_volume,
    speech_power,
)

FS = 16000


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hz * np.arange(int(seconds * FS)) / FS)).astype(np.float32)


def noise(samples: int, channels: int | None = None) -> np.ndarray:
    shape = (samples,) if channels is None else (samples, channels)
    return np.random.default_rng(1).normal(0, 0.1, shape).astype(np.float32)


def test_power_leaves_silence_out() -> None:
    speech = np.concatenate([np.zeros(40 * 512, np.float32), tone(1000)])
    assert speech_power(speech) == pytest.approx(0.125, rel=0.03)
    assert speech_power(tone(1000)[:500]) == pytest.approx(0.125, rel=0.03)
    assert speech_power(np.zeros(5000, np.float32)) == 0.0
    assert speech_power(speech[:0]) == 0.0


@pytest.mark.parametrize("noise_samples", [FS, 3 * FS, 777, 1])
@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 15.0])
def test_measured_snr_is_the_asked_one(noise_samples: int, snr_db: float) -> None:
    speech = tone(440)
    noisy = add_noise(speech, noise(noise_samples), snr_db, np.random.default_rng(0))
    added = noisy.astype(np.float64) - speech
    measured = 10 * np.log10(speech_power(speech) / np.mean(added**2))
    assert measured == pytest.approx(snr_db, abs=0.01)
    assert noisy.dtype == np.float32


def test_noise_depends_on_the_generator_alone() -> None:
    speech, long = tone(440), noise(3 * FS)
    first, again, other = (add_noise(speech, long, 5.0, np.random.default_rng(seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(speech, tone(440))


def test_noise_channels_and_silence() -> None:
    rng = np.random.default_rng(0)
    stereo = np.stack([tone(440), tone(550)], 1)
    assert add_noise(stereo, noise(FS), 5.0, rng).shape == (FS, 2)
    assert add_noise(stereo, noise(FS, 2), 5.0, rng).shape == (FS, 2)
    assert add_noise(tone(440), noise(FS, 2), 5.0, rng).shape == (FS,)
    np.testing.assert_array_equal(add_noise(stereo, np.zeros(FS, np.float32), 5.0, rng), stereo)
    np.testing.assert_array_equal(add_noise(0 * stereo, noise(FS), 5.0, rng), 0 * stereo)


@pytest.mark.parametrize("delay", [0, 160])
def test_delta_rir_is_identity(delay: int) -> None:
    rir = np.zeros(400, np.float32)
    rir[delay] = 0.3
    for speech in (tone(440), np.stack([tone(440), tone(550)], 1)):
        np.testing.assert_allclose(convolve_rir(speech, rir), speech, atol=1e-6)


def test_rir_is_convolution_with_power_restored() -> None:
    speech, rir = noise(3000), noise(200) * np.exp(-np.arange(200, dtype=np.float32) / 30)
    wet = convolve_rir(speech, rir)
    delay = int(np.abs(rir).argmax())
    expected = np.convolve(speech, rir)[delay : delay + 3000]
    np.testing.assert_allclose(wet / wet.std(), expected / expected.std(), atol=1e-4)
    assert speech_power(wet) == pytest.approx(speech_power(speech), rel=1e-4)
    assert wet.dtype == np.float32
    assert convolve_rir(speech, np.stack([rir, 0.5 * rir], 1)).shape == (3000, 2)
    np.testing.assert_array_equal(convolve_rir(speech, 0 * rir), speech)


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_changes_pitch_and_length(factor: float) -> None:
    fast = change_speed(tone(440), factor, FS)
    assert len(fast) == pytest.approx(FS / factor, abs=1)
    spectrum = np.abs(np.fft.rfft(fast * np.hanning(len(fast)), 8 * FS))
    assert spectrum.argmax() / 8 == pytest.approx(440 * factor, abs=0.5)
    assert change_speed(np.stack([tone(440)] * 2, 1), factor, FS).shape == (len(fast), 2)
    np.testing.assert_array_equal(change_speed(tone(440), 1.0, FS), tone(440))
    with pytest.raises(ValueError, match="factor"):
        change_speed(tone(440), 0.0, FS)


def test_volume_and_peak() -> None:
    assert np.abs(normalise_volume(tone(440), 0.9)).max() == pytest.approx(0.9)
    assert not normalise_volume(np.zeros(10, np.float32), 0.9).any()
    assert np.abs(limit_peak(4 * tone(440))).max() == pytest.approx(1.0)
    np.testing.assert_array_equal(limit_peak(tone(440)), tone(440))

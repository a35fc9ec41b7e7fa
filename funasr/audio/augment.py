"""Waveform augmentation: pure functions on (samples,) or (samples, channels) float32; randomness is the caller's."""

from __future__ import annotations

import numpy as np

from funasr.audio.resample import resample

POWER_FRAME, POWER_HOP = 1024, 512  # samples
SILENCE_RATIO = 0.01  # of the mean power: frames below it are silence


def speech_power(wave: np.ndarray) -> float:
    """Mean square of the frames that are not silent (power above 1 % of the mean), over all channels."""
    if len(wave) == 0:
        return 0.0
    squares = np.square(wave, dtype=np.float64)
    squares = squares.mean(1) if wave.ndim == 2 else squares
    if len(squares) < POWER_FRAME:
        return float(squares.mean())
    sums = np.concatenate([[0.0], np.cumsum(squares)])
    starts = np.arange(0, len(squares) - POWER_FRAME + 1, POWER_HOP)
    power = (sums[starts + POWER_FRAME] - sums[starts]) / POWER_FRAME
    loud = power > SILENCE_RATIO * power.mean()
    return float(power[loud].mean()) if loud.any() else 0.0


def add_noise(speech: np.ndarray, noise: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Speech with a random part of `noise` added, so that speech power / noise power is `snr_db`.

    Noise longer than the speech is cut at a random offset, shorter noise is repeated from a random offset. If the
    numbers of channels differ, the mean of the noise's channels is added to each of the speech. Silent speech or
    noise leaves the speech as it is.
    """
    if len(noise) == 0 or len(speech) == 0:
        return speech
    if noise.ndim == 2 and noise.shape[1:] != speech.shape[1:]:
        noise = noise.mean(1)
    part = random_stretch(noise, len(speech), rng)
    noise_power = float(np.square(part, dtype=np.float64).mean())
    power = speech_power(speech)
    if noise_power == 0.0 or power == 0.0:
        return speech
    if part.ndim < speech.ndim:
        part = part[:, None]
    gain = 10 ** (-snr_db / 20) * np.sqrt(power / noise_power)
    return (speech + np.float32(gain) * part).astype(np.float32)


def random_stretch(wave: np.ndarray, length: int, rng: np.random.Generator) -> np.ndarray:
    """`length` samples of a wave: cut at a random offset, or repeated from one if the wave is shorter."""
    if len(wave) >= length:
        offset = int(rng.integers(len(wave) - length + 1))
        return wave[offset : offset + length]
    return wave[(int(rng.integers(len(wave))) + np.arange(length)) % len(wave)]


def convolve_rir(speech: np.ndarray, rir: np.ndarray) -> np.ndarray:
    """Speech as heard in a room with impulse response `rir`, as long, as loud and in time with the original.

    The strongest tap (over all channels) is taken as the direct path and lands on delay 0, so time stamps stay right.
    One channel of speech in a room with several microphones gives several channels.
    """
    if len(speech) == 0 or not np.any(rir):
        return speech
    strength = np.abs(rir) if rir.ndim == 1 else np.abs(rir).max(1)
    delay = int(strength.argmax())
    dry = speech[:, None] if speech.ndim < rir.ndim else speech
    taps = rir[:, None] if rir.ndim < speech.ndim else rir
    size = 1 << (len(dry) + len(taps) - 2).bit_length()
    wet = np.fft.irfft(np.fft.rfft(dry, size, axis=0) * np.fft.rfft(taps, size, axis=0), size, axis=0)
    wet = wet[delay : delay + len(speech)]
    power = speech_power(wet)
    gain = np.sqrt(speech_power(speech) / power) if power > 0 else 1.0
    return (wet * gain).astype(np.float32)


def change_speed(wave: np.ndarray, factor: float, fs: int) -> np.ndarray:
    """Play `factor` times as fast at the same rate `fs` (Hz): pitch rises with it, the length is divided by it."""
    if factor <= 0:
        raise ValueError(f"speed factor must be positive, not {factor}")
    return resample(wave, round(fs * factor), fs)


def normalise_volume(wave: np.ndarray, peak: float) -> np.ndarray:
    """Scale so that the largest magnitude is `peak`; silence stays silence."""
    largest = float(np.abs(wave).max(initial=0.0))
    return (wave * np.float32(peak / largest)).astype(np.float32) if largest > 0 else wave


def limit_peak(wave: np.ndarray, peak: float = 1.0) -> np.ndarray:
    """Scale down to a largest magnitude of `peak`, only if it is exceeded."""
    return normalise_volume(wave, peak) if np.abs(wave).max(initial=0.0) > peak else wave

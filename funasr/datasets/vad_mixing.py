"""What a voice activity detector is trained on: speech at known places among silence, noise and music.

Every sample is mixed anew in each epoch; what is drawn depends on (seed, epoch, id) and on nothing else, so neither
the number of loader processes nor their order matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from funasr.audio.augment import change_speed, convolve_rir, limit_peak, normalise_volume, random_stretch, speech_power
from funasr.datasets.audio_files import AudioFiles
from funasr.datasets.preprocessor import parse_db_range
from funasr.datasets.rng import keyed_generator
from funasr.datasets.vad_labels import parse_segments
from funasr.metrics.vad import span_frames
from funasr.register import tables
from funasr.utils.errors import ConfigError, DamagedUtteranceError

LABEL_SLACK = 3  # frames that labels and audio may differ by: tools disagree about the last ones
ALONE_DB = (-50.0, -12.0)  # level of noise without speech, relative to full scale
FADE_S = 0.02
LEAST_EVENT_S = 0.5
NOISE_SPEED = (0.75, 1.35)  # noises are played faster or slower, so that few files are many sounds
PART_PROB = 0.4  # how often a noise sounds only for a part of the sample


@dataclass(frozen=True)
class FrameGrid:
    """How a front end cuts audio: `window` and `shift` in samples, every `stride`-th frame kept."""

    fs: int
    window: int
    shift: int
    stride: int = 1

    def rows(self, samples: int) -> int:
        """Rows of features that `samples` give."""
        frames = 0 if samples < 2 else 1 + max(0, samples - self.window) // self.shift
        return -(-frames // self.stride)


@dataclass(frozen=True)
class NoiseSource:
    """A list of files that is mixed in with probability `prob`, at a signal-to-noise ratio between two bounds in dB."""

    files: AudioFiles
    prob: float
    snr_db: tuple[float, float]


@tables.register("preprocessor_classes", "VADPreprocessor", aliases=("vad",))
class VADPreprocessor:
    """`(id, name -> value) -> name -> value`: `speech` mixed, and `text`, the label of each of its frames.

    Labels come as `segments`, `[[start_ms, end_ms], ...]` (0: silence, 1: speech), or as `target`, one unit for each
    frame, e.g. of a forced alignment.  In training a sample goes through, in this order: speed, cut or filled up with
    silence to `mix_length`, reverberation, noises, volume, peak limited to 1.

    Args:
        train: whether to mix.
        grid: frames of the front end.
        mix_length: length of a sample in s; None leaves the length alone.
        mix: `LIST,PROB,LOW_HIGH` each: files, how often one of them is mixed in, signal-to-noise ratio in dB.
        noise_alone_prob: how often the speech is left out, so that only noise remains.
        gain_db_range: the volume is changed by a number of dB between these, "low_high".
        silence: the unit of frames in which nothing is said; units: how many there are.
        seed: of all that is drawn.
        speed_perturb, speech_volume_normalize, rir_scp, rir_apply_prob: as in CommonPreprocessor.
        noise_scp, noise_apply_prob, noise_db_range: one more noise list.
    """

    def __init__(
        self,
        train: bool,
        grid: FrameGrid,
        mix_length: float | None = None,
        mix: Sequence[str] = (),
        noise_alone_prob: float = 0.0,
        gain_db_range: str | float = "0",
        silence: int = 0,
        units: int | None = None,
        seed: int = 0,
        speed_perturb: Sequence[float] = (),
        speech_volume_normalize: float | None = None,
        rir_scp: str | Path | None = None,
        rir_apply_prob: float = 1.0,
        noise_scp: str | Path | None = None,
        noise_apply_prob: float = 1.0,
        noise_db_range: str | float = "13_15",
    ) -> None:
        probs = {"rir_apply_prob": rir_apply_prob, "noise_alone_prob": noise_alone_prob}
        for name, value in (*probs.items(), ("noise_apply_prob", noise_apply_prob)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must be between 0 and 1, not {value}")
        if any(factor <= 0 for factor in speed_perturb):
            raise ConfigError(f"speed_perturb factors must be above 0, not {list(speed_perturb)}")
        if mix_length is not None and mix_length < 1:
            raise ConfigError(f"mix_length is in s and at least 1, not {mix_length}")
        self.train = train
        self.grid = grid
        self.mix_frames = None if mix_length is None else round(mix_length * grid.fs / grid.shift)
        self.speed_perturb = list(speed_perturb)
        self.rirs = AudioFiles(rir_scp if train else None, "rir_scp", grid.fs)
        self.rir_apply_prob = rir_apply_prob
        self.noises = [_noise_source(text, grid.fs) for text in mix] if train else []
        if noise_scp is not None and train:
            files = AudioFiles(noise_scp, "noise_scp", grid.fs)
            self.noises.append(NoiseSource(files, noise_apply_prob, parse_db_range(noise_db_range)))
        self.noise_alone_prob = noise_alone_prob
        if noise_alone_prob and train and not self.noises:
            raise ConfigError("noise_alone_prob needs a list of noises (--mix LIST,PROB,LOW_HIGH, or --noise_scp)")
        self.speech_volume_normalize = speech_volume_normalize
        self.gain_db_range = parse_db_range(gain_db_range)
        self.silence, self.units = silence, units
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw anew for this epoch."""
        self.epoch = epoch

    def __call__(self, uid: str, values: dict[str, Any]) -> dict[str, Any]:
        """Raises DamagedUtteranceError for labels that cannot be read or do not fit the audio."""
        values = dict(values)
        speech = values["speech"]
        speech = speech.mean(axis=1) if speech.ndim == 2 else speech
        labels = self._labels(len(speech), values)
        if self.train:
            speech, labels = self._mix(speech, labels, keyed_generator(self.seed, self.epoch, uid))
        if self.speech_volume_normalize is not None:
            speech = normalise_volume(speech, self.speech_volume_normalize)
        rows = self.grid.rows(len(speech))
        return {**values, "speech": speech, "text": labels[:: self.grid.stride][:rows]}

    def _labels(self, samples: int, values: dict[str, Any]) -> np.ndarray:
        """One label for each step of `shift` samples, the last one begun included; takes its source out of values."""
        steps = -(-samples // self.grid.shift)
        segments, target = values.pop("segments", None), values.pop("target", None)
        if segments is not None:
            try:
                spans = parse_segments(segments)
            except ValueError as error:
                raise DamagedUtteranceError(f"segments: {error}") from None
            if spans and spans[-1][1] > samples / self.grid.fs + self.grid.shift * LABEL_SLACK / self.grid.fs:
                raise DamagedUtteranceError(
                    f"segments until {spans[-1][1]:.3f} s, but the audio lasts {samples / self.grid.fs:.3f} s"
                )
            return span_frames(spans, steps, self.grid.shift / self.grid.fs).astype(np.int64)
        if target is None:
            raise ConfigError("labels are missing: give --train_data_path_and_name_and_type FILE,segments,text")
        target = np.asarray(target).reshape(-1)
        if target.dtype.kind not in "iu":
            raise DamagedUtteranceError(f"target holds {target.dtype}, not unit numbers")
        if self.units is not None and target.max(initial=0) >= self.units:
            raise DamagedUtteranceError(f"target has unit {target.max()}; the units are 0..{self.units - 1}")
        frames = self.grid.rows(samples) * self.grid.stride
        if not len(target) or abs(len(target) - frames) > LABEL_SLACK + self.grid.stride:
            raise DamagedUtteranceError(
                f"target has {len(target)} labels, but the audio has {frames} frames of "
                f"{1000 * self.grid.shift / self.grid.fs:g} ms"
            )
        return target[np.minimum(np.arange(steps), len(target) - 1)].astype(np.int64)

    def _mix(self, speech: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if self.speed_perturb:
            factor = self.speed_perturb[int(rng.integers(len(self.speed_perturb)))]
            if factor != 1.0:
                speech = change_speed(speech, factor, self.grid.fs)
                steps = np.arange(-(-len(speech) // self.grid.shift))
                labels = labels[np.minimum(((steps + 0.5) * factor).astype(np.int64), len(labels) - 1)]
        if self.mix_frames is not None:
            speech, labels = self._place(speech, labels, rng)
        alone = rng.random() < self.noise_alone_prob
        if alone:
            speech, labels = np.zeros_like(speech), np.full_like(labels, self.silence)
        elif self.rirs and rng.random() < self.rir_apply_prob:
            rir = self.rirs.read(self.rirs.choose(rng), mono=True)
            speech = speech if rir is None else convolve_rir(speech, rir)
        speech = self._add_noises(speech, alone, rng)
        gain_db = float(rng.uniform(*self.gain_db_range))
        return limit_peak((speech * np.float32(10 ** (gain_db / 20))).astype(np.float32)), labels

    def _place(self, speech: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A random stretch of `mix_frames` steps, or all of the speech at a random place in as much silence."""
        assert self.mix_frames is not None
        shift, length = self.grid.shift, self.mix_frames * self.grid.shift
        spare = self.mix_frames - len(labels)
        if spare <= 0:
            first = int(rng.integers(1 - spare))
            speech, labels = speech[first * shift : first * shift + length], labels[first : first + self.mix_frames]
            return np.pad(speech, (0, length - len(speech))), labels
        first = int(rng.integers(spare + 1))
        placed = np.zeros(length, dtype=np.float32)
        placed[first * shift : first * shift + len(speech)] = speech
        around = np.full(self.mix_frames, self.silence, dtype=np.int64)
        around[first : first + len(labels)] = labels
        return placed, around

    def _add_noises(self, speech: np.ndarray, alone: bool, rng: np.random.Generator) -> np.ndarray:
        power = speech_power(speech)
        wanted = [rng.random() < noise.prob for noise in self.noises]
        if alone and not any(wanted):
            wanted[int(rng.integers(len(wanted)))] = True
        for noise in (noise for noise, used in zip(self.noises, wanted) if used):
            wave = noise.files.read(noise.files.choose(rng), mono=True, longest=len(speech), rng=rng)
            snr_db, level_db = float(rng.uniform(*noise.snr_db)), float(rng.uniform(*ALONE_DB))
            if wave is None or not len(wave):
                continue
            sound = random_stretch(_at_speed(wave, float(rng.uniform(*NOISE_SPEED))), len(speech), rng)
            sound_power = float(np.square(sound, dtype=np.float64).mean())
            if sound_power > 0:
                target = power * 10 ** (-snr_db / 10) if power > 0 else 10 ** (level_db / 10)
                sound = sound * np.float32(np.sqrt(target / sound_power))
                speech = (speech + sound * self._envelope(len(speech), rng)).astype(np.float32)
        return speech

    def _envelope(self, length: int, rng: np.random.Generator) -> np.ndarray | np.float32:
        """One throughout, or one within a random stretch with soft edges and zero around it."""
        least = int(LEAST_EVENT_S * self.grid.fs)
        if rng.random() >= PART_PROB or length <= least:
            return np.float32(1.0)
        duration = int(rng.integers(least, length))
        first = int(rng.integers(length - duration + 1))
        fade = int(FADE_S * self.grid.fs)
        at = np.arange(length)
        rise, fall = (at - first) / fade, (first + duration - at) / fade
        return np.clip(np.minimum(rise, fall), 0.0, 1.0).astype(np.float32)


def _at_speed(wave: np.ndarray, factor: float) -> np.ndarray:
    """A noise played `factor` times as fast; linear interpolation, for what it adds is noise as well."""
    places = np.arange(0, len(wave) - 1, factor)
    return np.interp(places, np.arange(len(wave)), wave).astype(np.float32) if len(places) else wave


def _noise_source(text: str, fs: int) -> NoiseSource:
    """`LIST,PROB,LOW_HIGH`, e.g. `data/noise.scp,0.5,0_20`."""
    parts = [part.strip() for part in text.split(",")]
    try:
        path, prob, snr_db = parts[0], float(parts[1]), parse_db_range(parts[2])
    except (IndexError, ValueError):
        raise ConfigError(f"mix '{text}' must read LIST,PROB,LOW_HIGH, e.g. data/noise.scp,0.5,0_20") from None
    if len(parts) != 3 or not 0 <= prob <= 1:
        raise ConfigError(f"mix '{text}': LIST,PROB,LOW_HIGH with a probability between 0 and 1")
    return NoiseSource(AudioFiles(path, "mix", fs), prob, snr_db)

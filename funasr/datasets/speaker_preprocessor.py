"""From utterances to what a speaker classifier is fed: crops of one length, augmented, and the classes of speakers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from funasr.audio.augment import change_speed
from funasr.datasets.rng import keyed_generator
from funasr.utils.errors import ConfigError, DamagedUtteranceError, DataError

SHORTEST_S = 0.1  # below: nothing to tell a speaker by, however often it is repeated


def speeds_of(speed_perturb: Sequence[float]) -> list[float]:
    """Each speed once, in the order of their classes: the original, 1.0, first, then the others ascending.

    Raises ConfigError for a speed that is not above 0.
    """
    if any(factor <= 0 for factor in speed_perturb):
        raise ConfigError(f"--speed_perturb: factors must be above 0, not {list(speed_perturb)}")
    return [1.0, *sorted({float(factor) for factor in speed_perturb} - {1.0})]


class SpeakerPreprocessor:
    """`(id, {speech, speaker}) -> {speech, speaker}` for training a speaker model.

    In training: a random crop, played at a random one of the speeds, then augmented.  Speech at another speed sounds
    like another person and counts as one: of N speakers, speed number k of speaker i is class i + k * N.
    In validation: the middle of the utterance as it is.  A crop that is longer than the utterance repeats it.
    What is drawn depends on (seed, epoch, id) and on nothing else.

    Args:
        speakers: names, in the order of the classes.
        crop_s: length of a crop in s.
        fs: of the speech in Hz.
        speeds: from `speeds_of`.
        augment: what is done to the crop: `(id, {"speech": ...}) -> {"speech": ...}`.
        train: whether to draw crops and speeds.
        seed: of all that is drawn.
    """

    def __init__(
        self,
        speakers: Sequence[str],
        crop_s: float,
        fs: int,
        speeds: Sequence[float] = (1.0,),
        augment: Callable[[str, dict[str, Any]], dict[str, Any]] | None = None,
        train: bool = True,
        seed: int = 0,
    ) -> None:
        if crop_s < SHORTEST_S:
            raise ConfigError(f"--crop_s {crop_s} is too short; a crop has at least {SHORTEST_S} s")
        self.classes: Mapping[str, int] = {name: i for i, name in enumerate(speakers)}
        self.crop = round(crop_s * fs)
        self.fs = fs
        self.speeds = list(speeds) if train else [1.0]
        self.augment = augment
        self.train = train
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw anew for this epoch."""
        self.epoch = epoch
        set_epoch = getattr(self.augment, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)

    def __call__(self, uid: str, values: dict[str, Any]) -> dict[str, Any]:
        """Raises DamagedUtteranceError for speech that is too short or silent, DataError for an unknown speaker."""
        name = values["speaker"]
        if name not in self.classes:
            raise DataError(f"speaker '{name}' of {uid} is none of the {len(self.classes)} training speakers")
        speech = np.asarray(values["speech"], dtype=np.float32)
        speech = speech.mean(axis=1) if speech.ndim == 2 else speech
        if len(speech) < SHORTEST_S * self.fs:
            raise DamagedUtteranceError(
                f"{len(speech) / self.fs:.3f} s are too short to tell a speaker by; at least {SHORTEST_S} s are needed"
            )
        if not speech.any():
            raise DamagedUtteranceError("digital silence: no speaker to be heard")
        crop, speed = self._draw(uid, speech) if self.train else (_middle(speech, self.crop), 0)
        if self.augment is not None:
            crop = self.augment(uid, {"speech": crop})["speech"]
        return {"speech": crop, "speaker": np.array([self.classes[name] + speed * len(self.classes)])}

    def _draw(self, uid: str, speech: np.ndarray) -> tuple[np.ndarray, int]:
        """A random crop at a random speed, and the number of the speed."""
        rng = keyed_generator(self.seed, self.epoch, uid, "crop")
        number = int(rng.integers(len(self.speeds)))
        factor = self.speeds[number]
        wanted = round(self.crop * factor)
        start = int(rng.integers(max(0, len(speech) - wanted) + 1))
        part = speech[start : start + wanted]
        if not part.any():  # a pause of digital silence has no deviation that a gradient could flow through
            start = max(0, int(np.flatnonzero(speech)[0]) - wanted // 2)
            part = speech[start : start + wanted]
        if factor != 1.0:
            part = change_speed(part, factor, self.fs)
        return _repeated(part, self.crop), number


def _middle(speech: np.ndarray, length: int) -> np.ndarray:
    start = max(0, len(speech) - length) // 2
    return _repeated(speech[start : start + length], length)


def _repeated(speech: np.ndarray, length: int) -> np.ndarray:
    """Exactly `length` samples: what is shorter is said again."""
    return speech[:length] if len(speech) >= length else np.resize(speech, length)

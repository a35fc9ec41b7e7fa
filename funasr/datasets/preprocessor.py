"""From raw values to what the model is fed: waveform augmentation, and transcripts to token ids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funasr.audio.augment import add_noise, change_speed, convolve_rir, limit_peak, normalise_volume
from funasr.datasets.audio_files import AudioFiles
from funasr.datasets.rng import keyed_generator
from funasr.register import tables
from funasr.text.cleaner import TextCleaner
from funasr.tokenizers.build import build_tokenizer_from_type
from funasr.utils.errors import ConfigError

MAX_DB = 150.0  # more than the range of any audio


@tables.register("preprocessor_classes", "CommonPreprocessor", aliases=("common",))
class CommonPreprocessor:
    """`(id, name -> value) -> name -> value`: `speech` augmented, `text` as int64 token ids; other values as they are.

    Speech goes through, in this order: fold to one channel, speed, reverberation, noise, peak limited to 1, volume.
    Speed, reverberation and noise only with `train`.  What is drawn depends on (seed, epoch, id) and on nothing else.

    Args:
        train: whether to augment.
        token_type: char, word, bpe or phn; None leaves text alone.
        token_list, bpemodel, g2p_type, unk_symbol, space_symbol, non_linguistic_symbols, delimiter, split_with_space,
            seg_dict_file: of the tokenizer, see `funasr.tokenizers.build`.
        text_cleaner: one or several of `funasr.text.cleaner.CLEANER_TYPES`.
        rir_scp, noise_scp: lists of files, `path` or `id path` per line.
        rir_apply_prob, noise_apply_prob: how often.
        noise_db_range: signal-to-noise ratio in dB, "low_high" or one value.
        speech_volume_normalize: peak of the waveform; None leaves the volume alone.
        speed_perturb: speed factors, one drawn for each utterance, e.g. [0.9, 1.0, 1.1].
        force_single_channel: average the channels; without it (samples, channels) goes on to the model.
        fs: rate of the speech in Hz, at which noise and impulse responses are read too.
        speech_name, text_name: which values are meant.
        seed: of all that is drawn.
    """

    def __init__(
        self,
        train: bool,
        token_type: str | None = None,
        token_list: str | Path | Sequence[str] | None = None,
        bpemodel: str | Path | None = None,
        text_cleaner: str | Sequence[str] | None = None,
        g2p_type: str | None = None,
        unk_symbol: str = "<unk>",
        space_symbol: str = "<space>",
        non_linguistic_symbols: str | Path | Sequence[str] | None = None,
        delimiter: str | None = None,
        split_with_space: bool = False,
        seg_dict_file: str | Path | None = None,
        rir_scp: str | Path | None = None,
        rir_apply_prob: float = 1.0,
        noise_scp: str | Path | None = None,
        noise_apply_prob: float = 1.0,
        noise_db_range: str | float = "13_15",
        speech_volume_normalize: float | None = None,
        speed_perturb: Sequence[float] | None = None,
        force_single_channel: bool = True,
        fs: int = 16000,
        speech_name: str = "speech",
        text_name: str = "text",
        seed: int = 0,
    ) -> None:
        self.train = train
        self.cleaner = TextCleaner(text_cleaner)
        self.tokenizer = None
        if token_type is not None:
            self.tokenizer = build_tokenizer_from_type(
                token_type, token_list, bpemodel, unk_symbol=unk_symbol, space_symbol=space_symbol,
                non_linguistic_symbols=non_linguistic_symbols, split_with_space=split_with_space,
                seg_dict_file=seg_dict_file, delimiter=delimiter, g2p_type=g2p_type,
            )  # fmt: skip
        for name, value in (("rir_apply_prob", rir_apply_prob), ("noise_apply_prob", noise_apply_prob)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must be between 0 and 1, not {value}")
        if any(factor <= 0 for factor in speed_perturb or ()):
            raise ConfigError(f"speed_perturb factors must be above 0, not {speed_perturb}")
        self.rirs = AudioFiles(rir_scp if train else None, "rir_scp", fs)
        self.noises = AudioFiles(noise_scp if train else None, "noise_scp", fs)
        self.rir_apply_prob = rir_apply_prob
        self.noise_apply_prob = noise_apply_prob
        self.noise_db_low, self.noise_db_high = parse_db_range(noise_db_range)
        self.speech_volume_normalize = speech_volume_normalize
        self.speed_perturb = list(speed_perturb or ()) if train else []
        self.force_single_channel = force_single_channel
        self.fs = fs
        self.speech_name = speech_name
        self.text_name = text_name
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw anew for this epoch."""
        self.epoch = epoch

    def __call__(self, uid: str, values: dict[str, Any]) -> dict[str, Any]:
        values = dict(values)
        speech = values.get(self.speech_name)
        if isinstance(speech, np.ndarray) and speech.dtype.kind == "f":
            values[self.speech_name] = self._process_speech(uid, speech)
        text = values.get(self.text_name)
        if isinstance(text, str) and self.tokenizer is not None:
            ids = self.tokenizer.encode(self.cleaner(text))
            values[self.text_name] = np.array(ids, dtype=np.int64)
        return values

    def _process_speech(self, uid: str, speech: np.ndarray) -> np.ndarray:
        if speech.ndim == 2 and self.force_single_channel:
            speech = speech.mean(axis=1)
        if self.train:
            speech = self._augment(speech, keyed_generator(self.seed, self.epoch, uid))
        if self.speech_volume_normalize is not None:
            speech = normalise_volume(speech, self.speech_volume_normalize)
        return speech

    def _augment(self, speech: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.speed_perturb:
            factor = self.speed_perturb[int(rng.integers(len(self.speed_perturb)))]
            if factor != 1.0:
                speech = change_speed(speech, factor, self.fs)
        changed = False
        if self.rirs and rng.random() < self.rir_apply_prob:
            rir = self.rirs.read(self.rirs.choose(rng), mono=self.force_single_channel)
            if rir is not None:
                speech, changed = convolve_rir(speech, rir), True
        if self.noises and rng.random() < self.noise_apply_prob:
            path = self.noises.choose(rng)
            snr_db = float(rng.uniform(self.noise_db_low, self.noise_db_high))
            noise = self.noises.read(path, mono=speech.ndim == 1, longest=len(speech), rng=rng)
            if noise is not None:
                speech, changed = add_noise(speech, noise, snr_db, rng), True
        return limit_peak(speech) if changed else speech


def parse_db_range(text: str | float) -> tuple[float, float]:
    """ "13_15" -> (13, 15); "10" or 10 -> (10, 10); a low bound may be negative."""
    words = str(text).split("_")
    try:
        low, high = float(words[0]), float(words[-1])
    except ValueError:
        raise ConfigError(f"noise_db_range '{text}' must be like 13_15 or 10") from None
    if len(words) > 2 or low > high:
        raise ConfigError(f"noise_db_range '{text}' must be low_high, like 13_15")
    if max(abs(low), abs(high)) > MAX_DB:
        raise ConfigError(f"noise_db_range '{text}' is no number of dB; in YAML 13_15 needs quotes, or it reads 1315")
    return low, high

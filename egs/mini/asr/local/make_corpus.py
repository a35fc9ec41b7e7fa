#!/usr/bin/env python3
"""Make the embedded corpus: digit strings and sentences (see ../../local/grammar.py) spoken by eSpeak NG, with noise.

A voice is an accent with a speaker variant; no variant is used in two sets, so dev and test are voices never heard
in training, and what they say is not said in training either.  Beside `text`, which has no marks, stands `text_punc`
with marks and capitals.  Every voice is synthesised in a process of its own: eSpeak keeps the state of its random
flutter from one utterance to the next, and a fresh process is what makes two runs give the same bytes.

    local/make_corpus.py --output_dir data --num_train 2500 --num_dev 160 --num_test 320

egs/mini/vad and the demo's recording take their voices, texts and noises from here.
"""

from __future__ import annotations

import argparse
import ctypes
import multiprocessing
import os
import shutil
import sys
import wave
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "local"))
from grammar import DIGITS, bare, can_clash, draw_sentence, written

DIGITS_SHARE = 0.3  # how often an utterance is a digit string
NEXT_SHARE, MAX_SENTENCES = 0.35, 4  # how often a sentence is followed by another one
AROUND_S, BETWEEN_S = (0.05, 0.7), (0.1, 0.9)  # pauses before and behind an utterance, and between sentences
HESITATION, DIGIT_HESITATION = 0.05, 0.25  # how often there is a pause between two words, and between two digits
ACCENTS = {
    "us": "en-us",
    "gb": "gmw/en",
    "sc": "en-gb-scotland",
    "wi": "en-029",
    "rp": "en-gb-x-rp",
    "la": "en-gb-x-gbclan",
    "wm": "en-gb-x-gbcwmd",
    "ny": "en-us-nyc",
}
# Clear variants only: no whisper, croak, robots or clipped ones, and none with `breath` (eSpeak draws it anew in each
# run, so the corpus would not be the same twice).
TRAIN_VARIANTS = (  # noqa: SIM905 - a table of names reads best as words
    "m1 f1 m2 f4 m4 Annie m5 Andrea m7 aunty m8 grandma Alex shelby adam steph benjamin boris david ed klatt3 gustave "
    "zac ian john marcelo max michel miguel norbert pablo paul travis robert Hugo Diogo Lee f1 f4 Annie Andrea grandma "
    "aunty steph"
).split()
TRAIN_ACCENTS = 3  # of each variant
SET_VOICES: dict[str, tuple[tuple[str, str], ...]] = {
    "train": tuple(
        dict.fromkeys(
            (list(ACCENTS)[(i + 3 * turn) % len(ACCENTS)], variant)
            for turn in range(TRAIN_ACCENTS)
            for i, variant in enumerate(TRAIN_VARIANTS)
        )
    ),
    "dev": (("us", "m6"), ("gb", "anika"), ("la", "rob"), ("sc", "quincy")),
    "test": (
        ("us", "m3"),
        ("gb", "belinda"),
        ("sc", "edward"),
        ("rp", "linda"),
        ("wi", "Mario"),
        ("wm", "Michael"),
        ("ny", "Denis"),
        ("la", "grandpa"),
    ),
}
BABBLE = (
    ("en-us+m1", "people were talking about the weather and the price of bread"),
    ("en-gb-x-rp+f1", "my neighbour keeps a garden with many old apple trees"),
    ("en-gb-scotland+m4", "they walked along the river until the lamps were lit"),
    ("en-029+f4", "there was music in the hall and laughter on the stairs"),
)
RATE, PITCH, RANGE = 1, 3, 4  # espeak_PARAMETER
SYNCHRONOUS, CHARS_UTF8, POS_CHARACTER = 2, 1, 1
NOISES = ("none", "white", "pink", "hum", "babble")


class Espeak:
    """eSpeak NG through ctypes; `say` gives float samples in [-1, 1] at `rate` Hz."""

    def __init__(self) -> None:
        import espeakng_loader

        self._lib = ctypes.CDLL(espeakng_loader.get_library_path())
        self.rate: int = self._lib.espeak_Initialize(SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), 0)
        if self.rate <= 0:
            raise RuntimeError("eSpeak NG did not start: its data directory could not be read")
        self._chunks: list[np.ndarray] = []

        def collect(samples: ctypes._Pointer[ctypes.c_short], count: int, _events: int | None) -> int:
            if samples and count > 0:
                self._chunks.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
            return 0

        callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
        self._callback = callback(collect)  # kept: the library holds only the bare pointer
        self._lib.espeak_SetSynthCallback(self._callback)

    def say(self, voice: str, text: str, rate: int = 170, pitch: int = 50, pitch_range: int = 50) -> np.ndarray:
        """Speak `text`; `rate` in words per minute, `pitch` and `pitch_range` 0-100 (50 is normal)."""
        if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
            raise RuntimeError(f"eSpeak NG has no voice '{voice}'")
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, pitch_range)):
            self._lib.espeak_SetParameter(parameter, value, 0)
        self._chunks.clear()
        encoded = text.encode()
        self._lib.espeak_Synth(encoded, len(encoded) + 1, 0, POS_CHARACTER, 0, CHARS_UTF8, None, None)
        if not self._chunks:
            raise RuntimeError(f"eSpeak NG said nothing for '{text}' with voice '{voice}'")
        return np.concatenate(self._chunks).astype(np.float64) / 32768.0


@dataclass(frozen=True)
class Options:
    """What every voice process needs to know."""

    output_dir: str
    fs: int
    seed: int
    snr_db: tuple[float, float]


def resample(signal: np.ndarray, rate: int, fs: int) -> np.ndarray:
    """Band-limited resampling of a whole utterance by cutting its spectrum (zeros at both ends hide the wrap)."""
    step = rate // int(np.gcd(rate, fs))
    blocks = -(-len(signal) // step) + 1
    padded = np.zeros(blocks * step)
    padded[: len(signal)] = signal
    target = len(padded) * fs // rate
    spectrum = np.fft.rfft(padded)[: target // 2 + 1]
    return np.fft.irfft(spectrum, target) * (target / len(padded))


def trim(signal: np.ndarray) -> np.ndarray:
    """Cut what is below -50 dB of the peak at both ends."""
    loud = np.flatnonzero(np.abs(signal) > np.abs(signal).max() * 10 ** (-50 / 20))
    return signal[loud[0] : loud[-1] + 1]


def make_noise(kind: str, length: int, fs: int, babble: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`length` samples of noise with a mean square of one."""
    if kind == "babble":
        noise = np.roll(np.resize(babble, max(length, len(babble))), int(rng.integers(len(babble))))[:length]
    elif kind == "hum":
        t = np.arange(length) / fs
        harmonics = (rng.choice([50, 60]) * k for k in range(1, 9))
        noise = sum(np.sin(2 * np.pi * (f * t + rng.random())) * rng.random() for f in harmonics)
        noise = noise + 0.05 * rng.standard_normal(length)
    else:
        noise = rng.standard_normal(length)
        if kind == "pink":
            spectrum = np.fft.rfft(noise)
            spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))
            spectrum[0] = 0.0
            noise = np.fft.irfft(spectrum, length)
    return noise / np.sqrt(np.mean(noise**2) + 1e-12)


def draw_utterance(set_name: str, rng: np.random.Generator) -> list[list[str]]:
    """What is said in one utterance: a digit string, or one to four sentences, as words with their marks."""
    if rng.random() < DIGITS_SHARE:
        return [draw_sentence(set_name, rng, "digits")]
    sentences = [draw_sentence(set_name, rng)]
    while len(sentences) < MAX_SENTENCES and rng.random() < NEXT_SHARE:
        following = draw_sentence(set_name, rng)
        if not can_clash(sentences[-1], following):
            sentences.append(following)
    return sentences


def with_pauses(words: list[str], rng: np.random.Generator) -> str:
    """The text for eSpeak: marked words, and a comma where the speaker hesitates."""
    out = []
    for word, following in zip(words, [*words[1:], ""]):
        digits = word in DIGITS and following.rstrip(",.?") in DIGITS
        pause = rng.random() < (DIGIT_HESITATION if digits else HESITATION)
        out.append(word + "," if pause and word[-1] not in ",.?" else word)
    return " ".join(out)


def make_utterance(
    speak: Callable[..., np.ndarray], words: list[str], babble: np.ndarray, options: Options, rng: np.random.Generator
) -> np.ndarray:
    """One utterance, int16 samples at `options.fs`: speech with pauses around it, noise and a random gain."""
    style = {"rate": int(rng.integers(130, 215)), "pitch": int(rng.integers(30, 71))}
    style["pitch_range"] = int(rng.integers(25, 76))
    ends = [0, *(i for i, word in enumerate(words, 1) if word[-1] in ".?" and i < len(words)), len(words)]
    speech = [trim(speak(with_pauses(words[begin:end], rng), **style)) for begin, end in pairwise(ends)]
    level = np.sqrt(np.mean(np.concatenate(speech) ** 2))
    pauses = [AROUND_S, *[BETWEEN_S] * (len(speech) - 1), AROUND_S]
    silences = [np.zeros(int(options.fs * rng.uniform(*bounds))) for bounds in pauses]
    pieces = [piece for pair in zip(silences, speech) for piece in pair]
    mixed = np.concatenate([*pieces, silences[-1]]) / level
    kind = NOISES[int(rng.integers(len(NOISES)))]
    if kind != "none":
        snr_db = rng.uniform(*options.snr_db) + (5.0 if kind == "babble" else 0.0)  # other speech hides more
        mixed = mixed + make_noise(kind, len(mixed), options.fs, babble, rng) * 10 ** (-snr_db / 20)
    gain = 10 ** (rng.uniform(-34, -18) / 20)
    peak = np.abs(mixed).max()
    return np.round(mixed * min(gain, 0.98 / peak) * 32767).astype("<i2")


def write_wav(path: Path, samples: np.ndarray, fs: int) -> None:
    """Mono 16-bit wav."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(fs)
        file.writeframes(samples.tobytes())


@dataclass(frozen=True)
class Row:
    """What the tables of a set say of an utterance."""

    utt: str
    speaker: str
    text: str
    text_punc: str
    path: str


def make_voice(job: tuple[str, str, str, int], options: Options) -> list[Row]:
    """All utterances of one voice."""
    set_name, accent, variant, count = job
    speaker = f"{accent}{variant.lower()}"
    voice = f"{ACCENTS[accent]}+{variant}"
    espeak = Espeak()

    def speak(text: str, name: str = voice, **style: int) -> np.ndarray:
        return resample(espeak.say(name, text, **style), espeak.rate, options.fs)

    voices = [speak(text, name) for name, text in BABBLE]
    babble = np.sum([np.resize(v, max(map(len, voices))) for v in voices], axis=0)
    directory = Path(options.output_dir, "wav", set_name, speaker)
    directory.mkdir(parents=True)
    rows = []
    for number in range(count):
        utt = f"{speaker}-{number:04d}"
        rng = np.random.default_rng([options.seed, zlib.crc32(utt.encode())])
        sentences = draw_utterance(set_name, rng)
        words = [word for sentence in sentences for word in sentence]
        path = directory / f"{utt}.wav"
        write_wav(path, make_utterance(speak, words, babble, options, rng), options.fs)
        rows.append(Row(utt, speaker, " ".join(bare(words)), written(sentences), str(path)))
    return rows


def write_set(directory: Path, rows: list[Row]) -> None:
    """The Kaldi files wav.scp, text, utt2spk and spk2utt of one set, and text_punc, sorted by id."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = sorted(rows, key=lambda row: row.utt)
    speakers: dict[str, list[str]] = {}
    for row in rows:
        speakers.setdefault(row.speaker, []).append(row.utt)
    tables = {
        "wav.scp": [f"{row.utt} {row.path}" for row in rows],
        "text": [f"{row.utt} {row.text}" for row in rows],
        "text_punc": [f"{row.utt} {row.text_punc}" for row in rows],
        "utt2spk": [f"{row.utt} {row.speaker}" for row in rows],
        "spk2utt": [f"{speaker} {' '.join(utts)}" for speaker, utts in sorted(speakers.items())],
    }
    for name, lines in tables.items():
        (directory / name).write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output_dir", default="data", help="gets SET/{wav.scp,text,text_punc,...} and wav/")
    parser.add_argument("--num_train", type=int, default=2500, help="utterances in train")
    parser.add_argument("--num_dev", type=int, default=160, help="utterances in dev")
    parser.add_argument("--num_test", type=int, default=320, help="utterances in test")
    parser.add_argument("--fs", type=int, default=16000, help="sample rate in Hz")
    parser.add_argument("--snr_db", type=float, nargs=2, default=(10.0, 30.0), help="range of the noise level in dB")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="processes")
    args = parser.parse_args()
    shutil.rmtree(Path(args.output_dir, "wav"), ignore_errors=True)
    options = Options(args.output_dir, args.fs, args.seed, tuple(args.snr_db))
    jobs = []
    for name, voices in SET_VOICES.items():
        total = getattr(args, f"num_{name}")
        shares = [total // len(voices) + (i < total % len(voices)) for i in range(len(voices))]
        jobs += [(name, accent, variant, n) for (accent, variant), n in zip(voices, shares) if n]
    # fork: the parent never loads eSpeak, so each child starts from the same fresh state
    with multiprocessing.get_context("fork").Pool(args.nj, maxtasksperchild=1) as pool:
        results = pool.map(partial(make_voice, options=options), jobs, chunksize=1)
    for name, voices in SET_VOICES.items():
        rows = [row for job, made in zip(jobs, results) if job[0] == name for row in made]
        write_set(Path(args.output_dir, name), rows)
        print(f"{name}: {len(rows)} utterances of {min(len(voices), len(rows))} voices")


if __name__ == "__main__":
    main()

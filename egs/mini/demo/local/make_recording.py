#!/usr/bin/env python3
"""Make a long recording: voices of the embedded corpus take turns, with pauses and noises between them.

    local/make_recording.py --output_dir data --seconds 150

Writes recording.wav, recording.rttm (who speaks when) and said.jsonl: start, end (s), speaker and text of each
sentence.  Nothing in it was heard in training: neither the voices nor the sentences of three or more words.
`--set dev` takes the voices and sentences of dev, to choose settings with.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

sys.path.extend(str(Path(__file__).resolve().parents[2] / name) for name in ("asr/local", "local"))
from grammar import draw_text, written
from make_corpus import ACCENTS, BABBLE, SET_VOICES, Espeak, make_noise, resample, trim, write_wav

from funasr.utils.rttm import Turn, write_rttm

BETWEEN_SENTENCES_S, BETWEEN_TURNS_S, LONG_PAUSE_S = (0.3, 0.9), (0.6, 2.2), (4.0, 6.0)
LONG_PAUSE_EVERY = 5  # turns; there is a noise in it
NOISE_DB = (-9.0, -3.0)  # its level against speech
SECTION_S = 15.0  # how long a background lasts
BACKGROUND_DB = (-30.0, -20.0)
SPEECH_LEVEL = 0.06  # root mean square, full scale is 1


@dataclass(frozen=True)
class Said:
    """One sentence of the recording, times in s."""

    start: float
    end: float
    speaker: str
    text: str


def draw_turns(set_name: str, rng: np.random.Generator) -> Iterator[tuple[tuple[str, str], list[list[str]]]]:
    """Who speaks next (accent, variant), and one to three sentences as words with their marks; without end."""
    sentences = iter(draw_text(set_name, 1000, rng))
    speakers = list(SET_VOICES[set_name])
    while True:
        for index in rng.permutation(len(speakers)):
            yield speakers[index], [next(sentences) for _ in range(int(rng.integers(1, 4)))]


def make_burst(length: int, fs: int, rng: np.random.Generator) -> np.ndarray:
    """A noise that is no speech, mean square 1: knocks, a hiss or a hum, each coming and going."""
    kind = ("knocks", "white", "hum", "pink")[int(rng.integers(4))]
    if kind == "knocks":
        burst = np.zeros(length)
        for start in range(0, length - fs // 4, fs // 3):
            decay = np.exp(-np.arange(fs // 5) / (0.02 * fs))
            burst[start : start + len(decay)] += decay * rng.standard_normal(len(decay))
    else:
        burst = make_noise(kind, length, fs, np.zeros(0), rng)
    burst *= np.hanning(length) ** 0.25
    return burst / np.sqrt(np.mean(burst**2))


def make_background(length: int, fs: int, babble: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noise below the speech, of another kind every SECTION_S; relative to a mean square of 1."""
    parts = []
    for number, start in enumerate(range(0, length, int(SECTION_S * fs))):
        kind = ("white", "pink", "babble", "hum")[number % 4]
        size = min(int(SECTION_S * fs), length - start)
        level = rng.uniform(*BACKGROUND_DB) - (5.0 if kind == "babble" else 0.0)
        parts.append(make_noise(kind, size, fs, babble, rng) * 10 ** (level / 20))
    return np.concatenate(parts)


def make_recording(set_name: str, seconds: float, fs: int, seed: int) -> tuple[np.ndarray, list[Said]]:
    """int16 samples of at least `seconds`, and what is said in them."""
    rng = np.random.default_rng(seed)
    espeak = Espeak()

    def speak(voice: str, text: str, **style: int) -> np.ndarray:
        speech = trim(resample(espeak.say(voice, text, **style), espeak.rate, fs))
        return speech / np.sqrt(np.mean(speech**2))

    voices = [speak(voice, text) for voice, text in BABBLE]
    babble = np.sum([np.resize(voice, max(map(len, voices))) for voice in voices], axis=0)
    parts = [np.zeros(fs)]
    said: list[Said] = []
    length = fs
    for number, ((accent, variant), sentences) in enumerate(draw_turns(set_name, rng), 1):
        style = {"rate": int(rng.integers(140, 205)), "pitch": int(rng.integers(35, 66))}
        gain = 10 ** (rng.uniform(-6.0, 3.0) / 20)
        for position, sentence in enumerate(sentences):
            speech = gain * speak(f"{ACCENTS[accent]}+{variant}", " ".join(sentence), **style)
            last = position + 1 == len(sentences)
            long = last and number % LONG_PAUSE_EVERY == 0
            bounds = LONG_PAUSE_S if long else BETWEEN_TURNS_S if last else BETWEEN_SENTENCES_S
            pause = np.zeros(int(fs * rng.uniform(*bounds)))
            if long:
                burst = make_burst(len(pause) - 2 * fs, fs, rng)
                pause[fs : fs + len(burst)] = burst * 10 ** (rng.uniform(*NOISE_DB) / 20)
            end = length + len(speech)
            said.append(Said(length / fs, end / fs, f"{accent}{variant.lower()}", written([sentence])))
            parts += [speech, pause]
            length = end + len(pause)
        if length >= seconds * fs:
            break
    mixed = np.concatenate(parts)
    mixed += make_background(len(mixed), fs, babble, rng)
    samples = np.clip(np.round(mixed * SPEECH_LEVEL * 32767), -32768, 32767).astype("<i2")
    return samples, said


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output_dir", type=Path, default=Path("data"))
    parser.add_argument("--set", choices=("dev", "test"), default="test", help="whose voices and sentences")
    parser.add_argument("--seconds", type=float, default=150.0, help="the recording lasts a little longer")
    parser.add_argument("--fs", type=int, default=16000, help="sample rate in Hz")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    samples, said = make_recording(args.set, args.seconds, args.fs, args.seed)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    write_wav(args.output_dir / "recording.wav", samples, args.fs)
    write_rttm(
        args.output_dir / "recording.rttm", {"recording": [Turn(one.start, one.end, one.speaker) for one in said]}
    )
    lines = [json.dumps({**asdict(one), "start": round(one.start, 3), "end": round(one.end, 3)}) for one in said]
    (args.output_dir / "said.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    speech = sum(one.end - one.start for one in said)
    speakers = len({one.speaker for one in said})
    print(f"{len(samples) / args.fs:.0f} s: {len(said)} sentences of {speakers} speakers, {speech:.0f} s of speech")


if __name__ == "__main__":
    main()

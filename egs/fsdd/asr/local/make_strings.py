#!/usr/bin/env python3
"""Join the clips of the Free Spoken Digit Dataset into strings of 1-7 digits, each by one speaker.

The official split is kept: clips 0-4 of every digit and speaker are test, 5-49 are for training, of which 5-8 become
the dev set.  The test set takes every test clip into exactly one string, `--test_groupings` times over in different
orders; the first grouping has each clip alone.  Clips of one set never occur in another.  The same bytes on every run.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLIP = re.compile(r"^(\d)_([a-z]+)_(\d+)\.wav$")
FIRST_DEV, FIRST_TRAIN = 5, 9  # clip indices: test below 5, dev below 9, train from there on
MAX_DIGITS = 7
FS = 8000


@dataclass(frozen=True)
class Clip:
    """One recording of one digit."""

    digit: int
    speaker: str
    index: int
    path: Path

    @property
    def set_name(self) -> str:
        return "test" if self.index < FIRST_DEV else "dev" if self.index < FIRST_TRAIN else "train"


def find_clips(corpus_dir: Path) -> list[Clip]:
    """All clips below a directory, sorted; exits with a message if it holds none or one twice."""
    clips: dict[tuple[str, int, int], Clip] = {}
    for path in sorted(corpus_dir.rglob("*.wav")):
        match = CLIP.match(path.name)
        if match:
            key = (match[2], int(match[1]), int(match[3]))
            if key in clips:
                sys.exit(f"make_strings: {path} and {clips[key].path} are the same clip; give one copy of the corpus")
            clips[key] = Clip(key[1], key[0], key[2], path)
    if not clips:
        sys.exit(f"make_strings: {corpus_dir} holds no files named DIGIT_SPEAKER_INDEX.wav, and no fsdd.zip")
    return [clips[key] for key in sorted(clips)]


def read_clip(path: Path) -> np.ndarray:
    """Mono int16 samples at 8 kHz; ValueError if the file is anything else."""
    with wave.open(str(path), "rb") as file:
        if (file.getframerate(), file.getsampwidth(), file.getnchannels()) != (FS, 2, 1):
            raise ValueError("not 16-bit mono at 8 kHz")
        samples = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2")
        if len(samples) < file.getnframes() or not len(samples):
            raise ValueError(f"{len(samples)} of {file.getnframes()} samples")
    return samples


def join(clips: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Clips one after another with pauses of 20-250 ms, in the faint noise of a quiet room."""
    parts = [np.zeros(int(FS * rng.uniform(0.05, 0.2)))]
    for clip in clips:
        parts += [clip.astype(np.float64), np.zeros(int(FS * rng.uniform(0.02, 0.25)))]
    joined = np.concatenate(parts)
    return np.clip(np.round(joined + rng.normal(0.0, 2.0, len(joined))), -32768, 32767).astype("<i2")


def partition(clips: list[Clip], rng: np.random.Generator, alone: bool) -> list[list[Clip]]:
    """Every clip in exactly one string of 1-7 (or each alone)."""
    order = [clips[i] for i in rng.permutation(len(clips))]
    strings = []
    while order:
        size = 1 if alone else int(rng.integers(1, MAX_DIGITS + 1))
        strings.append(order[:size])
        order = order[size:]
    return strings


def draw(clips: list[Clip], count: int, rng: np.random.Generator) -> list[list[Clip]]:
    """`count` strings; every clip is used before any is used again."""
    strings: list[list[Clip]] = []
    while len(strings) < count:
        strings += partition(clips, rng, alone=False)
    return strings[:count]


def write_set(output_dir: Path, name: str, strings: dict[str, list[list[Clip]]], rng: np.random.Generator) -> int:
    """Audio and Kaldi files of one set (speaker -> strings); returns the number of utterances."""
    wav_dir = output_dir / "wav" / name
    wav_dir.mkdir(parents=True)
    tables: dict[str, list[str]] = {"wav.scp": [], "text": [], "utt2spk": [], "spk2utt": []}
    audio: dict[Path, np.ndarray] = {}
    for speaker in sorted(strings):
        ids = []
        for number, clips in enumerate(strings[speaker]):
            utt = f"{speaker}-{name}-{number:05d}"
            for clip in clips:
                audio.setdefault(clip.path, read_clip(clip.path))
            samples = join([audio[clip.path] for clip in clips], rng)
            path = wav_dir / f"{utt}.wav"
            with wave.open(str(path), "wb") as file:
                file.setparams((1, 2, FS, len(samples), "NONE", "not compressed"))
                file.writeframes(samples.tobytes())
            tables["wav.scp"].append(f"{utt} {path}")
            tables["text"].append(f"{utt} {' '.join(DIGITS[clip.digit] for clip in clips)}")
            tables["utt2spk"].append(f"{utt} {speaker}")
            ids.append(utt)
        tables["spk2utt"].append(f"{speaker} {' '.join(ids)}")
    directory = output_dir / name
    directory.mkdir(parents=True, exist_ok=True)
    for table, lines in tables.items():
        (directory / table).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return len(tables["text"])


def usable(clips: list[Clip]) -> list[Clip]:
    """The clips that can be read; the others are named."""
    good = []
    for clip in clips:
        try:
            read_clip(clip.path)
            good.append(clip)
        except (wave.Error, EOFError, ValueError, OSError) as error:
            print(f"skipped {clip.path}: {error}", file=sys.stderr)
    return good


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--corpus_dir", type=Path, required=True, help="tree with the clips")
    parser.add_argument("--output_dir", type=Path, default=Path("data"))
    parser.add_argument("--num_train", type=int, default=3000, help="strings in train")
    parser.add_argument("--num_dev", type=int, default=200, help="strings in dev")
    parser.add_argument("--test_groupings", type=int, default=8, help="how often each test clip is used; once alone")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    clips = usable(find_clips(args.corpus_dir))
    shutil.rmtree(args.output_dir / "wav", ignore_errors=True)
    speakers = sorted({clip.speaker for clip in clips})
    for seed, name in enumerate(("train", "dev", "test")):
        rng = np.random.default_rng([args.seed, seed])
        strings: dict[str, list[list[Clip]]] = {}
        for rank, speaker in enumerate(speakers):
            own = [clip for clip in clips if clip.speaker == speaker and clip.set_name == name]
            if not own:
                sys.exit(f"make_strings: {args.corpus_dir} has no {name} clips of {speaker}")
            if name == "test":
                groups = [partition(own, rng, alone=number == 0) for number in range(args.test_groupings)]
                strings[speaker] = [string for group in groups for string in group]
            else:
                total = args.num_train if name == "train" else args.num_dev
                share = total // len(speakers) + (rank < total % len(speakers))
                strings[speaker] = draw(own, share, rng)
        count = write_set(args.output_dir, name, strings, rng)
        print(f"{name}: {count} strings of {len(speakers)} speakers")


if __name__ == "__main__":
    main()

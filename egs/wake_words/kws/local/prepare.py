#!/usr/bin/env python3
"""Data directories for keyword spotting: recordings of one keyword each, and other speech.

Keywords are the names of the folders below `--corpus_dir`.  Of each one the recordings, in order of their names, are
cut into train, dev and test: people tend to record one after the other, so few should come into two sets (whose voice
a recording is, the corpus does not tell).  The other speech is cut into pieces of some seconds; its speakers, and so
its pieces, are in one set only.

With `--halves` both halves of a recording for train and dev are there as other speech too: without them a model need
not hear the word, for to tell the microphone and the room of one collection from another's is easier.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

SETS = ("train", "dev", "test")
TENTHS = (*["train"] * 6, "dev", *["test"] * 3)
AUDIO = (".flac", ".ogg", ".wav")
LIBRISPEECH = re.compile(r"^(\d+)-\d+-\d+$")
OTHER = "<other>"


def recordings(directory: Path) -> list[Path]:
    """All audio files below a directory, numbers in their names in order; exits with a message if there are none."""
    found = [path for path in directory.rglob("*") if path.suffix in AUDIO]
    if not found:
        sys.exit(f"prepare.py: no audio ({', '.join(AUDIO)}) below '{directory}'")
    return sorted(found, key=lambda path: [(w.isdigit(), w.zfill(8)) for w in re.split(r"(\d+)", str(path))])


def speaker(path: Path) -> str:
    """The speaker in a name of LibriSpeech, else the folder."""
    match = LIBRISPEECH.match(path.stem)
    return match[1] if match else path.parent.name


def middle(path: Path) -> float:
    """Where half of the energy of a recording is over, in seconds: within the word, if that is all there is."""
    samples, rate = soundfile.read(str(path))
    energy = np.cumsum(np.square(samples - samples.mean()))
    return float(np.searchsorted(energy, energy[-1] / 2) / rate)


class Tables:
    """The files of one data directory."""

    def __init__(self) -> None:
        self.lines: dict[str, list[str]] = {name: [] for name in ("wav.scp", "segments", "text", "utt2spk")}
        self.seconds = 0.0

    def add(self, recording: str, path: Path, who: str, pieces: Sequence[tuple[float, float, str]]) -> None:
        """One recording with its pieces: begin and end in seconds, and a word."""
        self.lines["wav.scp"].append(f"{recording} {path.resolve()}")
        for number, (begin, end, word) in enumerate(pieces):
            utt = f"{recording}-{number:03d}"
            self.lines["segments"].append(f"{utt} {recording} {begin:.3f} {end:.3f}")
            self.lines["text"].append(f"{utt} {word}")
            self.lines["utt2spk"].append(f"{utt} {who}")
            self.seconds += end - begin

    def write(self, directory: Path) -> None:
        """Sorted, as all tools expect them."""
        directory.mkdir(parents=True, exist_ok=True)
        speakers: dict[str, list[str]] = {}
        for line in sorted(self.lines["utt2spk"]):
            utt, who = line.split()
            speakers.setdefault(who, []).append(utt)
        tables = {**self.lines, "spk2utt": [f"{who} {' '.join(utts)}" for who, utts in speakers.items()]}
        for name, lines in tables.items():
            (directory / name).write_text("".join(f"{line}\n" for line in sorted(lines)), encoding="utf-8")


def add_keywords(tables: dict[str, Tables], corpus_dir: Path, keywords: Iterable[str], halves: bool) -> None:
    """The recordings of each keyword, whole, and with `halves` (but not in the test) their halves too."""
    for keyword in keywords:
        folder = next((path for path in sorted(corpus_dir.rglob(keyword)) if path.is_dir()), None)
        if folder is None:
            sys.exit(f"prepare.py: there is no folder '{keyword}' below '{corpus_dir}'")
        files = {path.stem: path for path in recordings(folder)}
        for number, stem in enumerate(files):
            name = TENTHS[number * len(TENTHS) // len(files)]
            end = soundfile.info(str(files[stem])).duration
            pieces = [(0.0, end, keyword)]
            if halves and name != "test":
                half = middle(files[stem])
                pieces += [(0.0, half, OTHER), (half, end, OTHER)]
            tables[name].add(f"{keyword}-{stem}", files[stem], f"{keyword}-{stem}", pieces)


def add_speech(tables: dict[str, Tables], directories: Iterable[Path], piece: float, only: str | None) -> None:
    """Other speech, in pieces, its speakers shared out to the sets, or all to the set `only`."""
    files: dict[str, list[Path]] = {}
    for directory in directories:
        for path in recordings(directory):
            files.setdefault(f"{directory.name}-{speaker(path)}", []).append(path)
    for number, who in enumerate(sorted(files)):
        name = only or TENTHS[number % len(TENTHS)]
        for path in files[who]:
            seconds = soundfile.info(str(path)).duration
            ends = np.linspace(0, seconds, max(1, round(seconds / piece)) + 1)
            tables[name].add(f"{who}-{path.stem}", path, who, [(a, b, OTHER) for a, b in pairwise(ends)])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--corpus_dir", type=Path, required=True, help="has, at any depth, a folder for each keyword")
    parser.add_argument("--speech_dir", type=Path, nargs="+", required=True, help="other speech, for all sets")
    parser.add_argument("--test_speech_dir", type=Path, nargs="*", default=[], help="more of it, for the test alone")
    parser.add_argument("--keywords", nargs="+", default=["alexa", "computer", "jarvis"])
    parser.add_argument("--halves", action="store_true", help="half a keyword is other speech, in train and dev")
    parser.add_argument("--piece", type=float, default=4.0, help="length of the pieces in seconds")
    parser.add_argument("--output_dir", type=Path, default=Path("data"))
    args = parser.parse_args()
    tables = {name: Tables() for name in SETS}
    add_keywords(tables, args.corpus_dir, args.keywords, args.halves)
    add_speech(tables, args.speech_dir, args.piece, None)
    add_speech(tables, args.test_speech_dir, args.piece, "test")
    for name in SETS:
        tables[name].write(args.output_dir / name)
        print(f"{name}: {len(tables[name].lines['text'])} utterances, {tables[name].seconds / 60:.1f} minutes")


if __name__ == "__main__":
    main()

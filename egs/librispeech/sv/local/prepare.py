#!/usr/bin/env python3
"""Data directories of speakers: LibriSpeech, and other corpora beside it.

Writes, in Kaldi form (wav.scp, utt2spk, spk2utt, segments where utterances are cut):

    train       the training subsets of LibriSpeech, and the speakers of --an4_dir and --aishell3_dir
    dev         other speech of the same speakers: one utterance of those who have many, or the end of a long one
    test_other  speakers who are not in train
    test_mix    --mix_dir: where one speaker of a LibriSpeechMix mixture speaks alone
    test_fsdd   --fsdd_dir: strings of six spoken digits, 8 kHz
    noise.scp, rir.scp   lists for augmentation: the audio below --noise_dir; --rir_dir, or decaying noise
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from funasr.bin.command import user_errors
from funasr.utils.errors import DataError
from funasr.utils.io import write_text
from funasr.utils.rttm import Turn, read_rttm

AUDIO = (".flac", ".ogg", ".wav")
MANY_UTTERANCES = 10  # a speaker with so many spares one for dev
LONG_S, DEV_S = 8.0, 2.0  # an only utterance of at least LONG_S gives its last DEV_S to dev
ALONE_S = 1.5  # shortest stretch of a mixture that is used
FSDD_DIGITS = 6
RIR_COUNT, RIR_FS = 40, 16000


@dataclass(frozen=True)
class Utterance:
    """An utterance, or the part of a recording from start to end in s."""

    id: str
    speaker: str
    path: Path
    start: float = 0.0
    end: float | None = None

    @property
    def recording(self) -> str:
        return f"{self.speaker}-{self.path.stem}"


def audio_files(directory: Path) -> Iterator[Path]:
    yield from sorted(path for path in directory.rglob("*") if path.suffix in AUDIO)


def librispeech(directory: Path) -> list[Utterance]:
    """A subset: SPEAKER/CHAPTER/SPEAKER-CHAPTER-NUMBER.flac."""
    return [Utterance(path.stem, path.stem.split("-")[0], path) for path in audio_files(directory)]


def by_folder(directory: Path) -> list[Utterance]:
    """Corpora with one folder per speaker: AN4's wav/*/, AISHELL-3's train/wav/."""
    return [Utterance(f"{p.parent.name}-{p.stem}", p.parent.name, p) for p in audio_files(directory)]


def held_out(utterances: Sequence[Utterance]) -> tuple[list[Utterance], list[Utterance]]:
    """(train, dev) of the same speakers."""
    speakers: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        speakers[utterance.speaker].append(utterance)
    train, dev = [], []
    for own in speakers.values():
        if len(own) >= MANY_UTTERANCES:
            train += own[:-1]
            dev.append(own[-1])
            continue
        longest = max(own, key=lambda one: soundfile.info(one.path).duration)
        seconds = soundfile.info(longest.path).duration
        train += [one for one in own if one is not longest]
        if seconds >= LONG_S:
            train.append(replace(longest, end=seconds - DEV_S))
            dev.append(replace(longest, id=f"{longest.id}-end", start=seconds - DEV_S, end=seconds))
        else:
            train.append(longest)
    return train, dev


def alone(turns: Sequence[Turn]) -> Iterator[Turn]:
    """Where exactly one speaker speaks, at least ALONE_S long."""
    edges = sorted({edge for turn in turns for edge in (turn.start, turn.end)})
    for start, end in pairwise(edges):
        speaking = [turn.speaker for turn in turns if turn.start <= start and turn.end >= end]
        if len(speaking) == 1 and end - start >= ALONE_S:
            yield Turn(start, end, speaking[0])


def mixtures(directory: Path) -> list[Utterance]:
    """LibriSpeechMix: flac/ID.flac with rttm/ID.rttm beside."""
    found = []
    for path in audio_files(directory):
        for recording, turns in read_rttm(path.parents[1] / "rttm" / f"{path.stem}.rttm").items():
            longest: dict[str, Turn] = {}  # one stretch for each speaker: no trial within one utterance
            for turn in sorted(alone(turns), key=lambda turn: turn.end - turn.start):
                longest[turn.speaker] = turn
            for turn in longest.values():
                uid = f"{turn.speaker}-{recording}"
                found.append(Utterance(uid, turn.speaker, path, turn.start, turn.end))
    return found


def digit_strings(directory: Path, output_dir: Path) -> list[Utterance]:
    """Free Spoken Digit Dataset: clips DIGIT_SPEAKER_INDEX.wav of one speaker, joined in a fixed random order."""
    clips: dict[str, list[Path]] = defaultdict(list)
    for path in audio_files(directory):
        clips[path.stem.split("_")[1]].append(path)
    output_dir.mkdir(parents=True, exist_ok=True)
    strings = []
    for speaker, paths in clips.items():
        order = np.random.default_rng(0).permutation(len(paths))[:120]
        for number, part in enumerate(np.split(order, len(order) // FSDD_DIGITS)):
            read = [soundfile.read(paths[i], dtype="int16") for i in part]
            path = output_dir / f"{speaker}-{number:02d}.wav"
            soundfile.write(path, np.concatenate([samples for samples, _ in read]), read[0][1])
            strings.append(Utterance(path.stem, speaker, path))
    return strings


def write_rirs(directory: Path) -> list[Path]:
    """Simple rooms: a direct path and noise that decays by 60 dB within 0.1 to 0.5 s."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    paths = []
    for number in range(RIR_COUNT):
        decay_s, level = rng.uniform(0.1, 0.5), rng.uniform(0.05, 0.3)
        time = np.arange(int(decay_s * RIR_FS)) / RIR_FS
        rir = level * rng.standard_normal(len(time)) * 10 ** (-3 * time / decay_s)
        rir[0] = 1.0
        paths.append(directory / f"{number:02d}.wav")
        soundfile.write(paths[-1], rir / np.abs(rir).max(), RIR_FS)
    return paths


def write_dir(directory: Path, utterances: Sequence[Utterance]) -> None:
    """The tables of one data directory."""
    if not utterances:
        raise DataError(f"{directory}: no utterances were found")
    utterances = sorted(utterances, key=lambda one: one.id)
    cut = any(one.end is not None for one in utterances)
    key = {one.id: one.recording if cut else one.id for one in utterances}
    wavs = {key[one.id]: one.path for one in utterances}
    speakers: dict[str, list[str]] = defaultdict(list)
    for one in utterances:
        speakers[one.speaker].append(one.id)
    tables = {
        "wav.scp": wavs,
        "utt2spk": {one.id: one.speaker for one in utterances},
        "spk2utt": {speaker: " ".join(ids) for speaker, ids in speakers.items()},
    }
    if cut:
        spans = {one.id: one.end or soundfile.info(one.path).duration for one in utterances}
        tables["segments"] = {one.id: f"{key[one.id]} {one.start:.3f} {spans[one.id]:.3f}" for one in utterances}
    (directory / "segments").unlink(missing_ok=True)
    for name, table in tables.items():
        write_text(directory / name, "".join(f"{k} {table[k]}\n" for k in sorted(table)))
    print(f"{directory}: {len(utterances)} utterances of {len(speakers)} speakers")


def write_list(path: Path, files: Sequence[Path]) -> None:
    write_text(path, "".join(f"{number:04d} {file}\n" for number, file in enumerate(files)))
    print(f"{path}: {len(files)} files")


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus_dir", type=Path, required=True, help="holds LibriSpeech/SUBSET, or SUBSET")
    parser.add_argument("--train_subsets", nargs="+", default=["train-clean-100"])
    parser.add_argument("--output_dir", type=Path, required=True)
    for name in ("an4", "aishell3", "mix", "fsdd", "noise", "rir"):
        parser.add_argument(f"--{name}_dir", type=Path)
    args = parser.parse_args(argv)
    for name, given in vars(args).items():
        if name.endswith("_dir") and name != "output_dir" and given is not None and not given.is_dir():
            raise DataError(f"--{name} {given} is not a directory")
    root = args.corpus_dir / "LibriSpeech"
    root = root if root.is_dir() else args.corpus_dir
    out = args.output_dir
    speakers = [one for subset in args.train_subsets for one in librispeech(root / subset)]
    for directory in (args.an4_dir, args.aishell3_dir):
        speakers += by_folder(directory) if directory is not None else []
    train, dev = held_out(speakers)
    write_dir(out / "train", train)
    write_dir(out / "dev", dev)
    write_dir(out / "test_other", librispeech(root / "test-other"))
    if args.mix_dir is not None:
        write_dir(out / "test_mix", mixtures(args.mix_dir))
    if args.fsdd_dir is not None:
        write_dir(out / "test_fsdd", digit_strings(args.fsdd_dir, out / "fsdd_strings"))
    if args.noise_dir is not None:
        write_list(out / "noise.scp", list(audio_files(args.noise_dir)))
    write_list(out / "rir.scp", list(audio_files(args.rir_dir)) if args.rir_dir else write_rirs(out / "rirs"))
    return 0


if __name__ == "__main__":
    sys.exit(main())

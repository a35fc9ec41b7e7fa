#!/usr/bin/env python3
"""Data directories for voice activity detection on meetings, from whatever openly licensed corpora are there.

    local/prepare.py --corpus_dir DIR --output_dir data

Looked for anywhere below DIR (only the first two are needed):

    AMI "debug" excerpts   debug.train.rttm, debug.development.rttm with the audio beside them; speech: union of turns
    ESC-10                 `001 - Dog bark/3-136288-A.ogg`, ...: noise
    music                  three instrumental pieces of librosa's example audio
    LibriSpeechMix         `rttm/*.rttm` with `../flac/*`: speech
    LibriSpeech            `LibriSpeech` or `librispeech_*`: clean speech, labelled by its energy
    AN4, AISHELL, Asterisk `an4/wav`, `data_aishell/wav`, `sounds/en`: clean speech too, at most --max_clean_s each
    impulse responses      `rir/*.wav`

Sets: `train`; `valid`, parts of the training material: two AMI recordings, some mixtures and noises; `dev`, the AMI
development recordings, the test; `noise`, the test of false alarms: the last source of each ESC-10 class and the first
piece of music, none of which is in the other sets.  Lists of noise, music and impulse responses go to data/mix.
"""

from __future__ import annotations

import argparse
import re
import sys
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from funasr.audio.read import audio_info, read_audio
from funasr.datasets.vad_labels import Labels, fit_labels, format_segments, labels_from_energy, labels_from_rttm
from funasr.utils.errors import DataError

FS = 16000
AUDIO = (".flac", ".wav", ".ogg")
PIECES = ("Hungarian_Dance", "Vibe_Ace", "trumpet")  # the first is held back
VALID_AMI = ("trn04", "trn08")
CLEAN_MAX_GAP_S = 0.4  # turns in meetings are labelled with the short pauses in them


@dataclass
class DataSet:
    """Recordings of one set and their labels."""

    paths: dict[str, Path] = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)

    def add(self, key: str, path: Path, spans: list[tuple[float, float]]) -> None:
        """Add a recording; ids have no spaces."""
        key = re.sub(r"[^A-Za-z0-9_.-]+", "_", key)
        self.paths[key], self.labels[key] = path, spans

    def write(self, directory: Path) -> None:
        """wav.scp, speech_segments, utt2spk and spk2utt (every recording is a speaker of its own)."""
        directory.mkdir(parents=True, exist_ok=True)
        keys = sorted(self.paths)
        tables = {
            "wav.scp": [f"{key} {self.paths[key]}" for key in keys],
            "speech_segments": [f"{key} {format_segments(self.labels[key])}" for key in keys],
            "utt2spk": [f"{key} {key}" for key in keys],
            "spk2utt": [f"{key} {key}" for key in keys],
        }
        for name, lines in tables.items():
            (directory / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        speech = sum(end - start for spans in self.labels.values() for start, end in spans)
        print(f"{directory}: {len(keys)} recordings, {speech / 60:.1f} min of speech")


def plain(name: str) -> str:
    """Without accents, which the public AMI excerpts carry in some names as a test of encodings."""
    return "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))


def audio_below(directory: Path) -> list[Path]:
    """Audio files, sorted."""
    return sorted(path for path in directory.rglob("*") if path.suffix.lower() in AUDIO)


def seconds(path: Path) -> float:
    """Duration from the header."""
    samples, rate = audio_info(path)
    return samples / rate


def ami(root: Path, subset: str) -> list[tuple[str, Path, list[tuple[float, float]]]]:
    """(name, path, speech) of the AMI excerpts of one subset."""
    found = sorted(root.rglob(f"debug.{subset}.rttm"))
    if not found:
        raise DataError(f"{root}: no debug.{subset}.rttm below it (AMI excerpts of pyannote-audio's tests/data)")
    audio = {plain(path.stem): path for path in audio_below(found[0].parent)}
    labels = {plain(name): spans for name, spans in labels_from_rttm(found[0]).items()}
    missing = [name for name in labels if name not in audio]
    if missing:
        raise DataError(f"{found[0]}: no audio for {', '.join(missing)} beside it")
    fitted = fit_labels(labels, {name: seconds(audio[name]) for name in sorted(labels)}, str(found[0]), clip=True)
    return [(name, audio[name], spans) for name, spans in fitted.items()]


def mixtures(root: Path) -> list[tuple[str, Path, list[tuple[float, float]]]]:
    """(name, path, speech) of the LibriSpeechMix mixtures."""
    found = []
    for rttm in sorted(path for path in root.rglob("rttm/*.rttm") if (path.parent.parent / "flac").is_dir()):
        audio = rttm.parent.parent / "flac" / f"{rttm.stem}.flac"
        if audio.is_file():
            spans = fit_labels(labels_from_rttm(rttm), {rttm.stem: seconds(audio)}, str(rttm), clip=True)[rttm.stem]
            found.append((rttm.stem, audio, spans))
    return found


def clean(root: Path, max_s: float) -> list[Path]:
    """Files of the clean corpora, of each corpus as many as last `max_s` seconds, spread over its speakers."""
    chosen: list[Path] = []
    for pattern in ("LibriSpeech", "librispeech_*", "an4/wav", "data_aishell/wav", "sounds/en"):
        for directory in sorted(root.rglob(pattern)):
            by_speaker = defaultdict(list)
            for path in audio_below(directory):
                by_speaker[path.parent].append(path)
            left, rounds = max_s, max(map(len, by_speaker.values()), default=0)
            for turn in range(rounds):
                for paths in by_speaker.values():
                    if turn < len(paths) and left > 0 and seconds(paths[turn]) > 0.8:
                        chosen.append(paths[turn])
                        left -= seconds(paths[turn])
    return chosen


def esc10(root: Path) -> dict[str, list[Path]]:
    """`train`, `valid`, `test` noises: by source, so that two takes of one recording stay together."""
    classes = defaultdict(lambda: defaultdict(list))
    for path in audio_below(root):
        if re.fullmatch(r"0\d\d - .*", path.parent.name):
            classes[path.parent.name][path.stem.split("-")[1]].append(path)
    if not classes:
        raise DataError(f"{root}: no ESC-10 below it (folders like `001 - Dog bark`)")
    split: dict[str, list[Path]] = {"train": [], "valid": [], "test": []}
    for number, (_, sources) in enumerate(sorted(classes.items())):
        groups = [paths for _, paths in sorted(sources.items())]
        held = max(1, len(groups) // 3) if len(groups) > 1 else 0
        valid = max(len(groups) // 10, 1 if len(groups) > 2 and number % 2 else 0)
        cut = len(groups) - held
        for name, part in (
            ("test", groups[cut:]),
            ("valid", groups[cut - valid : cut]),
            ("train", groups[: cut - valid]),
        ):
            split[name] += [path for paths in part for path in paths]
    return split


def music(root: Path) -> tuple[list[Path], list[Path]]:
    """(training pieces, held-back piece): nobody sings in those of PIECES."""
    pieces = [path for title in PIECES for path in audio_below(root) if title in path.name and ".hq" not in path.name]
    if len(pieces) < 2:
        raise DataError(f"{root}: at least two pieces of music are needed ({', '.join(PIECES)}, as librosa has them)")
    return pieces[1:], pieces[:1]


def write_copy(path: Path, source: Path, begin: float = 0.0, end: float = 1.0) -> Path:
    """A share of a file at 16 kHz, so that it is decoded once."""
    wave, _ = read_audio(source, FS)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave[int(begin * len(wave)) : int(end * len(wave))], FS)
    return path


def clean_copy(path: Path, source: Path) -> tuple[Path, list[tuple[float, float]]]:
    """Clean speech at 16 kHz, and where it is."""
    wave, _ = read_audio(source, FS)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, FS)
    return path, labels_from_energy(np.asarray(wave), FS, CLEAN_MAX_GAP_S)


def write_list(path: Path, files: list[Path]) -> None:
    """A list that --mix reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{file}\n" for file in files), encoding="utf-8")


def prepare(root: Path, out: Path, ami_copies: int, max_clean_s: float) -> None:
    """Write all sets and lists."""
    sets = {name: DataSet() for name in ("train", "valid", "dev", "noise")}
    for name, path, spans in ami(root, "train"):
        if name in VALID_AMI:
            sets["valid"].add(f"ami-{name}", path, spans)
        else:  # each copy is cut and mixed in its own way
            for copy in range(ami_copies):
                sets["train"].add(f"ami-{name}-{copy:02d}", path, spans)
    for name, path, spans in ami(root, "development"):
        sets["dev"].add(name, path, spans)
    for number, (name, path, spans) in enumerate(mixtures(root)):
        sets["valid" if number % 8 == 7 else "train"].add(f"mix-{name}", path, spans)
    for number, source in enumerate(clean(root, max_clean_s)):
        name = f"clean-{number:04d}-{plain(source.stem)}"
        path, spans = clean_copy(out / "audio" / f"{name}.flac", source)
        if spans:
            sets["train"].add(name, path, spans)
    noises, (pieces, held_pieces) = esc10(root), music(root)
    copies = {part: [write_copy(out / "mix" / part / f"{p.stem}.flac", p) for p in noises[part]] for part in noises}
    write_list(out / "mix" / "noise.list", copies["train"])
    write_list(
        out / "mix" / "music.list", [write_copy(out / "mix" / f"{p.stem[:20]}.flac", p, 0.0, 0.8) for p in pieces]
    )
    rirs = [write_copy(out / "mix" / f"rir-{p.stem}.flac", p) for p in sorted(root.rglob("rir/*.wav"))]
    if rirs:
        write_list(out / "mix" / "rir.list", rirs)
    for path in copies["valid"] + [write_copy(out / "mix" / f"valid-{p.stem[:20]}.flac", p, 0.8, 1.0) for p in pieces]:
        sets["valid"].add(f"noise-{path.stem}", path, [])
    for path in copies["test"] + [write_copy(out / "mix" / "test" / f"{p.stem[:20]}.flac", p) for p in held_pieces]:
        sets["noise"].add(path.stem, path, [])
    for name, dataset in sets.items():
        dataset.write(out / name)


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus_dir", type=Path, required=True)
    parser.add_argument("--output_dir", type=Path, default=Path("data"))
    parser.add_argument("--ami_copies", type=int, default=16, help="entries for each AMI training recording")
    parser.add_argument("--max_clean_s", type=float, default=900.0, help="seconds of each clean corpus")
    args = parser.parse_args()
    try:
        prepare(args.corpus_dir, args.output_dir, args.ami_copies, args.max_clean_s)
    except DataError as error:
        sys.stderr.write(f"prepare: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

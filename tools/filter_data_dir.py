#!/usr/bin/env python3
"""Drop from a data directory the utterances that training cannot use: too short or long audio, an empty transcript.

    tools/filter_data_dir.py --min_duration 0.1 --max_duration 20 dump/train

Lengths come from the headers of the audio files.  Every table of utterances in the directory is reduced to what is
kept; `utt2dur` (seconds) is written.  The dropped ids are counted by reason and the first of each are named.
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from funasr.datasets.sound import SoundReader
from funasr.utils.data_dir import read_table
from funasr.utils.errors import DamagedUtteranceError, DataError
from funasr.utils.io import write_text

TABLES = ("wav.scp", "text", "utt2spk", "utt2category", "utt2num_samples", "utt2lang")


def measure(wav_scp: Path) -> tuple[dict[str, float], dict[str, str]]:
    """Duration in seconds of each readable utterance, and id -> reason of the others."""
    from funasr.datasets.sound import entry_length

    reader = SoundReader(read_table(wav_scp))
    seconds: dict[str, float] = {}
    unreadable: dict[str, str] = {}
    for uid in reader:
        try:
            samples, rate = entry_length(*reader.entry(uid))
            seconds[uid] = samples / rate
        except DamagedUtteranceError as error:
            unreadable[uid] = str(error)
    return seconds, unreadable


def filter_data_dir(directory: Path, min_duration: float, max_duration: float) -> dict[str, list[str]]:
    """Reduce the tables of `directory`; returns reason -> dropped ids.  Raises DataError if nothing would be left."""
    seconds, unreadable = measure(directory / "wav.scp")
    text = read_table(directory / "text", value_optional=True) if (directory / "text").is_file() else None
    dropped: dict[str, list[str]] = {"cannot be read": list(unreadable)}
    dropped[f"shorter than {min_duration} s"] = [uid for uid, length in seconds.items() if length < min_duration]
    dropped[f"longer than {max_duration} s"] = [uid for uid, length in seconds.items() if length > max_duration]
    if text is not None:
        dropped["no transcript"] = [uid for uid in seconds if not text.get(uid, "").strip()]
    gone = {uid for ids in dropped.values() for uid in ids}
    kept = {uid: length for uid, length in seconds.items() if uid not in gone}
    if not kept:
        raise DataError(f"{directory}: none of its {len(seconds) + len(unreadable)} utterances can be used")
    for name in TABLES:
        path = directory / name
        if path.is_file():
            _write(path, {uid: v for uid, v in read_table(path, value_optional=True).items() if uid in kept})
    _write(directory / "utt2dur", {uid: f"{length:.3f}" for uid, length in kept.items()})
    if (directory / "utt2spk").is_file():
        speakers: dict[str, list[str]] = {}
        for uid, speaker in read_table(directory / "utt2spk").items():
            speakers.setdefault(speaker, []).append(uid)
        _write(directory / "spk2utt", {speaker: " ".join(speakers[speaker]) for speaker in sorted(speakers)})
    return {reason: ids for reason, ids in dropped.items() if ids}


def _write(path: Path, table: dict[str, str]) -> None:
    write_text(path, "".join(f"{key} {value}".rstrip() + "\n" for key, value in table.items()))


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path, help="data directory, changed in place")
    parser.add_argument("--min_duration", type=float, default=0.1, help="seconds")
    parser.add_argument("--max_duration", type=float, default=30.0, help="seconds")
    args = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(message)s")
    try:
        dropped = filter_data_dir(args.directory, args.min_duration, args.max_duration)
    except DataError as error:
        sys.stderr.write(f"filter_data_dir: {error}\n")
        return 1
    for reason, ids in dropped.items():
        logging.info("%s: dropped %d utterances, %s: %s", args.directory, len(ids), reason, " ".join(ids[:10]))
    return 0


if __name__ == "__main__":
    sys.exit(main())

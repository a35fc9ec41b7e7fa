#!/usr/bin/env python3
"""Recordings of the embedded corpus' voices with pauses, and where in them somebody speaks.

    local/make_recordings.py --output_dir data --num_train 220 --num_dev 12 --num_test 24

The voices, the language and the synthesiser are those of egs/mini/asr; no voice is in two sets.  A recording is some
utterances of one voice with silence around each.  Those of train are clean, since training mixes noise in on-line
(conf/train.yaml); those of dev and test have made noise (make_noise.py), and so has the set `noise`, in which nobody
speaks.  Where speech is is known from the energy of the clean signal; `speech_segments` says it for each recording.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import sys
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from funasr.datasets.vad_labels import format_segments, labels_from_energy

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "asr" / "local"))
from make_corpus import ACCENTS, SET_VOICES, Espeak, draw_utterance, resample, trim, with_pauses, write_wav
from make_noise import KINDS, unit

MAX_GAP_S = 0.25  # pauses in a sentence that count as speech
SNR_DB = (5.0, 25.0)

Rng = np.random.Generator
Row = tuple[str, str, str, str]


def speak_with_pauses(espeak: Espeak, voice: str, set_name: str, seconds: float, fs: int, rng: Rng) -> np.ndarray:
    """About `seconds` of one voice, mean square of the speech 1, with silences of 0.2 to 3 s."""
    pieces = [np.zeros(int(fs * rng.uniform(0.2, 2.0)))]
    while sum(map(len, pieces)) < seconds * fs:
        words = [word for sentence in draw_utterance(set_name, rng) for word in sentence]
        style = {"rate": int(rng.integers(130, 215)), "pitch": int(rng.integers(30, 71))}
        spoken = resample(espeak.say(voice, with_pauses(words, rng), **style), espeak.rate, fs)
        pieces += [unit(trim(spoken)), np.zeros(int(fs * rng.uniform(0.4, 3.0)))]
    return np.concatenate(pieces)


def with_noise(speech: np.ndarray, fs: int, snr_db: float, rng: Rng) -> np.ndarray:
    """Made noise on top, `snr_db` below the speech."""
    kind = list(KINDS)[int(rng.integers(len(KINDS)))]
    return speech + 10 ** (-snr_db / 20) * unit(KINDS[kind](len(speech), fs, rng))


def to_int16(wave: np.ndarray, rng: Rng) -> np.ndarray:
    """At a random level between -34 and -18 dB, without clipping."""
    gain = min(10 ** (rng.uniform(-34, -18) / 20), 0.98 / (np.abs(wave).max() + 1e-9))
    return np.round(wave * gain * 32767).astype("<i2")


def make_voice(job: tuple[str, str, str, int], out: str, fs: int, seconds: float) -> list[Row]:
    """(id, speaker, path, label) of the recordings of one voice, in a process of its own: see make_corpus.py."""
    set_name, accent, variant, count = job
    speaker = f"{accent}{variant.lower()}"
    espeak = Espeak()
    directory = Path(out, "wav", set_name)
    directory.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        key = f"{speaker}-{number:04d}"
        rng = np.random.default_rng(zlib.crc32(f"vad-{key}".encode()))
        clean = speak_with_pauses(espeak, f"{ACCENTS[accent]}+{variant}", set_name, seconds, fs, rng)
        spans = labels_from_energy(0.1 * clean, fs, max_gap_s=MAX_GAP_S, pad_s=0.03)
        heard = clean if set_name == "train" else with_noise(clean, fs, rng.uniform(*SNR_DB), rng)
        write_wav(directory / f"{key}.wav", to_int16(heard, rng), fs)
        rows.append((key, speaker, str(directory / f"{key}.wav"), format_segments(spans)))
    return rows


def make_noises(count: int, out: str, fs: int, seconds: float) -> list[Row]:
    """Recordings in which nobody speaks."""
    directory = Path(out, "wav", "noise")
    directory.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        kind = list(KINDS)[number % len(KINDS)]
        key = f"{kind}-test-{number:03d}"
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        write_wav(directory / f"{key}.wav", to_int16(unit(KINDS[kind](int(seconds * fs), fs, rng)), rng), fs)
        rows.append((key, key, str(directory / f"{key}.wav"), "[]"))
    return rows


def write_set(directory: Path, rows: list[Row]) -> None:
    """wav.scp, speech_segments, utt2spk, spk2utt, sorted by id."""
    directory.mkdir(parents=True, exist_ok=True)
    rows = sorted(rows)
    speakers: dict[str, list[str]] = {}
    for key, speaker, _, _ in rows:
        speakers.setdefault(speaker, []).append(key)
    tables = {
        "wav.scp": [f"{key} {path}" for key, _, path, _ in rows],
        "speech_segments": [f"{key} {label}" for key, _, _, label in rows],
        "utt2spk": [f"{key} {speaker}" for key, speaker, _, _ in rows],
        "spk2utt": [f"{speaker} {' '.join(keys)}" for speaker, keys in sorted(speakers.items())],
    }
    for name, lines in tables.items():
        (directory / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    print(f"{directory}: {len(rows)} recordings")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output_dir", default="data")
    parser.add_argument("--num_train", type=int, default=220, help="recordings in train")
    parser.add_argument("--num_dev", type=int, default=12, help="recordings in dev")
    parser.add_argument("--num_test", type=int, default=24, help="recordings in test, and as many in noise")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of a recording, about")
    parser.add_argument("--fs", type=int, default=16000)
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="processes")
    args = parser.parse_args()
    shutil.rmtree(Path(args.output_dir, "wav"), ignore_errors=True)
    jobs = []
    for name, voices in SET_VOICES.items():
        total = getattr(args, f"num_{name}")
        shares = [total // len(voices) + (i < total % len(voices)) for i in range(len(voices))]
        jobs += [(name, accent, variant, n) for (accent, variant), n in zip(voices, shares) if n]
    work = partial(make_voice, out=args.output_dir, fs=args.fs, seconds=args.seconds)
    with multiprocessing.get_context("fork").Pool(args.nj, maxtasksperchild=1) as pool:
        results = pool.map(work, jobs, chunksize=1)
    for name in SET_VOICES:
        write_set(Path(args.output_dir, name), [r for job, rows in zip(jobs, results) if job[0] == name for r in rows])
    write_set(Path(args.output_dir, "noise"), make_noises(args.num_test, args.output_dir, args.fs, 10.0))


if __name__ == "__main__":
    main()

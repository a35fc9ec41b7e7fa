#!/usr/bin/env python3
"""Make sounds that are not speech: noises, machines, impacts, animals and music, each drawn anew from a few rules.

    local/make_noise.py --output_dir data/noise --count 40 --seconds 10

Writes SECONDS long files OUTPUT_DIR/KIND-NNN.wav of `--count` sounds and OUTPUT_DIR/wav.scp; the same bytes on every
run.  A detector that hears them in training learns that level, tone and rhythm alone make no speech.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import wave
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

Rng = np.random.Generator
NOTES = (0, 2, 4, 5, 7, 9, 11)  # semitones of a major scale


def coloured(n: int, fs: int, rng: Rng) -> np.ndarray:
    """Noise with a random spectral slope and a random band: wind, air conditioning, a crowd far away, hiss."""
    frequency = np.fft.rfftfreq(n, 1 / fs)
    slope = rng.uniform(-0.2, 1.2)
    shape = np.maximum(frequency, 20.0) ** -slope
    low, high = np.exp(rng.uniform(np.log(20), np.log(800))), np.exp(rng.uniform(np.log(1000), np.log(8000)))
    shape *= 1 / (1 + (low / np.maximum(frequency, 1.0)) ** 4) / (1 + (frequency / high) ** 4)
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(n)) * shape, n)


def swell(n: int, fs: int, rng: Rng) -> np.ndarray:
    """Coloured noise that comes and goes: sea, passing cars, breathing machines."""
    time = np.arange(n) / fs
    depth, rate = rng.uniform(0.3, 0.95), np.exp(rng.uniform(np.log(0.1), np.log(4.0)))
    shape = 1 + depth * np.sin(2 * np.pi * rate * time + 6.28 * rng.random() + 0.5 * np.sin(0.7 * time))
    return coloured(n, fs, rng) * shape


def engine(n: int, fs: int, rng: Rng) -> np.ndarray:
    """A train of pulses with a drifting rate through a random spectrum: engines, helicopters, saws, hum."""
    time = np.arange(n) / fs
    base = np.exp(rng.uniform(np.log(12), np.log(180)))
    drift = np.cumsum(rng.standard_normal(n // fs * 4 + 8)) * 0.02
    rate = base * np.exp(np.interp(time * 4, np.arange(len(drift)), drift))
    phase = 2 * np.pi * np.cumsum(rate) / fs
    count = int(min(60, 0.45 * fs / rate.max()))
    weights = rng.random(count) * np.arange(1, count + 1) ** -rng.uniform(0.3, 1.2)
    tone = sum(w * np.sin(k * phase + 6.28 * rng.random()) for k, w in enumerate(weights, 1))
    return unit(tone) + rng.uniform(0.05, 1.0) * unit(coloured(n, fs, rng) * (1 + 0.8 * np.sin(phase)))


def impacts(n: int, fs: int, rng: Rng) -> np.ndarray:
    """Short decaying bursts, regular or at random: steps, keyboards, clocks, fire, doors, applause, rain."""
    rate = np.exp(rng.uniform(np.log(0.7), np.log(60)))
    if rng.random() < 0.3:
        times = np.arange(0, n / fs, 1 / rate) + 0.002 * rng.standard_normal(len(np.arange(0, n / fs, 1 / rate)))
    else:
        times = np.cumsum(rng.exponential(1 / rate, size=int(2 * rate * n / fs) + 4))
    pulses = np.zeros(n)
    at = (times[(times >= 0) & (times < n / fs)] * fs).astype(int)
    np.add.at(pulses, at, rng.lognormal(0, 0.7, size=len(at)))
    length = int(fs * np.exp(rng.uniform(np.log(0.003), np.log(0.25))))
    decay = np.exp(-5 * np.arange(length) / length)
    ring = coloured(length, fs, rng) * decay
    if rng.random() < 0.4:  # something that rings
        ring = unit(ring) + unit(np.sin(2 * np.pi * rng.uniform(200, 4000) * np.arange(length) / fs) * decay)
    size = 1 << (n + length).bit_length()
    out = unit(np.fft.irfft(np.fft.rfft(pulses, size) * np.fft.rfft(ring, size), size)[:n])
    return out + rng.uniform(0, 0.7) * unit(swell(n, fs, rng))


def calls(n: int, fs: int, rng: Rng) -> np.ndarray:
    """Gliding tones with pauses: birds, whistles, sirens, barking, crying, crowing, alarms."""
    out = np.zeros(n)
    low = np.exp(rng.uniform(np.log(250), np.log(3500)))
    harmonics = int(np.clip(0.4 * fs / (2.5 * low), 1, 14))
    tilt, mean = rng.uniform(0.4, 2.0), np.exp(rng.uniform(np.log(0.06), np.log(1.2)))
    rough, position = rng.uniform(0, 0.4) * (rng.random() < 0.5), int(rng.exponential(0.4) * fs)
    glide = rng.uniform(-0.9, 0.9, size=3)
    while position < n:
        length = max(int(fs * mean * rng.uniform(0.5, 1.6)), fs // 50)
        x = np.linspace(0, 1, length)
        pitch = low * 2 ** (glide[0] * x + glide[1] * np.sin(np.pi * x) + 0.15 * rng.standard_normal())
        pitch = pitch * (1 + 0.03 * glide[2] * np.sin(2 * np.pi * rng.uniform(4, 9) * x * length / fs))
        phase = 2 * np.pi * np.cumsum(pitch) / fs
        sound = sum(k**-tilt * np.sin(k * phase) for k in range(1, harmonics + 1))
        sound = sound * (1 + rough * rng.standard_normal(length)) * np.minimum(1, 8 * np.minimum(x, 1 - x))
        stop = min(n, position + length)
        out[position:stop] += rng.uniform(0.4, 1) * sound[: stop - position]
        position = stop + int(fs * rng.exponential(mean * 1.2))
    return unit(out) + 0.02 * unit(coloured(n, fs, rng))


def music(n: int, fs: int, rng: Rng) -> np.ndarray:
    """Chords, a melody, a bass and drums in random timbres and one key."""
    out = np.zeros(n)
    beat = 60 / rng.uniform(60, 170)
    key = int(rng.integers(36, 48))
    voices = [("chord", rng.random() < 0.8), ("melody", rng.random() < 0.8), ("bass", rng.random() < 0.6)]
    for kind, plays in voices:
        if not plays and not (kind == "melody" and not out.any()):
            continue
        timbre = rng.random(12) * np.arange(1, 13) ** -rng.uniform(0.6, 2.2)
        attack, sustain = np.exp(rng.uniform(np.log(0.004), np.log(0.3))), np.exp(rng.uniform(np.log(0.2), np.log(20)))
        vibrato, at = rng.uniform(0, 0.012), 0.0
        players = 1 if rng.random() < 0.5 else int(rng.integers(2, 5))  # of one part, never quite in tune
        degree = int(rng.integers(7))
        while at < n / fs:
            length = beat * float(rng.choice([0.5, 1, 1, 2] if kind != "chord" else [2, 4]))
            degree += int(rng.integers(-2, 3))
            notes = (0, 2, 4) if kind == "chord" else (0,)
            octave = {"chord": 12, "melody": 24, "bass": 0}[kind]
            for step in notes:
                index = degree % 7 + step
                pitch = key + octave + NOTES[index % 7] + 12 * (index // 7)
                for _ in range(players):
                    hz = 440 * 2 ** ((pitch - 69 + 0.08 * (players > 1) * rng.standard_normal()) / 12)
                    add_note(out, fs, at, length, hz, timbre, attack, sustain, vibrato * rng.uniform(0.6, 1.4), rng)
            at += length
    out = unit(out)
    if rng.random() < 0.5:
        time = np.arange(n) / fs
        for divider, level, decay in ((1, 0.8, 18.0), (2, 0.4, 60.0)):
            since = np.mod(time + rng.random() * beat, beat / divider)
            out = out + level * rng.random() * np.exp(-decay * since) * unit(coloured(n, fs, rng))
    return out


def add_note(
    out: np.ndarray, fs: int, at: float, length: float, pitch: float, timbre: np.ndarray, attack: float,
    sustain: float, vibrato: float, rng: Rng,
) -> None:  # fmt: skip
    """Add one note from `at` (s) on."""
    begin = int(at * fs)
    time = np.arange(min(int(length * fs), len(out) - begin)) / fs
    if not len(time):
        return
    rate = rng.uniform(4.5, 6.5)
    phase = 6.28 * rng.random() + 2 * np.pi * pitch * (time + vibrato / rate / 6.28 * np.sin(2 * np.pi * rate * time))
    shape = np.minimum(time / attack, 1) * np.exp(-time / sustain) * np.minimum((length - time) / 0.03, 1)
    audible = [(k, w) for k, w in enumerate(timbre, 1) if k * pitch < 0.45 * fs]
    out[begin : begin + len(time)] += shape * sum(w * np.sin(k * phase) for k, w in audible)


KINDS: dict[str, Callable[[int, int, Rng], np.ndarray]] = {
    "coloured": coloured,
    "swell": swell,
    "engine": engine,
    "impacts": impacts,
    "calls": calls,
    "music": music,
}


def unit(sound: np.ndarray) -> np.ndarray:
    """With a mean square of one."""
    return sound / np.sqrt(np.mean(np.square(sound)) + 1e-12)


def write_wav(path: Path, samples: np.ndarray, fs: int) -> None:
    """Mono, 16 bit, largest sample at half scale."""
    scaled = np.round(samples / (np.abs(samples).max() + 1e-12) * 16384).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, fs, len(scaled), "NONE", "not compressed"))
        file.writeframes(scaled.tobytes())


def make_file(name: str, directory: Path, seconds: float, fs: int) -> str:
    """Write one sound, drawn by its name; its line for wav.scp."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    sound = KINDS[name.split("-", maxsplit=1)[0]](int(seconds * fs), fs, rng)
    path = directory / f"{name}.wav"
    write_wav(path, unit(sound), fs)
    return f"{name} {path}\n"


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--output_dir", type=Path, default=Path("data/noise"))
    parser.add_argument("--count", type=int, default=40, help="sounds, as many of each kind as of any other")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--fs", type=int, default=16000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="processes")
    args = parser.parse_args()
    args.output_dir.mkdir(parents=True, exist_ok=True)
    names = [f"{list(KINDS)[number % len(KINDS)]}-{args.seed}-{number:03d}" for number in range(args.count)]
    work = partial(make_file, directory=args.output_dir, seconds=args.seconds, fs=args.fs)
    with multiprocessing.get_context("fork").Pool(args.nj) as pool:
        lines = pool.map(work, names, chunksize=4)
    (args.output_dir / "wav.scp").write_text("".join(sorted(lines)), encoding="utf-8")
    print(f"{args.output_dir}: {args.count} sounds of {args.seconds:g} s")


if __name__ == "__main__":
    main()

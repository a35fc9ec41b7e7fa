#!/usr/bin/env python3
"""Transcribe the demo's recording with the models of the mini recipes, and compare it with what was said.

    local/transcribe.py --asr ASR_DIR --vad VAD_DIR --punc PUNC_DIR --data data

Ends with status 1 if the result is worse than --max_wer and --min_f1 allow.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from funasr import AutoModel
from funasr.metrics.error_rate import ErrorRate, align, count_errors
from funasr.metrics.punctuation import PunctuationScore, score_marks

MARKS = ",.?"
NOTHING = "_"


@dataclass(frozen=True)
class Sentence:
    """A sentence with its times in s."""

    start: float
    end: float
    text: str
    speaker: str = ""


def sentences_of(result: Mapping[str, Any]) -> list[Sentence]:
    """The sentences of a result of `generate`, from its text and the times of its words."""
    words, times = result["text"].split(), result["timestamp"]
    if len(words) != len(times):
        raise ValueError(f"{len(words)} words, but {len(times)} times")
    found, first = [], 0
    for position, word in enumerate(words):
        if word[-1] in ".?" or position + 1 == len(words):
            text = " ".join(words[first : position + 1])
            found.append(Sentence(times[first][0] / 1000, times[position][1] / 1000, text))
            first = position + 1
    return found


def read_said(path: Path) -> list[Sentence]:
    """The truth, as make_recording.py writes it."""
    return [Sentence(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def bare(text: str) -> list[str]:
    """Words in lower case without marks."""
    return [word.rstrip(MARKS).lower() for word in text.split()]


def marks(text: str) -> list[str]:
    """The mark behind each word."""
    return [word[len(word.rstrip(MARKS)) :] or NOTHING for word in text.split()]


def score(said: str, heard: str) -> tuple[ErrorRate, PunctuationScore]:
    """Errors of the words; marks, of which those behind a lost word are lost and those behind an inserted one wrong."""
    pairs = align(bare(said), bare(heard))
    wanted, given = iter(marks(said)), iter(marks(heard))
    columns = [
        (NOTHING if pair.ref is None else next(wanted), NOTHING if pair.hyp is None else next(given)) for pair in pairs
    ]
    found = score_marks([([ref for ref, _ in columns], [hyp for _, hyp in columns])], NOTHING)
    return count_errors(pairs), found


def show(said: Sequence[Sentence], heard: Sequence[Sentence]) -> None:
    """Both lists in the order of time."""
    lines = [(one.start, 0, "said ", one) for one in said] + [(one.start, 1, "heard", one) for one in heard]
    for _, _, kind, one in sorted(lines, key=lambda line: line[:2]):
        print(f"{kind} {one.start:7.2f} - {one.end:6.2f}  {one.speaker:10s} {one.text}")


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name in ("asr", "vad", "punc"):
        parser.add_argument(f"--{name}", required=True, help="model directory")
    parser.add_argument("--data", type=Path, default=Path("data"), help="where recording.wav and said.jsonl are")
    parser.add_argument("--end_silence_ms", type=int, default=500, help="pause that ends a segment of speech")
    parser.add_argument("--max_wer", type=float, default=15.0, help="per cent")
    parser.add_argument("--min_f1", type=float, default=0.8, help="of all marks together")
    args = parser.parse_args()
    # Otherwise young segments end after 2 s of silence: too long for a recogniser that was trained on short ones.
    pause = {"max_end_silence_time": args.end_silence_ms}
    model = AutoModel(model=args.asr, vad_model=args.vad, vad_kwargs=pause, punc_model=args.punc, disable_pbar=True)
    started = time.perf_counter()
    (result,) = model.generate(str(args.data / "recording.wav"), output_timestamp=True)
    seconds = time.perf_counter() - started
    said, heard = read_said(args.data / "said.jsonl"), sentences_of(result)
    show(said, heard)
    words, found = score(" ".join(one.text for one in said), result["text"])
    first = zip(result["text"].split(), result["timestamp"])
    print(
        "\nwords and their times in ms: " + " ".join(f"{word}[{t[0]}-{t[1]}]" for word, t in list(first)[:8]) + " ..."
    )
    print(
        f"%WER {words.rate:.2f} [ {words.errors} / {words.words}, "
        f"{words.ins} ins, {words.dele} del, {words.sub} sub ], transcribed in {seconds:.1f} s"
    )
    shown = (f"{mark} {one.f1:.3f} ({one.wanted})" for mark, one in found.marks.items() if mark != "places")
    print("F1 of the marks (how many there are): " + ", ".join(shown))
    if words.rate > args.max_wer or found["all"].f1 < args.min_f1:
        print(f"that is worse than it should be: WER above {args.max_wer:g} %, or F1 below {args.min_f1:g}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

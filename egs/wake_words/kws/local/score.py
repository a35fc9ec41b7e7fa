#!/usr/bin/env python3
"""How well keywords are found: recall against false alarms per hour, and accuracy among the keywords and none.

    python local/score.py data/test exp/kws/decode/test/text

The second file has a line `ID detected KEYWORD SCORE` or `ID rejected` for each utterance of the data directory.  What
is found in an utterance without a keyword is a false alarm; to find another keyword than the one spoken is a miss.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from funasr.datasets.sound import SoundReader, entry_length
from funasr.utils.data_dir import read_table
from funasr.utils.io import write_text

NONE = ""


@dataclass(frozen=True)
class Trial:
    """One utterance: the keyword spoken and the one found ("" for none), with its score."""

    spoken: str
    found: str
    score: float


@dataclass(frozen=True)
class Point:
    """Recall, and false alarms per hour, if only findings with at least this score count."""

    threshold: float
    recall: float
    false_alarms_per_hour: float


def read_trials(text: Path, result: Path, keywords: set[str]) -> dict[str, Trial]:
    """Utterance -> trial; one without a result counts as rejected."""
    found = {uid: line.split() for uid, line in read_table(result).items()}
    trials = {}
    for uid, spoken in read_table(text).items():
        _, keyword, score = found[uid] if len(found.get(uid, ())) == 3 else ("", NONE, "0")
        trials[uid] = Trial(spoken if spoken in keywords else NONE, keyword, float(score))
    return trials


def operating_points(trials: list[Trial], hours: float) -> list[Point]:
    """A point for each score that occurs, the highest first; `hours` is the length of all without a keyword."""
    spoken = max(1, sum(trial.spoken != NONE for trial in trials))
    points = []
    for threshold in sorted({trial.score for trial in trials if trial.found}, reverse=True):
        over = [trial for trial in trials if trial.found and trial.score >= threshold]
        recall = sum(trial.found == trial.spoken for trial in over) / spoken
        points.append(Point(threshold, recall, sum(trial.spoken == NONE for trial in over) / hours))
    return points


def best_at(points: list[Point], rate: float) -> Point:
    """The highest recall with at most `rate` false alarms per hour."""
    allowed = [point for point in points if point.false_alarms_per_hour <= rate]
    return max(allowed, key=lambda point: point.recall, default=Point(1.0, 0.0, 0.0))


def accuracy(trials: list[Trial], threshold: float) -> float:
    """Share of the utterances with the right answer, keyword or none; the utterances without count as one keyword.

    Without that weight the answer "none" to everything would be a good one.
    """
    right: dict[str, list[bool]] = {}
    for trial in trials:
        answer = trial.found if trial.score >= threshold else NONE
        right.setdefault(trial.spoken, []).append(answer == trial.spoken)
    return sum(sum(all_) / len(all_) for all_ in right.values()) / len(right)


def hours_of(data: Path, uids: set[str]) -> float:
    """Length of the utterances in hours."""
    segments = data / "segments"
    if segments.is_file():
        spans = [line.split() for uid, line in read_table(segments).items() if uid in uids]
        return sum(float(end) - float(begin) for _, begin, end in spans) / 3600
    reader = SoundReader(read_table(data / "wav.scp"))
    lengths = [entry_length(*reader.entry(uid)) for uid in uids]
    return sum(samples / rate for samples, rate in lengths) / 3600


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("data", type=Path, help="data directory")
    parser.add_argument("result", type=Path, help="what was found")
    parser.add_argument("--keywords", nargs="+", default=["alexa", "computer", "jarvis"])
    parser.add_argument("--rates", type=float, nargs="+", default=[0, 1, 5, 20], help="false alarms per hour")
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="score from which a finding counts in the accuracy"
    )
    parser.add_argument("--name", default="test", help="of the data, in the JSON file")
    parser.add_argument("--output", type=Path, help="JSON file for funasr.bin.write_results")
    args = parser.parse_args()
    trials = read_trials(args.data / "text", args.result, set(args.keywords))
    without = {uid for uid, trial in trials.items() if trial.spoken == NONE}
    hours = hours_of(args.data, without)
    points = operating_points(list(trials.values()), hours)
    cells = {"keywords": str(len(trials) - len(without)), "other speech": f"{hours:.2f} h"}
    for rate in args.rates:
        point = best_at(points, rate)
        cells[f"recall at {rate:g}/h"] = f"{100 * point.recall:.1f} (from {point.threshold:.2f})"
    cells["accuracy"] = f"{100 * accuracy(list(trials.values()), args.threshold):.1f} (from {args.threshold:g})"
    print("\n".join(f"{name:>16}  {value}" for name, value in cells.items()))
    if args.output:
        table = {"title": "Keyword spotting (%)", "head": list(cells), "rows": [list(cells.values())]}
        write_text(args.output, json.dumps({"name": args.name, "tables": [table]}, indent=2) + "\n")


if __name__ == "__main__":
    main()

"""Score voice activity detection: `python -m funasr.bin.score_vad --ref LABELS --wav_scp W --hyp fsmn=DIR/text`.

References and results are label tables, `ID [[start_ms, end_ms], ...]`.  Several systems (`--hyp NAME=FILE`, repeated)
are scored side by side; `--scores NAME=FILE` adds the probabilities of frames, `ID p p p ...` every 10 ms.  With
--output_dir writes result.txt, result.json (for write_results) and det.svg.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from funasr.bin.command import user_errors
from funasr.datasets.data_types import open_reader
from funasr.datasets.vad_labels import Labels, fit_labels, read_label_table
from funasr.metrics.vad import (
    FRAME_S,
    BoundaryErrors,
    DetCurve,
    FrameCounts,
    count_frames,
    det_curve,
    det_svg,
    span_frames,
)
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.io import write_text
from funasr.utils.logging import setup_logging

logger = logging.getLogger(__name__)

FS = 16000  # Hz, at which lengths are counted
FRAME_SLACK = 5  # frames by which a list of probabilities may be shorter or longer than the audio
THRESHOLD = 0.5
HEAD = ("system", "F1", "Prec", "Rec", "Miss", "FA", "FrameErr", "FAtime", "Start ms", "End ms", "EER")
MEANING = (
    "F1, precision, recall over frames of 10 ms; Miss: % of the speech; FA: % of the rest; FrameErr, FAtime: % of all "
    "frames that are wrong, that are false alarms; Start, End: mean distance of segment boundaries, of those within "
    "0.5 s; EER: equal error rate of the probabilities."
)


@dataclass
class System:
    """What is known of one system."""

    counts: FrameCounts = field(default_factory=FrameCounts)
    boundaries: BoundaryErrors | None = None
    curve: DetCurve | None = None
    best: tuple[float, float] | None = None  # F1 and threshold, chosen on these very data
    missing: list[str] = field(default_factory=list)

    def row(self, name: str) -> list[str]:
        """Cells of the table, in per cent but for the boundaries."""
        counts, edges = self.counts, self.boundaries.to_dict() if self.boundaries else {}
        rates = [counts.f1, counts.precision, counts.recall, counts.miss_rate, counts.false_alarm_rate]
        rates += [counts.frame_error, counts.false_alarm / counts.frames if counts.frames else math.nan]
        times = [edges.get(f"{side}_abs_ms") for side in ("start", "end")]
        return [
            name,
            *("-" if math.isnan(rate) else f"{100 * rate:.2f}" for rate in rates),
            *("-" if time is None else f"{time:.0f}" for time in times),
            "-" if self.curve is None else f"{100 * self.curve.equal_error_rate:.2f}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        result: dict[str, Any] = self.counts.to_dict()
        if self.boundaries is not None:
            result["boundaries"] = self.boundaries.to_dict()
        if self.curve is not None and self.best is not None:
            result["equal_error_rate"] = round(self.curve.equal_error_rate, 6)
            result["best_f1"], result["best_threshold"] = (round(value, 6) for value in self.best)
        return {**result, "missing": self.missing}


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(prog="funasr.bin.score_vad", description=__doc__.splitlines()[0])
    parser.add_argument("--ref", required=True, help="label table of the references")
    parser.add_argument("--wav_scp", required=True, help="the recordings, for their lengths")
    parser.add_argument("--hyp", action="append", default=[], metavar="NAME=FILE", help="label table of a system")
    parser.add_argument("--scores", action="append", default=[], metavar="NAME=FILE", help="`ID p p p`, every 10 ms")
    parser.add_argument("--output_dir", type=Path, help="where to write the reports")
    parser.add_argument("--name", help="name of the set; the folder of --ref if not given")
    return parser


def read_lengths(wav_scp: str) -> dict[str, float]:
    """Recording -> seconds."""
    reader: Any = open_reader(wav_scp, "sound", fs=FS)
    return {key: reader.num_samples(key) / FS for key in reader}


def score_segments(reference: Labels, found: Labels, seconds: Mapping[str, float]) -> System:
    """Frames and boundaries of a system's segments; a recording it lacks counts as one where it found nothing."""
    system = System(boundaries=BoundaryErrors())
    assert system.boundaries is not None
    for key, spans in reference.items():
        if key not in found:
            system.missing.append(key)
        ours = found.get(key, [])
        frames = round(seconds[key] / FRAME_S)
        system.counts += count_frames(span_frames(spans, frames), span_frames(ours, frames))
        system.boundaries.add(spans, ours)
    return system


def score_probabilities(reference: Labels, path: str, seconds: Mapping[str, float]) -> System:
    """Frames taken for speech from 0.5 on, and all thresholds.  DataError for lists that do not fit the audio."""
    table = open_reader(path, "text_float")
    system, scores, truth = System(), [], []
    for key, spans in reference.items():
        if key not in table:
            system.missing.append(key)
            continue
        frames, values = round(seconds[key] / FRAME_S), table[key]
        if abs(len(values) - frames) > FRAME_SLACK or not len(values):
            raise DataError(f"{path}: {key} has {len(values)} values, but lasts {frames} frames of 10 ms")
        scores.append(values[np.minimum(np.arange(frames), len(values) - 1)])
        truth.append(span_frames(spans, frames))
    if not scores:
        raise DataError(f"{path} has none of the recordings of the reference")
    values, speech = np.concatenate(scores), np.concatenate(truth)
    system.counts = count_frames(speech, values >= THRESHOLD)
    if speech.any() and not speech.all():
        system.curve = det_curve(values, speech)
        system.best = system.curve.best_f1(int(speech.sum()), int((~speech).sum()))
    return system


def score_all(args: argparse.Namespace) -> dict[str, System]:
    """Name -> score of every system, the segments first."""
    seconds = read_lengths(args.wav_scp)
    reference = fit_labels(read_label_table(args.ref), seconds, args.ref)
    systems: dict[str, System] = {}
    for word in args.hyp:
        name, path = _named(word, "--hyp")
        systems[name] = score_segments(reference, read_label_table(path), seconds)
    for word in args.scores:
        name, path = _named(word, "--scores")
        systems[f"{name} (frames)"] = score_probabilities(reference, path, seconds)
    if not systems:
        raise ConfigError("nothing to score: give --hyp NAME=FILE or --scores NAME=FILE")
    return systems


def result_text(name: str, systems: Mapping[str, System]) -> str:
    """The table in columns, what it means, and the best threshold of each list of probabilities."""
    rows = [HEAD, *(tuple(system.row(label)) for label, system in systems.items())]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEAD))]
    lines = [name, ""]
    lines += ["  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
              for row in rows]  # fmt: skip
    lines += ["", MEANING]
    for label, system in systems.items():
        if system.best is not None:
            lines.append(f"{label}: best F1 {100 * system.best[0]:.2f} at threshold {system.best[1]:.4f} (seen here)")
        if system.missing:
            lines.append(f"{label}: no result for {len(system.missing)} recordings, e.g. {system.missing[0]}")
    return "\n".join(lines) + "\n"


def write_reports(directory: Path, name: str, systems: Mapping[str, System]) -> None:
    """result.txt, result.json and, where there are curves, det.svg."""
    write_text(directory / "result.txt", result_text(name, systems))
    rows = [system.row(label) for label, system in systems.items()]
    table = {"title": "Voice activity, %", "head": HEAD, "rows": rows}
    content = {"name": name, "tables": [table], "systems": {label: s.to_dict() for label, s in systems.items()}}
    write_text(directory / "result.json", json.dumps(content, ensure_ascii=False, indent=1) + "\n")
    curves = {label: system.curve for label, system in systems.items() if system.curve is not None}
    points = {
        label: (system.counts.false_alarm_rate, system.counts.miss_rate)
        for label, system in systems.items()
        if system.curve is None and system.counts.speech and system.counts.speech < system.counts.frames
    }
    if curves or points:
        write_text(directory / "det.svg", det_svg(curves, points, name))


def _named(word: str, option: str) -> tuple[str, str]:
    name, equals, path = word.partition("=")
    if not equals or not name or not path:
        raise ConfigError(f"{option} takes NAME=FILE, not '{word}'")
    return name, path


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Score and write; returns the exit status."""
    args = get_parser().parse_args(argv)
    setup_logging("WARNING")
    systems = score_all(args)
    name = args.name or Path(args.ref).resolve().parent.name
    if args.output_dir is not None:
        write_reports(args.output_dir, name, systems)
    print(result_text(name, systems), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

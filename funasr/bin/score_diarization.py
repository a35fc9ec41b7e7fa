"""Diarization error rate: `python -m funasr.bin.score_diarization --ref_rttm A --hyp_rttm B --uem C`.

Scores with collars of 0.25 and 0 s (`--collar` says otherwise), with and without overlapping speech.  Prints a table;
`--output_dir` gets result.json with the seconds of each recording.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from funasr.bin.command import user_errors
from funasr.metrics.diarization import Condition, DiarizationErrors, read_uem, score_diarization
from funasr.utils.errors import ConfigError
from funasr.utils.io import write_text
from funasr.utils.rttm import Turn, read_rttm

HEAD = ("collar (s)", "overlap", "DER", "missed", "false alarm", "confusion", "speech (s)")


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ref_rttm", required=True, nargs="+", help="who really speaks when")
    parser.add_argument("--hyp_rttm", required=True, nargs="+", help="what a system says")
    parser.add_argument("--uem", nargs="+", help="what is scored; default: from the first to the last turn")
    parser.add_argument("--collar", type=float, nargs="+", default=[0.25, 0.0], help="s around reference boundaries")
    parser.add_argument("--name", help="of the set, in result.json; default: the folder of --hyp_rttm")
    parser.add_argument("--output_dir", type=Path)
    return parser


def read_all(paths: Sequence[str]) -> dict[str, list[Turn]]:
    """The turns of several RTTM files together."""
    turns: dict[str, list[Turn]] = {}
    for path in paths:
        for recording, found in read_rttm(path).items():
            turns.setdefault(recording, []).extend(found)
    return turns


def table_row(condition: Condition, total: DiarizationErrors) -> list[str]:
    """A row under `HEAD`; errors in per cent of the speech."""
    shares = (total.rate, *(total.share(value) for value in (total.miss, total.false_alarm, total.confusion)))
    percents = [f"{100 * share:.1f}" for share in shares]
    return [f"{condition.collar:g}", "scored" if condition.overlap else "left out", *percents, f"{total.speech:.1f}"]


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = get_parser().parse_args(argv)
    if min(args.collar) < 0:
        raise ConfigError(f"--collar {min(args.collar)} must not be negative")
    ref, hyp = read_all(args.ref_rttm), read_all(args.hyp_rttm)
    uem = {name: spans for path in args.uem for name, spans in read_uem(path).items()} if args.uem else None
    rows, conditions = [], []
    for condition in [Condition(collar, overlap) for collar in args.collar for overlap in (False, True)]:
        by_recording = score_diarization(ref, hyp, uem, condition)
        total = sum(by_recording.values(), DiarizationErrors())
        rows.append(table_row(condition, total))
        recordings = {name: asdict(errors) for name, errors in by_recording.items()}
        conditions.append({**asdict(condition), "der": total.rate, **asdict(total), "recordings": recordings})
    for cells in (HEAD, *rows):
        print("\t".join(cells))
    silent = sorted(name for name in ref if name not in hyp)
    if silent:
        named = ", ".join(silent[:5])
        print(f"{len(silent)} recordings have no system turns, e.g. {named}: all missed", file=sys.stderr)
    if args.output_dir is not None:
        name = args.name or Path(args.hyp_rttm[0]).resolve().parent.name
        table = {"title": "Diarization error rate (%)", "head": HEAD, "rows": rows}
        result = {"name": name, "tables": [table], "conditions": conditions}
        write_text(args.output_dir / "result.json", json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Score recognised text: `python -m funasr.bin.score --ref data/test/text --hyp DIR/text --unit char --output_dir DIR`.

Prints `%WER ...` and `%SER ...`; with `--output_dir` writes result.txt (speaker table, confusions, confidence
interval), report.txt and report.html (each utterance aligned) and result.json (for write_results).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from funasr.bin.command import user_errors
from funasr.metrics.error_rate import UNITS, score, score_to_dict
from funasr.metrics.report import report_html, report_text, result_text, summary_lines, warning_lines
from funasr.text.cleaner import CLEANER_TYPES, TextCleaner
from funasr.utils.data_dir import read_table
from funasr.utils.io import write_text


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(prog="funasr.bin.score", description=__doc__.splitlines()[0])
    parser.add_argument("--ref", required=True, help="references, lines `ID text`")
    parser.add_argument("--hyp", required=True, help="hypotheses, lines `ID text`")
    parser.add_argument("--unit", choices=UNITS, default="word", help="mixed: CJK characters and words")
    parser.add_argument("--utt2spk", help="lines `ID speaker`; without it there is only a total")
    parser.add_argument("--output_dir", type=Path, help="where to write the reports")
    parser.add_argument("--name", help="name of the set; the folder of --ref if not given")
    parser.add_argument("--case_sensitive", action="store_true", help="do not lower-case")
    parser.add_argument("--cleaner", choices=CLEANER_TYPES, default="none", help="applied to both sides first")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples for the confidence interval")
    parser.add_argument("--seed", type=int, default=0, help="of the resampling")
    return parser


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Score and write; returns the exit status."""
    args = get_parser().parse_args(argv)
    clean = TextCleaner(args.cleaner)
    refs, hyps = (
        {key: clean(text) for key, text in read_table(path, value_optional=True).items()}
        for path in (args.ref, args.hyp)
    )
    utt2spk = read_table(args.utt2spk) if args.utt2spk else None
    name = args.name or Path(args.ref).resolve().parent.name
    scored = score(refs, hyps, args.unit, utt2spk=utt2spk, case_sensitive=args.case_sensitive, name=name)
    result = score_to_dict(scored, resamples=args.bootstrap, seed=args.seed)
    if args.output_dir is not None:
        write_text(args.output_dir / "result.txt", result_text(scored, resamples=args.bootstrap, seed=args.seed))
        write_text(args.output_dir / "report.txt", report_text(scored))
        write_text(args.output_dir / "report.html", report_html(scored, resamples=args.bootstrap, seed=args.seed))
        write_text(args.output_dir / "result.json", json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    print("\n".join(summary_lines(scored)))
    for line in warning_lines(scored):
        print(line, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

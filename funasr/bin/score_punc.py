"""Score punctuated text: `python -m funasr.bin.score_punc --ref data/test --hyp RESULT --rules_from data/train`.

Reads REF/{text,punc} and RESULT/punc (marks as `funasr.bin.punc_inference` writes them).  Prints precision, recall and
F1 of each mark, of the model and of the best simple rules (see funasr.datasets.punc_rules); with `--output_dir` writes
result.txt, and result.json for funasr.bin.write_results.  The last word of each text is not scored: every method
closes the text there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from funasr.bin.command import user_errors
from funasr.datasets.punc_list import full_width
from funasr.datasets.punc_preprocessor import token_marks
from funasr.datasets.punc_rules import Rules, Text, fit_rules
from funasr.metrics.punctuation import PunctuationScore, score_marks, to_dict
from funasr.models.ct_transformer.tokens import tokenize_words
from funasr.utils.data_dir import read_table
from funasr.utils.errors import DataError
from funasr.utils.io import write_text

HEAD = ("method", "mark", "in text", "precision", "recall", "F1")
TITLE = "Punctuation (per cent)"


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        prog="funasr.bin.score_punc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ref", type=Path, required=True, help="data directory with text and punc")
    parser.add_argument("--hyp", type=Path, required=True, help="directory with punc")
    parser.add_argument("--rules_from", type=Path, help="data directory of the training set, to find rules in")
    parser.add_argument("--output_dir", type=Path, help="where to write the reports")
    parser.add_argument("--name", help="name of the set; the folder of --ref if not given")
    return parser


def read_marked(directory: Path) -> dict[str, Text]:
    """Words and marks of a data directory, by id; a word of several tokens (`你好`) as its tokens."""
    texts, puncs = read_table(directory / "text"), read_table(directory / "punc")
    found: dict[str, Text] = {}
    for uid, text in texts.items():
        if uid not in puncs:
            raise DataError(f"{directory / 'punc'} has no '{uid}', which is in {directory / 'text'}")
        words, marks = text.split(), [full_width(mark) for mark in puncs[uid].split()]
        if len(words) != len(marks):
            raise DataError(f"{directory}: '{uid}' has {len(words)} words but {len(marks)} marks")
        tokens, owners = tokenize_words(words)
        found[uid] = tokens, token_marks(marks, owners)
    return found


def score_hypothesis(refs: dict[str, Text], path: Path) -> PunctuationScore:
    """Score a `punc` file.  Raises DataError for a text that it lacks or has another number of marks for."""
    hyps = read_table(path, value_optional=True)
    pairs = []
    for uid, (words, marks) in refs.items():
        if uid not in hyps:
            raise DataError(f"{path} has no '{uid}'")
        found = hyps[uid].split()
        if len(found) != len(marks):
            raise DataError(f"{path}: '{uid}' has {len(found)} marks, but its text has {len(words)} words")
        pairs.append((marks, found))
    return score_marks(pairs)


def result_dict(name: str, scores: dict[str, PunctuationScore], rules: Rules | None) -> dict[str, Any]:
    """What result.json holds: all counts, and the table for RESULTS.md."""
    rows = [
        [method, mark, str(found.wanted), *(f"{100 * rate:.1f}" for rate in (found.precision, found.recall, found.f1))]
        for method, score in scores.items()
        for mark, found in score.marks.items()
    ]
    return {
        "name": name,
        "scores": {method: to_dict(score) for method, score in scores.items()},
        "rules": [] if rules is None else [str(rule) for rule in rules.rules],
        "tables": [{"title": TITLE, "head": list(HEAD), "rows": rows}],
    }


def result_text(result: dict[str, Any]) -> str:
    """The table in columns, then the rules."""
    rows = [list(HEAD), *result["tables"][0]["rows"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = [result["name"], ""]
    lines += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]
    if result["rules"]:
        lines += ["", "rules, found in the training text:", *result["rules"]]
    return "\n".join(lines) + "\n"


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Score and write; returns the exit status."""
    args = get_parser().parse_args(argv)
    refs = read_marked(args.ref)
    scores = {"model": score_hypothesis(refs, args.hyp / "punc")}
    rules = None
    if args.rules_from is not None:
        rules = fit_rules(list(read_marked(args.rules_from).values()))
        scores["rules"] = score_marks((marks, rules.apply(words)) for words, marks in refs.values())
    result = result_dict(args.name or args.ref.resolve().name, scores, rules)
    if args.output_dir is not None:
        write_text(args.output_dir / "result.txt", result_text(result))
        write_text(args.output_dir / "result.json", json.dumps(result, ensure_ascii=False, indent=1) + "\n")
    print(result_text(result), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Collect scores into RESULTS.md: `python -m funasr.bin.write_results --exp exp --output RESULTS.md`.

Reads every result.json that a score command wrote below the experiment directories, and renders one table per
experiment and unit between two marker lines.  What else stands in the file is kept.

A score of another kind than error rates brings its tables itself: `{"name": SET, "tables": [{"title": "Speech",
"head": ["system", "F1"], "rows": [["fsmn", "93.1"], ...]}]}`; rows of one title and head come into one table.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any

import funasr
from funasr.bin.command import user_errors
from funasr.utils.errors import DataError
from funasr.utils.io import write_text

BEGIN, END = "<!-- results: begin, written by funasr.bin.write_results -->", "<!-- results: end -->"

_HEAD = ("dataset", "Snt", "Wrd", "Corr", "Sub", "Del", "Ins", "Err", "S.Err")
_MEASURES = {"word": "WER", "char": "CER", "mixed": "MER"}
_COUNTS = ("sentences", "words", "corr", "sub", "del", "ins", "errors", "wrong_sentences")


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(prog="funasr.bin.write_results", description=__doc__.splitlines()[0])
    parser.add_argument("--exp", type=Path, nargs="+", required=True, help="experiment directories, or one of those")
    parser.add_argument("--output", type=Path, default=Path("RESULTS.md"))
    return parser


def collect(directory: Path) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    """Experiment -> (dataset, result) of each result.json below `directory`, both in order of name.

    `directory` is an experiment if it has a config.yaml, else each of its folders is one.  The dataset is the path of
    the score inside the experiment, without a last `score_...`.  Raises DataError for a file that is no such result.
    """
    if not directory.is_dir():
        raise DataError(f"{directory} is not a directory")
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    single = (directory / "config.yaml").is_file()
    for path in sorted(directory.rglob("result.json")):
        parts = list(path.parent.relative_to(directory).parts)
        experiment = directory.resolve().name if single or not parts else parts.pop(0)
        if parts and parts[-1].startswith("score"):
            parts.pop()
        result = _read_result(path)
        if not parts or parts[-1] != result["name"]:
            parts.append(result["name"])
        found.setdefault(experiment, []).append(("/".join(parts), result))
    if not found:
        raise DataError(f"{directory}: there is no result.json below it; run `python -m funasr.bin.score` first")
    return found


def environment_lines() -> list[str]:
    """When, with what and from which commit the table was made."""
    return [
        "## Environment",
        "",
        f"- date: `{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC`",
        f"- python version: `{platform.python_version()}`",
        f"- funasr version: `{funasr.__version__}`",
        f"- pytorch version: `{_version('torch')}`",
        f"- git hash: `{_git('rev-parse', 'HEAD')}`",
        f"- commit date: `{_git('log', '-1', '--format=%cd')}`",
    ]


def table_lines(results: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    """One table per unit: counts of sentences and words, then per cent; then those that results bring with them."""
    tables: dict[tuple[str, ...], list[str]] = {}
    for unit, measure in _MEASURES.items():
        rows = [_row(dataset, result) for dataset, result in results if result.get("unit") == unit]
        if rows:
            tables[(measure, *_HEAD)] = rows
    for dataset, result in results:
        for table in result.get("tables", ()):
            own = tables.setdefault((table["title"], "dataset", *table["head"]), [])
            own += [_line([dataset, *row]) for row in table["rows"]]
    lines: list[str] = []
    for (title, *head), rows in tables.items():
        lines += ["", f"### {title}", "", _line(head), _line(["---", *["---:"] * (len(head) - 1)]), *rows]
    return lines


def replace_block(document: str, block: str) -> str:
    """`document` with what stands between the markers replaced by `block`, or with the block at its end.

    Raises DataError if only one marker is there, or one twice.
    """
    marked = f"{BEGIN}\n{block}\n{END}"
    if BEGIN not in document and END not in document:
        return f"{document.rstrip()}\n\n{marked}\n" if document.strip() else f"# RESULTS\n\n{marked}\n"
    before, _, rest = document.partition(BEGIN)
    old, end, after = rest.partition(END)
    if not end or BEGIN in old + after or END in before + after:
        raise DataError(f"the markers `{BEGIN}` and `{END}` must each stand once, in this order; mend or delete them")
    return before + marked + after


def _row(dataset: str, result: dict[str, Any]) -> str:
    words, sentences = max(result["words"], 1), max(result["sentences"], 1)
    percents = [100.0 * result[key] / words for key in ("corr", "sub", "del", "ins", "errors")]
    percents.append(100.0 * result["wrong_sentences"] / sentences)
    cells = [dataset, str(result["sentences"]), str(result["words"])]
    return _line([*cells, *(f"{value:.1f}" for value in percents)])


def _line(cells: Sequence[Any]) -> str:
    return "|" + "|".join(str(cell).replace("|", r"\|") for cell in cells) + "|"


def _read_result(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not JSON: {error}") from None
    known = isinstance(result, dict) and isinstance(result.get("name"), str)
    if known and "tables" not in result:
        known = result.get("unit") in _MEASURES and all(isinstance(result.get(key), int) for key in _COUNTS)
    if not known:
        raise DataError(f"{path} was not written by a score command; delete it or score again")
    return result


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _git(*command: str) -> str:
    try:
        done = subprocess.run(("git", *command), capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return done.stdout.strip() or "unknown"


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Write the file; returns the exit status."""
    args = get_parser().parse_args(argv)
    lines = environment_lines()
    for directory in args.exp:
        for experiment, results in collect(directory).items():
            lines += ["", f"## {experiment}", *table_lines(results)]
    document = args.output.read_text(encoding="utf-8") if args.output.is_file() else ""
    write_text(args.output, replace_block(document, "\n".join(lines)))
    print(args.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())

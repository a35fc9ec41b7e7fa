"""Punctuated text -> training and test data of a punctuation model.

    python -m funasr.bin.prepare_punc book1.txt book2.txt --output_dir data
    python -m funasr.bin.prepare_punc --check data/train

Writes OUTPUT_DIR/{train,dev,test}/{text,punc}: words, and the mark after each (`_` for none).  The last chapters of
each text are the test set, those before them the validation set.  train and dev hold windows as the model sees them,
test holds passages of whole sentences.  A share of 0 leaves a set out; `--test_share 1` makes all of the texts a test
set.  What becomes of quotes, abbreviations, capitals and other marks: see docs/punctuation.md.
"""

from __future__ import annotations

import argparse
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from funasr.bin.command import user_errors
from funasr.datasets.punc_list import PUNC_LIST, MarkMap, read_punc_list
from funasr.datasets.punc_text import paragraphs
from funasr.datasets.punc_windows import Stretch, chapters, has_chapters, hold_back, joined, passages, windows
from funasr.datasets.rng import keyed_generator
from funasr.models.ct_transformer.marks import NOTHING
from funasr.utils.data_dir import read_lines, split_record
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.io import write_text
from funasr.utils.logging import setup_logging
from funasr.utils.option_types import int_range, str_or_none

logger = logging.getLogger(__name__)


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(
        prog="funasr.bin.prepare_punc", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("text", nargs="*", type=Path, help="punctuated UTF-8 texts; the name of a file is part of the ids")
    add("--check", nargs="+", type=Path, default=[], metavar="DIR", help="only check data directories")
    add("--output_dir", type=Path, default=Path("data"), help="gets a directory for each set")
    add("--train_set", default="train", help="name of the training set")
    add("--valid_set", default="dev")
    add("--test_set", default="test")
    add("--valid_share", type=float, default=0.05, help="of the words of each text, in whole chapters")
    add("--test_share", type=float, default=0.1)
    add("--punc_list", type=str_or_none, default=None, help="file of marks; default: those of the released models")
    add("--casing", choices=("lower", "keep"), default="lower", help="lower: words as most recognisers give them")
    add("--lines", choices=("wrapped", "paragraphs"), default="wrapped", help="paragraphs: each line is one")
    add("--min_window", type=int_range(2), default=20, help="words of the shortest training windows")
    add("--max_window", type=int_range(2), default=200, help="words of the longest")
    add(
        "--passes", type=int_range(1), default=1, help="how often the training text is cut into windows, each time anew"
    )
    add("--passage", type=int_range(1), default=300, help="least words of a test passage")
    add("--seed", type=int, default=0, help="of the window lengths")
    return parser


def prepare(args: argparse.Namespace) -> None:
    """Write the sets.  Raises DataError for a text that nothing can be learned from."""
    if args.min_window > args.max_window:
        raise ConfigError(f"--min_window {args.min_window} is above --max_window {args.max_window}")
    marks = MarkMap(PUNC_LIST if args.punc_list is None else read_punc_list(args.punc_list)[0])
    sets: dict[str, list[tuple[str, Stretch]]] = {args.train_set: [], args.valid_set: [], args.test_set: []}
    if len(sets) < 3:
        raise ConfigError("--train_set, --valid_set and --test_set must have different names")
    names = Counter(text_name(path) for path in args.text)
    for path in args.text:
        name = text_name(path)
        if names[name] > 1:
            raise ConfigError(f"{path}: another text is named {name} too; the names of files are parts of the ids")
        train, valid, test = read_parts(path, marks, args)
        for number in range(args.passes):
            prefix = name if args.passes == 1 else f"{name}-pass{number + 1}"
            rng = keyed_generator(args.seed, number, name)
            sets[args.train_set] += _named(prefix, (w for part in train for w in _windows(part, args, rng)))
        rng = keyed_generator(args.seed, "valid", name)
        sets[args.valid_set] += _named(name, (w for part in valid for w in _windows(part, args, rng)))
        sets[args.test_set] += _named(name, (p for part in test for p in passages(part, args.passage)))
    for set_name, stretches in sets.items():
        if stretches:
            write_set(args.output_dir / set_name, stretches)


def _windows(part: Stretch, args: argparse.Namespace, rng: object) -> Iterator[Stretch]:
    return windows(part, args.min_window, args.max_window, rng)  # type: ignore[arg-type]


def text_name(path: Path) -> str:
    """The name of a text in ids: that of its file without suffix and without gaps."""
    return re.sub(r"\s+", "_", path.stem)


def read_parts(path: Path, marks: MarkMap, args: argparse.Namespace) -> list[list[Stretch]]:
    """The training, validation and test parts of a text file.  Raises DataError if it has no marks."""
    lines = (line for _, line in read_lines(path))
    found = list(paragraphs(lines, marks, args.casing == "lower", args.lines == "wrapped"))
    if not found:
        raise DataError(
            f"{path}: no line ends with a mark such as . or 。; a punctuation model learns from punctuated text"
        )
    try:
        sets = hold_back(chapters(found), args.valid_share, args.test_share)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    # Windows and passages go over the ends of paragraphs, not over those of chapters.
    return [parts if has_chapters(found) or not parts else [joined(parts)] for parts in sets]


def _named(prefix: str, stretches: Iterable[Stretch]) -> Iterator[tuple[str, Stretch]]:
    return ((f"{prefix}-{number:06d}", stretch) for number, stretch in enumerate(stretches, 1))


def write_set(directory: Path, stretches: Sequence[tuple[str, Stretch]]) -> None:
    """Write `text` and `punc` of one set, sorted by id, and log how often each mark occurs."""
    ordered = sorted(stretches, key=lambda item: item[0].encode())
    write_text(directory / "text", "".join(f"{uid} {' '.join(stretch.words)}\n" for uid, stretch in ordered))
    write_text(directory / "punc", "".join(f"{uid} {' '.join(stretch.marks)}\n" for uid, stretch in ordered))
    counts = Counter(mark for _, stretch in ordered for mark in stretch.marks)
    shown = ", ".join(f"{mark} {count}" for mark, count in counts.most_common())
    logger.info("%s: %d entries, %d words: %s", directory, len(ordered), counts.total(), shown)


def check(directory: Path, punc_list: Sequence[str]) -> None:
    """Raise DataError, naming file and line, if `text` and `punc` of a set do not fit together or have no marks."""
    text_file, punc_file = directory / "text", directory / "punc"
    known = set(punc_list)
    words = {key: (number, value.split()) for number, key, value in _records(text_file)}
    counts: Counter[str] = Counter()
    for number, key, value in _records(punc_file):
        where, marks = f"{punc_file}:{number}", value.split()
        if key not in words:
            raise DataError(f"{where}: id '{key}' is not in {text_file}")
        line, own_words = words.pop(key)
        if len(own_words) != len(marks):
            raise DataError(f"{where}: {len(marks)} marks for the {len(own_words)} words of {text_file}:{line}")
        unknown = next((mark for mark in marks if mark not in known), None)
        if unknown is not None:
            raise DataError(f"{where}: mark '{unknown}' is not in punc_list ({' '.join(punc_list)})")
        counts.update(marks)
    if words:
        raise DataError(f"{text_file}: id '{next(iter(words))}' is not in {punc_file}")
    if set(counts) <= {NOTHING}:
        raise DataError(f"{punc_file}: there is no mark but '{NOTHING}', so there is nothing to learn")


def _records(path: Path) -> Iterator[tuple[int, str, str]]:
    """(line number, id, value) of a table; DataError for an empty line, an empty value and a repeated id."""
    seen: set[str] = set()
    for number, line in read_lines(path):
        key, value = split_record(line)
        if not key or not value:
            raise DataError(f"{path}:{number}: {f'nothing behind {key}' if key else 'the line is empty'}")
        if key in seen:
            raise DataError(f"{path}:{number}: id '{key}' was given before; ids must be unique")
        seen.add(key)
        yield number, key, value
    if not seen:
        raise DataError(f"{path} is empty")


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Write or check the sets; returns the exit status."""
    args = get_parser().parse_args(argv)
    setup_logging()
    if args.check:
        punc_list = PUNC_LIST if args.punc_list is None else read_punc_list(args.punc_list)[0]
        for directory in args.check:
            check(directory, punc_list)
            logger.info("%s: in order", directory)
        return 0
    if not args.text:
        raise ConfigError("no text given; name punctuated text files, or --check DIR")
    prepare(args)
    return 0


if __name__ == "__main__":
    sys.exit(main())

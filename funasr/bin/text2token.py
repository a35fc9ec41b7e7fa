"""Cut Kaldi-style text into characters: `python -m funasr.bin.text2token -s 1 -l nlsyms.txt data/train/text`.

Each line keeps its first `-s` columns; the rest becomes units of `-n` characters with spaces between.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from funasr.bin.command import user_errors
from funasr.tokenizers.char_tokenizer import CharTokenizer
from funasr.tokenizers.token_list import SPACE
from funasr.utils.data_dir import read_lines
from funasr.utils.option_types import int_range


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(prog="funasr.bin.text2token", description=__doc__.splitlines()[0])
    parser.add_argument("text", nargs="?", default="-", help="text file, - for standard input")
    parser.add_argument("--nchar", "-n", type=int_range(1), default=1, help="characters per unit")
    parser.add_argument("--skip_ncols", "--skip-ncols", "-s", type=int_range(0), default=0, help="columns kept whole")
    parser.add_argument("--space", default=SPACE, help="symbol for a gap between words")
    parser.add_argument("--non_lang_syms", "--non-lang-syms", "-l", help="file of symbols kept whole, one per line")
    return parser


def convert_line(line: str, tokenizer: CharTokenizer, nchar: int, skip: int) -> str:
    """The line with everything behind the first `skip` columns cut into units of `nchar` tokens."""
    columns = line.split(maxsplit=skip)
    tokens = tokenizer.text2tokens(columns[skip]) if len(columns) > skip else []
    units = ["".join(tokens[start : start + nchar]) for start in range(0, len(tokens), nchar)]
    return " ".join([*columns[:skip], *units])


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Print the converted lines; returns the exit status."""
    args = get_parser().parse_args(argv)
    tokenizer = CharTokenizer(space_symbol=args.space, non_linguistic_symbols=args.non_lang_syms)
    lines = sys.stdin if args.text == "-" else (line for _, line in read_lines(args.text))
    for line in lines:
        print(convert_line(line.rstrip("\r\n"), tokenizer, args.nchar, args.skip_ncols))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Cut text into tokens, or collect the vocabulary of a text as a token list.

    python -m funasr.bin.tokenize_text --token_type char -f 2- --input data/train/text --output - > tokens_per_line
    python -m funasr.bin.tokenize_text --token_type char -f 2- --input data/train/text --output tokens.txt \\
        --write_vocabulary true

`--add_symbol SYMBOL:INDEX` puts a symbol into the vocabulary, negative indices count from the end.  Without any, a
vocabulary has FunASR's order: `<blank>`, `<s>`, `</s>`, tokens by falling count, `<unk>`.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from funasr.bin.command import user_errors
from funasr.text.cleaner import CLEANER_TYPES, TextCleaner
from funasr.tokenizers.abs_tokenizer import AbsTokenizer
from funasr.tokenizers.build import TOKEN_TYPES, build_tokenizer_from_type
from funasr.tokenizers.phoneme_tokenizer import G2P_TYPES
from funasr.tokenizers.token_list import SPACE, write_token_list
from funasr.utils.data_dir import read_lines
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.io import write_text
from funasr.utils.option_types import int_range, str2bool, str_or_none

FUNASR_SYMBOLS = ("<blank>:0", "<s>:1", "</s>:2", "<unk>:-1")


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(prog="funasr.bin.tokenize_text", description=__doc__.splitlines()[0])
    parser.add_argument("--input", "-i", default="-", help="text file, - for standard input")
    parser.add_argument("--output", "-o", default="-", help="- for standard output")
    parser.add_argument("--field", "-f", help="columns to use, counted from 1 as in `cut`: 2, 2-, -3, 2-4")
    parser.add_argument("--token_type", "-t", choices=TOKEN_TYPES, default="char")
    parser.add_argument("--delimiter", "-d", help="between words (token_type word); white space if not given")
    parser.add_argument("--space_symbol", type=str_or_none, default=SPACE, help="for a gap in characters; none: drop")
    parser.add_argument("--split_with_space", type=str2bool, default=False, help="char: the text is already cut")
    parser.add_argument("--seg_dict_file", help="char: dictionary of `word piece piece ...` lines")
    parser.add_argument("--bpemodel", help="sentencepiece model (token_type bpe)")
    parser.add_argument("--non_linguistic_symbols", type=str_or_none, help="file, one symbol per line")
    parser.add_argument("--remove_non_linguistic_symbols", type=str2bool, default=False)
    parser.add_argument("--cleaner", choices=CLEANER_TYPES, default="none")
    parser.add_argument("--g2p", choices=G2P_TYPES, default="none", help="phonemes from text (token_type phn)")
    parser.add_argument("--write_vocabulary", type=str2bool, default=False, help="write a token list, not the tokens")
    parser.add_argument("--vocabulary_size", type=int_range(0), default=0, help="with the symbols; 0: no limit")
    parser.add_argument("--cutoff", type=int_range(0), default=0, help="drop tokens seen at most this often")
    parser.add_argument("--add_symbol", action="append", help="SYMBOL:INDEX, repeat for more")
    return parser


def select_fields(line: str, field: str | None) -> str:
    """The columns of a line that `field` names (`2`, `2-`, `-3`, `2-4`, from 1); the rest keeps its inner spaces.

    Raises ConfigError if `field` is not of that form.
    """
    if field is None:
        return line
    match = re.fullmatch(r"(\d*)(-?)(\d*)", field)
    if match is None or field in ("", "-") or (not match[2] and match[3]):
        raise ConfigError(f"field '{field}' must look like 2, 2-, -3 or 2-4")
    first = int(match[1] or 1)
    last = int(match[3]) if match[3] else (None if match[2] else first)
    if first < 1 or (last is not None and last < first):
        raise ConfigError(f"field '{field}': columns are counted from 1, the first before the last")
    columns = list(re.finditer(r"\S+", line))
    chosen = columns[first - 1 : last]
    return line[chosen[0].start() : chosen[-1].end()] if chosen else ""


def insert_symbols(tokens: Sequence[str], symbols: Sequence[str]) -> list[str]:
    """`tokens` with each `SYMBOL:INDEX` put at its index, in the order given; -1 is the end.

    A symbol that is among the tokens is moved.  Raises ConfigError for an entry of another form, a repeated symbol or
    an index outside of the list.
    """
    wanted: dict[str, int] = {}
    for entry in symbols:
        symbol, _, index = entry.rpartition(":")
        if not symbol or re.fullmatch(r"-?\d+", index) is None:
            raise ConfigError(f"add_symbol '{entry}' must be SYMBOL:INDEX, e.g. '<blank>:0'")
        if symbol in wanted:
            raise ConfigError(f"add_symbol: '{symbol}' is given twice")
        wanted[symbol] = int(index)
    result = [token for token in tokens if token not in wanted]
    for symbol, number in wanted.items():
        place = number if number >= 0 else len(result) + 1 + number
        if not 0 <= place <= len(result):
            raise ConfigError(f"add_symbol: index {number} of '{symbol}' is outside of a list of {len(result)} tokens")
        result.insert(place, symbol)
    return result


def choose_vocabulary(counts: Counter[str], symbols: Sequence[str], size: int, cutoff: int) -> list[str]:
    """Tokens seen more than `cutoff` times, by falling count, so many that with `symbols` there are `size` (0: all)."""
    added = {entry.rpartition(":")[0] for entry in symbols}
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    tokens = [token for token, count in ordered if count > cutoff and token not in added]
    if size:
        if size < len(added):
            raise ConfigError(f"vocabulary_size {size} is less than the {len(added)} symbols of add_symbol")
        tokens = tokens[: size - len(added)]
    return insert_symbols(tokens, symbols)


def _lines(path: str) -> Iterator[str]:
    if path == "-":
        yield from (line.rstrip("\r\n") for line in sys.stdin)
    else:
        yield from (line for _, line in read_lines(path))


def _tokens_of_lines(args: argparse.Namespace, tokenizer: AbsTokenizer) -> Iterator[list[str]]:
    clean = TextCleaner(args.cleaner)
    for line in _lines(args.input):
        yield tokenizer.text2tokens(clean(select_fields(line, args.field)))


def _write(path: str, lines: Iterable[str]) -> None:
    text = "".join(line + "\n" for line in lines)
    if path == "-":
        sys.stdout.write(text)
    else:
        write_text(path, text)


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Write tokens or a vocabulary; returns the exit status."""
    args = get_parser().parse_args(argv)
    select_fields("", args.field)  # a wrong field is found before the text is read
    tokenizer = build_tokenizer_from_type(
        args.token_type,
        bpemodel=args.bpemodel,
        space_symbol=args.space_symbol,
        non_linguistic_symbols=args.non_linguistic_symbols,
        remove_non_linguistic_symbols=args.remove_non_linguistic_symbols,
        split_with_space=args.split_with_space,
        seg_dict_file=args.seg_dict_file,
        delimiter=args.delimiter,
        g2p_type=None if args.g2p == "none" else args.g2p,
    )
    if not args.write_vocabulary:
        _write(args.output, (" ".join(tokens) for tokens in _tokens_of_lines(args, tokenizer)))
        return 0
    counts: Counter[str] = Counter()
    for tokens in _tokens_of_lines(args, tokenizer):
        counts.update(tokens)
    if not counts:
        raise DataError(f"{args.input} holds no token to make a vocabulary of")
    symbols = FUNASR_SYMBOLS if args.add_symbol is None else args.add_symbol
    vocabulary = choose_vocabulary(counts, symbols, args.vocabulary_size, args.cutoff)
    known = set(vocabulary)
    missed = sum(count for token, count in counts.items() if token not in known)
    if missed:
        total = sum(counts.values())
        print(f"OOV rate = {100.0 * missed / total:.4f} % ({missed} of {total} tokens)", file=sys.stderr)
    if args.output == "-":
        _write("-", vocabulary)
    else:
        write_token_list(args.output, vocabulary)
    return 0


if __name__ == "__main__":
    sys.exit(main())

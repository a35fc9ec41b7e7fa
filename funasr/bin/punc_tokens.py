"""Token list of a punctuation model: `python -m funasr.bin.punc_tokens --text data/train/text --output tokens.json`.

Text is cut as the model cuts it in use: words and Chinese characters, or Chinese words with `--jieba_usr_dict`.  The
list begins with `<blank> <s> </s>` and ends with `<unk>`.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from funasr.bin.command import user_errors
from funasr.models.ct_transformer.tokens import tokenize_words, word_cutter
from funasr.tokenizers.token_list import with_default_symbols, write_token_list
from funasr.utils.data_dir import read_table
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.option_types import int_range, str_or_none


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(prog="funasr.bin.punc_tokens", description=__doc__.splitlines()[0])
    parser.add_argument("--text", required=True, help="training text, lines `ID word word ...`")
    parser.add_argument("--output", required=True, help="tokens.json (or tokens.txt)")
    parser.add_argument("--cutoff", type=int_range(0), default=0, help="leave out tokens seen at most this often")
    parser.add_argument("--jieba_usr_dict", type=str_or_none, default=None, help="words for jieba, one per line")
    return parser


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Write the list; returns the exit status."""
    args = get_parser().parse_args(argv)
    if args.jieba_usr_dict is not None and not Path(args.jieba_usr_dict).is_file():
        raise ConfigError(f"--jieba_usr_dict {args.jieba_usr_dict} does not exist or is not a file")
    cut = None if args.jieba_usr_dict is None else word_cutter(args.jieba_usr_dict)
    counts: Counter[str] = Counter()
    for text in read_table(args.text, value_optional=True).values():
        counts.update(tokenize_words(text.split(), cut)[0])
    kept = [token for token, count in sorted(counts.items(), key=lambda x: (-x[1], x[0])) if count > args.cutoff]
    if not kept:
        raise DataError(f"{args.text} has no token seen more than {args.cutoff} times")
    tokens = with_default_symbols(kept)
    write_token_list(args.output, tokens)
    missed = counts.total() - sum(counts[token] for token in kept)
    print(f"{len(tokens)} tokens; {100 * missed / counts.total():.2f} % of the text is unknown", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())

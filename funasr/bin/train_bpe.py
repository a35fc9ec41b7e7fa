"""Train a sentencepiece model: `python -m funasr.bin.train_bpe --input data/train/text -f 2- --model_prefix D/bpe`.

Writes PREFIX.model and PREFIX.vocab, and beside them tokens.txt in FunASR's order: `<blank>`, `<s>`, `</s>`, pieces,
`<unk>`.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from funasr.bin.command import user_errors
from funasr.bin.tokenize_text import select_fields
from funasr.text.cleaner import CLEANER_TYPES, TextCleaner
from funasr.tokenizers.sentencepiece_tokenizer import SentencepiecesTokenizer
from funasr.tokenizers.token_list import with_default_symbols, write_token_list
from funasr.utils.data_dir import read_lines
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.option_types import int_range


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(prog="funasr.bin.train_bpe", description=__doc__.splitlines()[0])
    parser.add_argument("--input", nargs="+", required=True, help="text files")
    parser.add_argument("--field", "-f", help="columns to use, as in `cut`: 2- for a text file with ids")
    parser.add_argument("--cleaner", choices=CLEANER_TYPES, default="none")
    parser.add_argument("--model_prefix", type=Path, required=True, help="PREFIX.model and PREFIX.vocab are written")
    parser.add_argument("--token_list", type=Path, help="tokens.txt beside the model if not given")
    parser.add_argument("--nbpe", type=int_range(1), default=30, help="pieces, <unk> <s> </s> included")
    parser.add_argument("--bpemode", choices=("unigram", "bpe", "char", "word"), default="unigram")
    parser.add_argument("--character_coverage", type=float, default=1.0, help="share of characters that get a piece")
    parser.add_argument("--user_defined_symbols", default="", help="pieces never cut, with commas between")
    parser.add_argument("--input_sentence_size", type=int_range(0), default=0, help="use so many lines; 0: all")
    return parser


def train(args: argparse.Namespace) -> None:
    """Train and write all files; nothing is written if training fails."""
    import sentencepiece

    clean = TextCleaner(args.cleaner)

    def sentences() -> Iterator[str]:
        for path in args.input:
            for _, line in read_lines(path):
                text = clean(select_fields(line, args.field)).strip()
                if text:
                    yield text

    if next(sentences(), None) is None:
        raise DataError(f"{', '.join(args.input)}: no text to train on")
    prefix: Path = args.model_prefix
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=prefix.parent, prefix=".bpe.") as folder:
        made = Path(folder) / "made"
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=sentences(),
                model_prefix=str(made),
                vocab_size=args.nbpe,
                model_type=args.bpemode,
                character_coverage=args.character_coverage,
                user_defined_symbols=[symbol for symbol in args.user_defined_symbols.split(",") if symbol],
                input_sentence_size=args.input_sentence_size,
                shuffle_input_sentence=args.input_sentence_size > 0,
                minloglevel=1,
            )
        except (RuntimeError, OSError) as error:
            raise ConfigError(f"sentencepiece could not train {args.nbpe} {args.bpemode} pieces: {error}") from None
        tokens = with_default_symbols(SentencepiecesTokenizer(made.with_suffix(".model")).token_list)
        for suffix in (".vocab", ".model"):
            os.replace(f"{made}{suffix}", f"{prefix}{suffix}")
    write_token_list(args.token_list or prefix.parent / "tokens.txt", tokens)


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    args = get_parser().parse_args(argv)
    select_fields("", args.field)
    train(args)
    print(f"{args.model_prefix}.model")
    return 0


if __name__ == "__main__":
    sys.exit(main())

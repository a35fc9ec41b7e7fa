"""`python -m funasr.bin.punc_inference`: put marks into a data set of texts and write the results as files.

Writes OUTPUT_DIR/1best_recog/{text,punc}: the punctuated text, and the mark behind each word or Chinese character (`_`
for none), one `ID value` line per text.  A streaming model can be given the text in pieces, as it comes in use.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from funasr.bin.inference import Format, ResultWriter, inference_parser, load_model, run_command
from funasr.tasks.parser import TaskParser
from funasr.text.sentences import split_tokens
from funasr.utils.data_dir import read_table
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.option_types import int_range

if TYPE_CHECKING:
    from funasr.auto.auto_model import AutoModel

logger = logging.getLogger(__name__)

FIELDS: dict[str, Format] = {
    "text": lambda result: str(result["text"]).strip(),
    "punc": lambda result: " ".join(result["punc"]),
}


def get_parser() -> TaskParser:
    """The options; a YAML file (`--config conf/decode.yaml`) may give them too."""
    parser = inference_parser("punc", __doc__, data_example="path,text,text")
    parser.add_argument("--split_size", type=int_range(2), default=20, help="words that the model reads on at a time")
    parser.add_argument(
        "--piece_size", type=int_range(0), default=0, help="streaming models: words in a piece; 0: the text is one"
    )
    return parser


def run(args: argparse.Namespace) -> None:
    """Punctuate all texts.  An empty one has no marks and is named."""
    texts = read_texts(args)
    model = load_model(args, "punc")
    if not model.engines.asr.reads_text:
        raise ConfigError(f"--punc_train_config {args.punc_train_config}: {type(model.model).__name__} reads no text")
    streams = "cache" in model.engines.asr.option_names
    if args.piece_size and not streams:
        raise ConfigError(f"--piece_size: {type(model.model).__name__} cannot be given a text in pieces")
    writer = ResultWriter(args.output_dir, FIELDS)
    begin, words = time.perf_counter(), 0
    keys = list(texts)
    for start in range(0, len(keys), args.batch_size):
        batch = keys[start : start + args.batch_size]
        given = [texts[key] for key in batch]
        if args.piece_size:
            results = [in_pieces(model, key, text, args.piece_size, args.split_size) for key, text in zip(batch, given)]
        else:
            found = model.recognise_batch(given, None, batch, {"split_size": args.split_size})
            results = [{**result, "punc": _symbols(model, result["punc_array"])} for result in found]
        writer.add(batch, results)
        words += sum(len(result["punc"]) for result in results)
        for result in results:
            if not result["punc"]:
                logger.warning("%s is empty", result["key"])
    writer.close()
    elapsed = time.perf_counter() - begin
    logger.info("%d texts, %d words in %.1f s (%.0f words per second)", len(keys), words, elapsed, words / elapsed)


def read_texts(args: argparse.Namespace) -> dict[str, str]:
    """The texts asked for, by id."""
    from funasr.tasks.iterators import parse_triplets

    option = "--data_path_and_name_and_type"
    triplets = parse_triplets(args.data_path_and_name_and_type, option)
    paths = [path for path, name, kind in triplets if (name, kind) == ("text", "text")]
    if len(paths) != 1:
        raise ConfigError(f"{option}: one must read path,text,text, e.g. data/test/text,text,text")
    texts = read_table(paths[0], value_optional=True)
    if args.key_file is None:
        return texts
    keys = list(read_table(args.key_file, value_optional=True))
    unknown = [key for key in keys if key not in texts]
    if unknown:
        raise DataError(f"{args.key_file} has {len(unknown)} ids that {paths[0]} lacks: {', '.join(unknown[:5])}")
    return {key: texts[key] for key in keys}


def _symbols(model: AutoModel, found: Any) -> list[str]:
    return [] if found is None else [model.model.punc_list[mark] for mark in found.tolist()]


def in_pieces(model: AutoModel, key: str, text: str, piece_size: int, split_size: int) -> dict[str, Any]:
    """`key`, `text` and `punc` of a text that comes `piece_size` words at a time.

    What counts is what was given out: the mark behind the last word of a piece comes with the next one.
    """
    cache: dict[str, Any] = {}
    written: list[str] = []
    marks: list[str] = []
    known = set(model.model.punc_list)
    for piece in _pieces(text, piece_size):
        options = {"cache": cache, "split_size": split_size}
        (result,) = model.recognise_batch([piece], None, [key], options)
        if marks:
            first = result["text"][:1]
            marks[-1] = first if first in known else "_"
        written.append(result["text"])
        marks += _symbols(model, result["punc_array"])
    return {"key": key, "text": "".join(written), "punc": marks}


def _pieces(text: str, size: int) -> Iterator[str]:
    tokens = split_tokens(text)
    for start in range(0, len(tokens), size):
        yield " ".join(tokens[start : start + size])


def main(cmd: Sequence[str] | None = None) -> None:
    """Entry point: exit status 2 and one line for a wrong option, configuration or corpus file."""
    run_command("punc", get_parser, run, cmd)


if __name__ == "__main__":
    main()

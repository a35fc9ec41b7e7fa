"""`python -m funasr.bin.asr_inference`: recognise a data set with a trained model and write the results as files.

Writes OUTPUT_DIR/{k}best_recog/{text,token,token_int,score} for k = 1..nbest, one `ID value` line per utterance.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from funasr.tasks.parser import Repeat, TaskParser
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.option_types import int_range, str_or_none

logger = logging.getLogger(__name__)

FIELDS = ("text", "token", "token_int", "score")


def get_parser() -> TaskParser:
    """The options; a YAML file (`--config conf/decode.yaml`) may give them too."""
    parser = TaskParser(prog="funasr.bin.asr_inference", description=__doc__)
    add = parser.add_argument
    add("--config", action="append", help="YAML file with option values")
    add("--user_modules", action=Repeat, default=[], help="Python file that registers classes of yours")
    add("--log_level", type=str.upper, default="INFO", choices=("ERROR", "WARNING", "INFO", "DEBUG"))
    add("--output_dir", required=True, help="where the results go")
    add("--ngpu", type=int_range(0), default=0, help="0: CPU, 1: a GPU")
    add("--num_workers", type=int_range(0), default=1, help="loader processes")
    add("--data_path_and_name_and_type", action=Repeat, default=[], help="path,speech,type")
    add("--key_file", type=str_or_none, default=None, help="ids to recognise (first column); default: all")
    add("--asr_train_config", required=True, help="config.yaml of the experiment")
    add("--asr_model_file", type=str_or_none, default=None, help="weights; default: model.pt beside the config")
    add("--batch_size", type=int_range(1), default=1, help="utterances decoded together")
    search = parser.add_argument_group("Search")
    search.add_argument("--beam_size", type=int_range(1), default=None, help="default: the model's")
    search.add_argument("--nbest", type=int_range(1), default=1)
    search.add_argument("--ctc_weight", type=float, default=None, help="weight of CTC against the decoder")
    search.add_argument("--penalty", type=float, default=None, help="bonus per token")
    search.add_argument("--maxlenratio", type=float, default=None, help="longest output, as a share of the frames")
    search.add_argument("--minlenratio", type=float, default=None, help="shortest output")
    search.add_argument(
        "--decoding", type=str_or_none, default=None, help="beam, ctc_greedy or ctc_prefix (hybrid models)"
    )
    return parser


def search_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `model.inference`; what was not given is left to the model."""
    names = ("beam_size", "nbest", "penalty", "maxlenratio", "minlenratio", "decoding")
    options = {name: getattr(args, name) for name in names} | {"decoding_ctc_weight": args.ctc_weight}
    return {name: value for name, value in options.items() if value is not None} | {"with_scores": True}


def run(args: argparse.Namespace) -> None:
    """Recognise all utterances.  A damaged one is left out, counted and named."""
    import torch

    from funasr.auto.auto_model import AutoModel
    from funasr.datasets.collate import CommonCollateFn
    from funasr.datasets.iterator import build_streaming_iterator
    from funasr.tasks.iterators import parse_triplets

    config = Path(args.asr_train_config)
    overrides: dict[str, Any] = (
        {} if args.asr_model_file is None else {"init_param": str(_existing(args.asr_model_file))}
    )
    recogniser = AutoModel(config.parent, device="cuda" if args.ngpu else "cpu", **overrides)
    triplets = parse_triplets(args.data_path_and_name_and_type, "--data_path_and_name_and_type")
    batches = build_streaming_iterator(
        triplets,
        CommonCollateFn(float_pad_value=0.0, int_pad_value=-1),
        key_file=args.key_file,
        batch_size=args.batch_size,
        fs=recogniser.fs if recogniser.frontend is not None else None,
        num_workers=args.num_workers,
    )
    options = recogniser.known_options(search_options(args))
    writer = ResultWriter(Path(args.output_dir), args.nbest)
    begin, audio_seconds, count = time.perf_counter(), 0.0, 0
    with torch.inference_mode():
        for keys, batch in batches:
            if keys:
                results = recogniser.recognise_batch(batch["speech"], batch["speech_lengths"], keys, options)
                writer.add(keys, results)
                count += len(keys)
                audio_seconds += float(batch["speech_lengths"].sum()) / recogniser.fs
    writer.close()
    elapsed = time.perf_counter() - begin
    rtf = elapsed / audio_seconds if audio_seconds else 0.0
    logger.info("%d utterances, %.1f s of audio in %.1f s (RTF %.4f)", count, audio_seconds, elapsed, rtf)
    for key, reason in batches.skipped.items():
        logger.error("not recognised: %s: %s", key, reason)


def _existing(path: str) -> Path:
    if not Path(path).is_file():
        raise ConfigError(f"--asr_model_file {path} does not exist")
    return Path(path)


class ResultWriter:
    """Collects results and writes each file whole at the end, so that an interrupted job leaves none half-written."""

    def __init__(self, output_dir: Path, nbest: int) -> None:
        self.output_dir = output_dir
        self.lines: list[dict[str, list[str]]] = [{field: [] for field in FIELDS} for _ in range(nbest)]

    def add(self, keys: Sequence[str], results: Sequence[dict[str, Any]]) -> None:
        """Add the results of a batch; those of one key come best first."""
        for key in keys:
            for rank, result in enumerate([r for r in results if r["key"] == key][: len(self.lines)]):
                lines = self.lines[rank]
                lines["text"].append(f"{key} {result.get('text', '')}".rstrip())
                lines["token"].append(f"{key} {' '.join(result.get('token', []))}".rstrip())
                lines["token_int"].append(f"{key} {' '.join(map(str, result.get('token_int', [])))}".rstrip())
                if "score" in result:
                    lines["score"].append(f"{key} {result['score']:.4f}")

    def close(self) -> None:
        """Write the files."""
        from funasr.utils.io import write_text

        for rank, fields in enumerate(self.lines, 1):
            for field, lines in fields.items():
                write_text(self.output_dir / f"{rank}best_recog" / field, "".join(f"{line}\n" for line in lines))


def main(cmd: Sequence[str] | None = None) -> None:
    """Entry point: exit status 2 and one line for a wrong option, configuration or corpus file."""
    try:
        args = get_parser().parse_args(cmd)
        from funasr.utils.logging import setup_logging

        setup_logging(args.log_level)
        run(args)
    except (ConfigError, DataError, LookupError) as error:
        sys.stderr.write(f"asr_inference: error: {error}\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()

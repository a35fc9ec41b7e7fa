"""What all `*_inference` commands share: common options, the model, batches of audio, result files, errors.

parser = inference_parser("asr", __doc__)        # options every such command has; add those of the task
model = load_model(args, "asr")                  # AutoModel of --asr_train_config with --asr_model_file
for keys, results in recognise(args, model, options): ...
run_command("asr", get_parser, run, cmd)         # main(): a user's error is one line and status 2
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from funasr.tasks.parser import Repeat, TaskParser
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.io import write_text
from funasr.utils.option_types import int_range, str_or_none

if TYPE_CHECKING:
    from funasr.auto.auto_model import AutoModel

logger = logging.getLogger(__name__)

Result = dict[str, Any]
Format = Callable[[Result], str | None]


def inference_parser(task: str, description: str | None, data_example: str = "path,speech,sound") -> TaskParser:
    """A parser with the common options; a YAML file (`--config conf/decode.yaml`) may give them too."""
    parser = TaskParser(prog=f"funasr.bin.{task}_inference", description=description)
    add = parser.add_argument
    add("--config", action="append", help="YAML file with option values")
    add("--user_modules", action=Repeat, default=[], help="Python file that registers classes of yours")
    add("--log_level", type=str.upper, default="INFO", choices=("ERROR", "WARNING", "INFO", "DEBUG"))
    add("--output_dir", required=True, help="where the results go")
    add("--ngpu", type=int_range(0), default=0, help="0: CPU, 1: a GPU")
    add("--num_workers", type=int_range(0), default=1, help="loader processes")
    add("--data_path_and_name_and_type", action=Repeat, default=[], help=data_example)
    add("--key_file", type=str_or_none, default=None, help="ids to use (first column); default: all")
    add(f"--{task}_train_config", required=True, help="config.yaml of the experiment")
    add(f"--{task}_model_file", type=str_or_none, default=None, help="weights; default: model.pt beside the config")
    add("--batch_size", type=int_range(1), default=1, help="inputs done together")
    return parser


def load_model(args: argparse.Namespace, task: str, **overrides: Any) -> AutoModel:
    """The model of the experiment, on the device asked for; `overrides` are options of AutoModel."""
    from funasr.auto.auto_model import AutoModel

    config, weights = Path(getattr(args, f"{task}_train_config")), getattr(args, f"{task}_model_file")
    if not config.is_file():
        raise ConfigError(f"--{task}_train_config {config} does not exist")
    if weights is not None:
        if not Path(weights).is_file():
            raise ConfigError(f"--{task}_model_file {weights} does not exist")
        overrides = {"init_param": str(weights), **overrides}
    return AutoModel(config.parent, device="cuda" if args.ngpu else "cpu", **overrides)


def recognise(
    args: argparse.Namespace, model: AutoModel, options: Mapping[str, Any]
) -> Iterator[tuple[list[str], list[Result]]]:
    """(ids, results) of each batch of `speech`; a damaged utterance is left out, and named at the end.

    Args:
        options: of the model's `inference`; those it does not take are named in a warning.
    """
    known = model.known_options(options)
    for keys, batch in audio_batches(args, model):
        yield keys, model.recognise_batch(batch["speech"], batch["speech_lengths"], keys, known)


def audio_batches(args: argparse.Namespace, model: AutoModel) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """(ids, tensors) of each batch, `speech` among them; at the end logs how fast all went, and what was left out."""
    from funasr.datasets.collate import CommonCollateFn
    from funasr.datasets.iterator import build_streaming_iterator
    from funasr.tasks.iterators import parse_triplets

    triplets = parse_triplets(args.data_path_and_name_and_type, "--data_path_and_name_and_type")
    if "speech" not in [name for _, name, _ in triplets]:
        raise ConfigError("--data_path_and_name_and_type: one must be named 'speech', e.g. data/wav.scp,speech,sound")
    batches = build_streaming_iterator(
        triplets,
        CommonCollateFn(float_pad_value=0.0, int_pad_value=-1),
        key_file=args.key_file,
        batch_size=args.batch_size,
        fs=model.fs if model.frontend is not None else None,
        num_workers=args.num_workers,
    )
    begin, audio_seconds, count = time.perf_counter(), 0.0, 0
    for keys, batch in batches:
        if keys:
            count += len(keys)
            audio_seconds += float(batch["speech_lengths"].sum()) / model.fs
            yield keys, batch
    elapsed = time.perf_counter() - begin
    rtf = elapsed / audio_seconds if audio_seconds else 0.0
    logger.info("%d utterances, %.1f s of audio in %.1f s (RTF %.4f)", count, audio_seconds, elapsed, rtf)
    for key, reason in batches.skipped.items():
        logger.error("left out: %s: %s", key, reason)


class ResultWriter:
    """Collects results and writes each file whole at the end, so that an interrupted job leaves none half-written.

    Args:
        output_dir: gets {k}best_recog/FIELD for k = 1..nbest.
        fields: file name -> what stands behind the id in its line; None leaves the line out.
        nbest: results kept for one id, which come best first.
    """

    def __init__(self, output_dir: str | Path, fields: Mapping[str, Format], nbest: int = 1) -> None:
        self.output_dir = Path(output_dir)
        self.fields = fields
        self.lines: list[dict[str, list[str]]] = [{name: [] for name in fields} for _ in range(nbest)]

    def add(self, keys: Sequence[str], results: Sequence[Result]) -> None:
        """Add the results of a batch; those of one key come best first."""
        for key in keys:
            for rank, result in enumerate([r for r in results if r["key"] == key][: len(self.lines)]):
                for name, form in self.fields.items():
                    value = form(result)
                    if value is not None:
                        self.lines[rank][name].append(f"{key} {value}".rstrip())

    def close(self) -> None:
        """Write the files."""
        for rank, fields in enumerate(self.lines, 1):
            for name, lines in fields.items():
                write_text(self.output_dir / f"{rank}best_recog" / name, "".join(f"{line}\n" for line in lines))


def run_command(
    task: str,
    get_parser: Callable[[], TaskParser],
    run: Callable[[argparse.Namespace], None],
    cmd: Sequence[str] | None = None,
) -> None:
    """Parse `cmd` (default: the command line) and run: status 2 and one line for a wrong option, model or file."""
    try:
        args = get_parser().parse_args(cmd)
        from funasr.utils.logging import setup_logging

        setup_logging(args.log_level)
        run(args)
    except (ConfigError, DataError, LookupError) as error:
        sys.stderr.write(f"{task}_inference: error: {error}\n")
        raise SystemExit(2) from None

"""Average weights of an experiment: `python -m funasr.bin.average_checkpoints exp/asr --mode nbest -n 10`."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from funasr.train.average import average_files, average_last, average_nbest
from funasr.train.checkpoint import CheckpointDir, save_file
from funasr.train.reporter import Reporter
from funasr.utils.errors import ConfigError
from funasr.utils.logging import setup_logging
from funasr.utils.option_types import int_range, str2triplet


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Average weights: the best or last N epochs of an experiment directory, or the files given.",
        epilog="nbest writes PHASE.KEY.ave_Nbest.pt into the directory and lets PHASE.KEY.ave.pt be the same file.",
    )
    parser.add_argument("inputs", nargs="+", help="Experiment directory, or with --mode files two or more weight files")
    parser.add_argument("--mode", choices=("nbest", "last", "files"), default="nbest")
    parser.add_argument(
        "--criterion", type=str2triplet, default=("valid", "acc", "max"), metavar="PHASE,KEY,MODE", help="For nbest"
    )
    parser.add_argument("-n", "--number", type=int_range(1), default=10, help="How many epochs")
    parser.add_argument("--output", default=None, help="Output file; needed with --mode files")
    return parser


def main(cmd: Sequence[str] | None = None) -> int:
    args = get_parser().parse_args(cmd)
    setup_logging()
    try:
        print(_average(args))
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _average(args: argparse.Namespace) -> Path:
    if args.mode == "files":
        if args.output is None:
            raise ConfigError("--mode files needs --output FILE")
        save_file(average_files(args.inputs), args.output)
        return Path(args.output)
    if len(args.inputs) != 1 or not Path(args.inputs[0]).is_dir():
        raise ConfigError(f"--mode {args.mode} takes one experiment directory, not {' '.join(args.inputs)}")
    directory = Path(args.inputs[0])
    if args.mode == "last":
        written = average_last(directory, args.number)
    else:
        reporter = Reporter()
        reporter.load_state_dict(CheckpointDir(directory).load_state()["reporter"])
        links = average_nbest(directory, reporter, [args.criterion], [args.number])
        if not links:
            known = ", ".join(reporter.value_names())
            raise ConfigError(f"no epoch has '{' '.join(args.criterion[:2])}'; there are: {known}")
        written = next(iter(links.values()))
    if args.output is not None:
        logging.info("copying %s to %s", written, args.output)
        save_file(average_files([written]), args.output)
        return Path(args.output)
    return written


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""`python local/spot.py`: look for the keywords in all utterances of a data directory."""

from __future__ import annotations

import argparse

from funasr.bin.inference import ResultWriter, inference_parser, load_model, recognise, run_command
from funasr.tasks.parser import Repeat, TaskParser


def get_parser() -> TaskParser:
    """The options."""
    parser = inference_parser("kws", __doc__)
    parser.add_argument("--keyword", action=Repeat, default=[], help="what to look for; default: all it was trained on")
    return parser


def run(args: argparse.Namespace) -> None:
    """Write OUTPUT_DIR/1best_recog/text, one line `ID detected KEYWORD SCORE` or `ID rejected` for each utterance."""
    model = load_model(args, "kws")
    writer = ResultWriter(args.output_dir, {"text": lambda result: result["text"]})
    for keys, results in recognise(args, model, {"keywords": args.keyword or model.config["keyword"]}):
        writer.add(keys, results)
    writer.close()


if __name__ == "__main__":
    run_command("kws", get_parser, run)

"""The command `funasr`: text from audio files, one line each."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from funasr.utils.errors import ConfigError, DamagedUtteranceError, DataError


def get_parser() -> argparse.ArgumentParser:
    """The options of the command."""
    parser = argparse.ArgumentParser(prog="funasr", description="Transcribe audio files with a model directory.")
    parser.add_argument("inputs", nargs="+", help="audio files, wav.scp or jsonl files")
    parser.add_argument("--model", required=True, help="model or experiment directory")
    parser.add_argument("--device", default=None, help="cpu, cuda, cuda:1 (default: a GPU if there is one)")
    parser.add_argument("--batch-size", type=int, default=1, help="utterances decoded together")
    parser.add_argument("--timestamps", action="store_true", help="ask the model for timestamps (with --json)")
    parser.add_argument("--json", action="store_true", help="print one JSON object per utterance instead of KEY TEXT")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; the exit status is 1 if an input failed, 2 if the model or an option is wrong."""
    args = get_parser().parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    from funasr.auto.auto_model import AutoModel  # only now: --help needs no torch

    try:
        model = AutoModel(model=args.model, device=args.device)
    except (ConfigError, LookupError) as error:
        print(f"funasr: {error}", file=sys.stderr)
        return 2
    options: dict[str, Any] = {"output_timestamp": True} if args.timestamps else {}
    failed = 0
    for item in args.inputs:
        try:
            results = model.generate(item, batch_size=args.batch_size, **options)
        except (DamagedUtteranceError, DataError, OSError) as error:
            print(f"funasr: {error}", file=sys.stderr)
            failed += 1
            continue
        failed += sum("error" in result for result in results)
        for result in results:
            print(json.dumps(result, ensure_ascii=False) if args.json else f"{result['key']} {result['text']}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m funasr.bin.asr_inference`: recognise a data set with a trained model and write the results as files.

Writes OUTPUT_DIR/{k}best_recog/{text,token,token_int,score} for k = 1..nbest, one `ID value` line per utterance.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from funasr.bin.inference import Format, ResultWriter, inference_parser, load_model, recognise, run_command
from funasr.tasks.parser import TaskParser
from funasr.utils.option_types import int_range, str_or_none

FIELDS: dict[str, Format] = {
    "text": lambda result: str(result.get("text", "")),
    "token": lambda result: " ".join(result.get("token", [])),
    "token_int": lambda result: " ".join(map(str, result.get("token_int", []))),
    "score": lambda result: f"{result['score']:.4f}" if "score" in result else None,
}


def get_parser() -> TaskParser:
    """The options; a YAML file (`--config conf/decode.yaml`) may give them too."""
    parser = inference_parser("asr", __doc__)
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
    writer = ResultWriter(args.output_dir, FIELDS, args.nbest)
    for keys, results in recognise(args, load_model(args, "asr"), search_options(args)):
        writer.add(keys, results)
    writer.close()


def main(cmd: Sequence[str] | None = None) -> None:
    """Entry point: exit status 2 and one line for a wrong option, configuration or corpus file."""
    run_command("asr", get_parser, run, cmd)


if __name__ == "__main__":
    main()

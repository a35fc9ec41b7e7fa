"""`python -m funasr.bin.sv_inference`: speaker embeddings of a data set with a trained model.

Writes OUTPUT_DIR/embedding.npz (arrays `keys` and `embeddings`) and OUTPUT_DIR/1best_recog/embedding (a Kaldi archive
in text form, lines `ID [ 0.1 ... ]`).  With `--trials` the trials are scored as by funasr.bin.score_sv.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funasr.bin.inference import Format, ResultWriter, inference_parser, load_model, recognise, run_command
from funasr.models.speaker_embedding import SpeakerEmbeddingModel
from funasr.tasks.parser import TaskParser
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.io import atomic_path
from funasr.utils.option_types import str_or_none

logger = logging.getLogger(__name__)


def _as_text(result: dict[str, Any]) -> str | None:
    if "error" in result:
        return None
    return f"[ {' '.join(f'{value:.6g}' for value in result['spk_embedding'][0].tolist())} ]"


FIELDS: dict[str, Format] = {"embedding": _as_text}


def get_parser() -> TaskParser:
    """The options; a YAML file (`--config conf/decode.yaml`) may give them too."""
    parser = inference_parser("sv", __doc__)
    parser.add_argument("--trials", type=str_or_none, default=None, help="score these trials in the end")
    return parser


def run(args: argparse.Namespace) -> None:
    """Embed all utterances.  One that is damaged or too short is left out, and named."""
    model = load_model(args, "sv")
    if not isinstance(model.model, SpeakerEmbeddingModel):
        raise ConfigError(f"--sv_train_config {args.sv_train_config} is of {type(model.model).__name__}")
    writer = ResultWriter(args.output_dir, FIELDS)
    embeddings: dict[str, np.ndarray] = {}
    for keys, results in recognise(args, model, {}):
        writer.add(keys, results)
        for result in results:
            if "error" in result:
                logger.error("no embedding: %s: %s", result["key"], result["error"])
            else:
                embeddings[result["key"]] = result["spk_embedding"][0].numpy()
    if not embeddings:
        raise DataError("not one utterance gave an embedding; see the log")
    writer.close()
    archive = Path(args.output_dir) / "embedding.npz"
    with atomic_path(archive) as temporary, temporary.open("wb") as file:
        np.savez(file, keys=np.array(list(embeddings)), embeddings=np.stack(list(embeddings.values())))
    if args.trials is not None:
        from funasr.bin import score_sv

        words = ["--trials", args.trials, "--embeddings", str(archive), "--output_dir", args.output_dir]
        if score_sv.main(words) != 0:
            raise DataError(f"--trials {args.trials} could not be scored")


def main(cmd: Sequence[str] | None = None) -> None:
    """Entry point: exit status 2 and one line for a wrong option, configuration or corpus file."""
    run_command("sv", get_parser, run, cmd)


if __name__ == "__main__":
    main()

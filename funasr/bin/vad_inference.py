"""`python -m funasr.bin.vad_inference`: where in each recording of a data set somebody speaks.

Writes OUTPUT_DIR/1best_recog/text (`ID [[start_ms, end_ms], ...]`, a line for each recording), `segments` (Kaldi),
`rttm`, and with --write_probabilities `speech_prob`, the probability of speech of each frame before smoothing.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from funasr.bin.inference import audio_batches, inference_parser, load_model, run_command
from funasr.tasks.parser import TaskParser
from funasr.utils.errors import ConfigError
from funasr.utils.io import write_text
from funasr.utils.option_types import bool_or_none, float_or_none, str2bool
from funasr.utils.rttm import Turn, rttm_line

SPEAKER = "speech"  # in place of a name, which a detector does not know


def get_parser() -> TaskParser:
    """The options; a YAML file (`--config conf/decode.yaml`) may give them too."""
    parser = inference_parser("vad", __doc__)
    group = parser.add_argument_group("Segments")
    group.add_argument(
        "--max_end_silence_time", type=float_or_none, default=None, help="ms of silence that end a segment, fixed"
    )
    group.add_argument(
        "--speech_noise_thres", type=float_or_none, default=None, help="of the speech test; default: the model's"
    )
    group.add_argument(
        "--dynamic_silence",
        type=bool_or_none,
        default=None,
        help="less silence ends longer segments; default: unless --max_end_silence_time is given",
    )
    group.add_argument("--chunk_size", type=float, default=60000, help="ms of audio done at once")
    group.add_argument("--write_probabilities", type=str2bool, default=False, help="also write speech_prob")
    return parser


def segment_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `model.inference`; what was not given is left to the model."""
    names = ("max_end_silence_time", "speech_noise_thres", "dynamic_silence", "chunk_size")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def run(args: argparse.Namespace) -> None:
    """Find the segments of all recordings.  A damaged one is left out, counted and named."""
    from funasr.models.fsmn_vad.model import FsmnVADStreaming

    vad = load_model(args, "vad")
    if not isinstance(vad.model, FsmnVADStreaming):
        raise ConfigError(f"--vad_train_config {args.vad_train_config}: {type(vad.model).__name__} finds no speech")
    lines: dict[str, list[str]] = {"text": [], "segments": [], "rttm": []}
    if args.write_probabilities:
        lines["speech_prob"] = []
    options = segment_options(args)
    for keys, batch in audio_batches(args, vad):
        results = vad.recognise_batch(batch["speech"], batch["speech_lengths"], keys, options)
        for i, (key, result) in enumerate(zip(keys, results)):
            lines["text"].append(f"{key} {result['value']}")
            for start, end in result["value"]:
                lines["segments"].append(f"{key}-{start:08d}-{end:08d} {key} {start / 1000:.3f} {end / 1000:.3f}")
                lines["rttm"].append(rttm_line(key, Turn(start / 1000, end / 1000, SPEAKER)))
            if args.write_probabilities:
                wave = batch["speech"][i, : int(batch["speech_lengths"][i])]
                values = vad.model.speech_probabilities(wave, vad.frontend)
                lines["speech_prob"].append(f"{key} {' '.join(f'{value:.4f}' for value in values)}")
    for name, content in lines.items():
        write_text(Path(args.output_dir) / "1best_recog" / name, "".join(f"{line}\n" for line in content))


def main(cmd: Sequence[str] | None = None) -> None:
    """Entry point: exit status 2 and one line for a wrong option, configuration or corpus file."""
    run_command("vad", get_parser, run, cmd)


if __name__ == "__main__":
    main()

"""Make labels for voice activity detection: `python -m funasr.bin.vad_labels --wav_scp W --rttm R --output F`.

The labels come from an RTTM (several speakers: the union), a Kaldi `segments` file, a CTM, or, for clean speech, from
the energy of the audio itself; --no_speech says that these recordings are noise.  One line for each recording of
wav.scp, `ID [[start_ms, end_ms], ...]`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from funasr.bin.command import user_errors
from funasr.datasets.data_types import open_reader
from funasr.datasets.vad_labels import (
    Labels,
    fit_labels,
    format_segments,
    labels_from_ctm,
    labels_from_energy,
    labels_from_rttm,
    labels_from_segments,
)
from funasr.utils.errors import DamagedUtteranceError, DataError
from funasr.utils.io import write_text
from funasr.utils.logging import setup_logging
from funasr.utils.option_types import str2bool

logger = logging.getLogger(__name__)

FS = 16000  # Hz, at which energies and lengths are measured


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(prog="funasr.bin.vad_labels", description=__doc__.splitlines()[0])
    parser.add_argument("--wav_scp", required=True, help="recordings: `ID path`")
    parser.add_argument("--output", required=True, help="the label table to write")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--rttm", help="speaker turns")
    source.add_argument("--segments", help="Kaldi segments: `utterance recording start end`")
    source.add_argument("--ctm", help="time-marked words")
    source.add_argument("--energy", action="store_true", help="by the level of the audio; for clean speech")
    source.add_argument("--no_speech", action="store_true", help="nobody speaks in these recordings")
    parser.add_argument("--max_gap", type=float, default=0.2, help="ctm, energy: pauses up to this many s are speech")
    parser.add_argument("--pad", type=float, default=0.05, help="energy: widen speech by this many s on both sides")
    parser.add_argument("--missing_is_silence", type=str2bool, default=False, help="recordings without labels")
    parser.add_argument("--clip", type=str2bool, default=False, help="cut labels that reach over the recording's end")
    return parser


def make_labels(args: argparse.Namespace) -> tuple[Labels, dict[str, str]]:
    """Labels of each readable recording, and the others with the reason."""
    reader = open_reader(args.wav_scp, "sound", fs=FS)
    durations: dict[str, float] = {}
    labels: Labels = {}
    damaged: dict[str, str] = {}
    for key in reader:
        try:
            if args.energy:
                wave = reader[key]
                wave = wave if wave.ndim == 1 else wave.mean(axis=1)
                labels[key] = labels_from_energy(wave, FS, args.max_gap, args.pad)
                durations[key] = len(wave) / FS
            else:
                durations[key] = reader.num_samples(key) / FS  # type: ignore[attr-defined]
        except DamagedUtteranceError as error:
            damaged[key] = str(error)
    if not durations:
        raise DataError(f"{args.wav_scp}: none of its {len(damaged)} recordings can be read: {next(iter(damaged), '')}")
    if args.rttm:
        labels = labels_from_rttm(args.rttm)
    elif args.segments:
        labels = labels_from_segments(args.segments)
    elif args.ctm:
        labels = labels_from_ctm(args.ctm, args.max_gap)
    elif args.no_speech:
        labels = {key: [] for key in durations}
    source = args.rttm or args.segments or args.ctm or args.wav_scp
    return fit_labels(labels, durations, source, args.missing_is_silence, args.clip), damaged


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Write the table; returns the exit status."""
    args = get_parser().parse_args(argv)
    setup_logging()
    labels, damaged = make_labels(args)
    write_text(args.output, "".join(f"{key} {format_segments(spans)}\n" for key, spans in labels.items()))
    for key, reason in damaged.items():
        logger.warning("%s is left out: %s", key, reason)
    speech = sum(end - start for spans in labels.values() for start, end in spans)
    logger.info("%s: %d recordings, %.1f s of speech", args.output, len(labels), speech)
    return 0


if __name__ == "__main__":
    sys.exit(main())

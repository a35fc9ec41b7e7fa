"""Trials of a set of speakers: `python -m funasr.bin.make_trials --speakers data/test/utt2spk --output trials`.

Each utterance with each other one, as lines `1 ENROLL TEST` (one speaker) and `0 ENROLL TEST` (two).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from funasr.bin.command import user_errors
from funasr.metrics.verification import make_trials, single_utterance_speakers, trial_line
from funasr.utils.data_dir import read_table
from funasr.utils.errors import DataError
from funasr.utils.io import write_text
from funasr.utils.option_types import int_range


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speakers", required=True, help="lines `ID speaker`")
    parser.add_argument("--output", required=True, help="the trials file to write")
    parser.add_argument("--most", type=int_range(1), default=200000, help="trials of either kind at most")
    parser.add_argument("--seed", type=int, default=0, help="of the draw, if there are more")
    return parser


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    args = get_parser().parse_args(argv)
    utt2spk = read_table(args.speakers)
    single = single_utterance_speakers(utt2spk)
    if single:
        print(
            f"{args.speakers}: {len(single)} of its speakers have one utterance and can form no target trial: "
            f"{', '.join(single[:5])}{', ...' if len(single) > 5 else ''}",
            file=sys.stderr,
        )
    try:
        trials = make_trials(utt2spk, args.most, args.seed)
    except DataError as error:
        raise DataError(f"{args.speakers}: {error}") from None
    write_text(args.output, "".join(f"{trial_line(trial)}\n" for trial in trials))
    targets = sum(trial.target for trial in trials)
    print(f"{args.output}: {targets} target trials, {len(trials) - targets} others, {len(utt2spk)} utterances")
    return 0


if __name__ == "__main__":
    sys.exit(main())

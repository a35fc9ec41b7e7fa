"""Sort a Kaldi-style data directory and keep what all its files know: `python -m funasr.bin.fix_data_dir data/train`.

Files that change are copied to `.backup/` in the directory first.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from funasr.bin.command import user_errors
from funasr.utils.data_dir_check import fix_data_dir


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(prog="funasr.bin.fix_data_dir", description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="+", help="data directories")
    parser.add_argument("--keep_empty_text", action="store_true", help="keep utterances without a transcript")
    return parser


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Mend each directory and print what changed; returns the exit status."""
    args = get_parser().parse_args(argv)
    for directory in args.directory:
        changes = fix_data_dir(directory, args.keep_empty_text)
        print("\n".join(changes) if changes else f"{directory}: nothing to change")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Check a Kaldi-style data directory: `python -m funasr.bin.validate_data_dir data/train`.

Exit status: 0 in order, 1 with faults (each printed with file and line), 2 if there is no such directory.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from funasr.bin.command import user_errors
from funasr.utils.data_dir_check import check_data_dir


def get_parser() -> argparse.ArgumentParser:
    """The options of this command."""
    parser = argparse.ArgumentParser(prog="funasr.bin.validate_data_dir", description=__doc__.splitlines()[0])
    parser.add_argument("directory", nargs="+", help="data directories")
    parser.add_argument("--no_text", action="store_true", help="there need not be a file text")
    parser.add_argument("--allow_empty_text", action="store_true", help="transcripts may be empty")
    parser.add_argument("--max_faults", type=int, default=50, help="print at most this many faults per directory")
    return parser


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Print the faults of each directory; returns the exit status."""
    args = get_parser().parse_args(argv)
    status = 0
    for directory in args.directory:
        found = check_data_dir(directory, not args.no_text, args.allow_empty_text)
        for fault in found[: args.max_faults]:
            print(fault)
        if len(found) > args.max_faults:
            print(f"... and {len(found) - args.max_faults} more")
        errors = sum(not fault.warning for fault in found)
        if errors:
            status = 1
            print(f"{directory}: {errors} faults; `python -m funasr.bin.fix_data_dir {directory}` mends most of them")
        else:
            print(f"{directory}: in order")
    return status


if __name__ == "__main__":
    sys.exit(main())

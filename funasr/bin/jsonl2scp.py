"""One jsonl manifest -> Kaldi-style tables.

    python -m funasr.bin.jsonl2scp --jsonl_file_in F --scp_file_list wav.scp text --data_type_list source target
    python -m funasr.bin.jsonl2scp ++jsonl_file_in=F ++scp_file_list='["wav.scp","text"]' \\
        ++data_type_list='["source","target"]'

A record without a field is missing from that table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from funasr.bin.scp2jsonl import override_args
from funasr.datasets.table import JsonlTable
from funasr.utils.errors import ConfigError, DamagedUtteranceError, DataError
from funasr.utils.io import atomic_path


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--jsonl_file_in", required=True)
    parser.add_argument("--scp_file_list", nargs="+", required=True, help="tables to write")
    parser.add_argument("--data_type_list", nargs="+", required=True, help="the field that fills each table")
    return parser


def jsonl2scp(manifest: str | Path, scps: Sequence[str | Path], fields: Sequence[str]) -> None:
    """Write one table for each field, in the order of the manifest; all of them, or none if there is an error."""
    if len(scps) != len(fields) or len(set(scps)) != len(scps):
        raise ConfigError(f"--scp_file_list and --data_type_list must match one to one: {scps}, {fields}")
    with ExitStack() as stack:
        for scp, field in zip(scps, fields):
            table = JsonlTable(manifest, (field,))
            with stack.enter_context(atomic_path(scp)).open("w", encoding="utf-8") as file:
                for uid in table:
                    try:
                        value = table[uid]
                    except DamagedUtteranceError:  # this record lacks the field
                        continue
                    if "\n" in value or "\r" in value:
                        raise DataError(f"{manifest}: {field} of {uid} has a line break, which a table cannot hold")
                    file.write(f"{uid} {value}\n")


def main(argv: Sequence[str] | None = None) -> int:
    try:
        args = get_parser().parse_args(override_args(sys.argv[1:] if argv is None else argv))
        jsonl2scp(args.jsonl_file_in, args.scp_file_list, args.data_type_list)
    except (ConfigError, DataError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Cut parallel tables into N parts with the same utterances, for a corpus too large to index at once.

    python -m funasr.bin.split_scps --scps data/train/wav.scp data/train/text --num_splits 4 --output_dir exp/splits

writes `exp/splits/wav.scp/{num_splits,split.0,...,split.3}` and the same for `text`.  Training takes these directories
in place of the files with `--multiple_iterator true`, shape files (cut together with the tables) included.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from funasr.utils.data_dir import read_lines, split_record
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.io import atomic_path, write_text
from funasr.utils.logging import setup_logging


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--scps", nargs="+", required=True, help="tables with the same ids in the same order")
    parser.add_argument("--names", nargs="+", help="directory name for each (default: the file names)")
    parser.add_argument("--num_splits", type=int, required=True)
    parser.add_argument("--output_dir", required=True)
    return parser


def split_scps(
    scps: Sequence[str | Path], output_dir: str | Path, num_splits: int, names: Sequence[str] | None = None
) -> None:
    """Deal the lines of each table, in order, into `num_splits` parts of nearly equal size.

    Raises DataError if the tables differ in their ids or have fewer lines than parts, ConfigError for wrong options.
    """
    names = list(names or [Path(scp).name for scp in scps])
    if len(names) != len(scps) or len(set(names)) != len(names):
        raise ConfigError(f"--names must give a different name to each of the {len(scps)} tables, not {names}")
    if num_splits < 1:
        raise ConfigError(f"--num_splits must be at least 1, not {num_splits}")
    for scp in scps:
        if Path(scp).name == "wav.scp" and Path(scp).with_name("segments").is_file():
            raise DataError(f"{scp} has a segments file: cut it first with `python -m funasr.bin.format_wav_scp`")
    tables = [[line for _, line in read_lines(scp) if line.strip()] for scp in scps]
    for scp, lines in zip(scps, tables):
        if len(lines) != len(tables[0]):
            raise DataError(f"{scp} has {len(lines)} lines, but {scps[0]} has {len(tables[0])}")
        for line, first in zip(lines, tables[0]):
            if split_record(line)[0] != split_record(first)[0]:
                raise DataError(f"{scp} has {split_record(line)[0]} where {scps[0]} has {split_record(first)[0]}")
    count = len(tables[0])
    if count < num_splits:
        raise DataError(f"{scps[0]} has {count} lines, too few for {num_splits} parts")
    for name, lines in zip(names, tables):
        directory = Path(output_dir) / name
        with ExitStack() as stack:  # all parts of a table appear together
            for part in range(num_splits):
                path = stack.enter_context(atomic_path(directory / f"split.{part}"))
                cut = lines[part * count // num_splits : (part + 1) * count // num_splits]
                path.write_text("".join(f"{line}\n" for line in cut), encoding="utf-8")
        write_text(directory / "num_splits", f"{num_splits}\n")


def main(argv: Sequence[str] | None = None) -> int:
    args = get_parser().parse_args(argv)
    setup_logging()
    try:
        split_scps(args.scps, args.output_dir, args.num_splits, args.names)
    except (ConfigError, DataError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Merge the output directories of parallel collect-stats jobs into one.

    python -m funasr.bin.aggregate_stats_dirs --input_dir stats.1 --input_dir stats.2 --output_dir stats

Shape files (and feature lists) are joined in the order of the inputs; counts, sums and sums of squares are added.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from funasr.utils.data_dir import read_table
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.io import atomic_path, write_text
from funasr.utils.logging import setup_logging

logger = logging.getLogger(__name__)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--input_dir", action="append", required=True, help="output of one job; repeat it")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--skip_sum_stats", action="store_true", help="leave feature statistics out")
    parser.add_argument("--log_level", default="INFO", choices=["ERROR", "WARNING", "INFO", "DEBUG"])
    return parser


def aggregate_stats_dirs(
    input_dirs: Sequence[str | Path], output_dir: str | Path, skip_sum_stats: bool = False
) -> None:
    """Merge what is in the `train` and `valid` directories of `input_dirs`.

    Raises DataError if a job is incomplete, jobs differ in their keys, or an utterance is in two jobs.
    """
    modes = [mode for mode in ("train", "valid") if (Path(input_dirs[0]) / mode).is_dir()]
    if not modes:
        raise DataError(f"{input_dirs[0]} has neither train nor valid: it is no output of --collect_stats")
    for mode in modes:
        parts = [Path(directory) / mode for directory in input_dirs]
        target = Path(output_dir) / mode
        batch_keys = _agreed(parts, "batch_keys")
        for key in batch_keys:
            count = _join_tables([part / f"{key}_shape" for part in parts], target / f"{key}_shape")
            logger.info("%s: %d utterances of %d jobs", target / f"{key}_shape", count, len(parts))
        write_text(target / "batch_keys", "".join(f"{key}\n" for key in batch_keys))
        stats_keys = _agreed(parts, "stats_keys")
        for key in stats_keys:
            if not skip_sum_stats:
                _sum_stats([part / f"{key}_stats.npz" for part in parts], target / f"{key}_stats.npz")
            lists = [part / "collect_feats" / f"{key}.scp" for part in parts]
            if lists[0].is_file():
                _join_tables(lists, target / f"{key}.scp")
        write_text(target / "stats_keys", "".join(f"{key}\n" for key in stats_keys))


def _agreed(parts: Sequence[Path], name: str) -> list[str]:
    """The lines of a key list, which all jobs must share."""
    lists = []
    for part in parts:
        if not (part / name).is_file():
            raise DataError(f"{part / name} does not exist: did this job end well?")
        lists.append((part / name).read_text(encoding="utf-8").split())
    for part, keys in zip(parts, lists):
        if keys != lists[0]:
            raise DataError(f"{part / name} lists {keys}, but {parts[0] / name} lists {lists[0]}")
    return lists[0]


def _join_tables(paths: Sequence[Path], target: Path) -> int:
    owner: dict[str, Path] = {}
    lines = []
    for path in paths:
        for uid, value in sorted(read_table(path).items()):
            if uid in owner:
                raise DataError(f"{uid} is in {owner[uid]} and in {path}")
            owner[uid] = path
            lines.append(f"{uid} {value}\n")
    write_text(target, "".join(lines))
    return len(lines)


def _sum_stats(paths: Sequence[Path], target: Path) -> None:
    total: dict[str, np.ndarray] = {}
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} does not exist: did this job end well?")
        with np.load(path) as stats:
            for name in ("count", "sum", "sum_square"):
                value = np.asarray(stats[name], dtype=np.float64 if name != "count" else np.int64)
                if name in total and total[name].shape != value.shape:
                    raise DataError(f"{path}: {name} has shape {value.shape}, but {total[name].shape} in {paths[0]}")
                total[name] = total[name] + value if name in total else value
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        np.savez(file, count=total["count"], sum=total["sum"], sum_square=total["sum_square"])


def main(argv: Sequence[str] | None = None) -> int:
    args = get_parser().parse_args(argv)
    setup_logging(args.log_level)
    try:
        aggregate_stats_dirs(args.input_dir, args.output_dir, args.skip_sum_stats)
    except (ConfigError, DataError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Kaldi-style tables -> one jsonl manifest.

    python -m funasr.bin.scp2jsonl --scp_file_list wav.scp text --data_type_list source target --jsonl_file_out F
    python -m funasr.bin.scp2jsonl ++scp_file_list='["wav.scp","text"]' ++data_type_list='["source","target"]' \\
        ++jsonl_file_out=F

The first table says which utterances there are, and their order; what another table lacks is absent from the record.
`source` also gets `source_len` (10 ms frames, from the audio header) and `target` gets `target_len` (words if the text
has a space, else characters).  Utterances whose audio is damaged are left out and named.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from funasr.datasets.lengths import lengths_from_headers
from funasr.datasets.table import IndexedTable
from funasr.utils.config import parse_yaml
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.io import atomic_path
from funasr.utils.logging import setup_logging

logger = logging.getLogger(__name__)

MANIFEST_FS = 16000  # Hz: source_len counts 10 ms frames of the audio at this rate
FRAME_SAMPLES = 160


def override_args(argv: Sequence[str]) -> list[str]:
    """Hydra-style `++key=[a,b]` arguments as `--key a b`; the others as they are."""
    args: list[str] = []
    for arg in argv:
        if not arg.startswith("++"):
            args.append(arg)
            continue
        key, equals, text = arg[2:].partition("=")
        if not equals:
            raise ConfigError(f"'{arg}' must be ++key=value")
        value = parse_yaml(text, arg)
        args += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
    return args


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--scp_file_list", nargs="+", required=True, help="tables")
    parser.add_argument("--data_type_list", nargs="+", required=True, help="the field that each table fills")
    parser.add_argument("--jsonl_file_out", required=True)
    parser.add_argument("--workers", type=int, default=8, help="threads that read audio headers")
    return parser


def target_len(text: str) -> int:
    """Words if there is a space, else characters."""
    return len(text.split()) if " " in text else len(text)


def scp2jsonl(scps: Sequence[str | Path], fields: Sequence[str], output: str | Path, workers: int = 8) -> int:
    """Write the manifest; returns the number of records."""
    if len(scps) != len(fields) or len(set(fields)) != len(fields):
        raise ConfigError(f"--data_type_list must give a different field to each of {len(scps)} tables, not {fields}")
    if (Path(scps[0]).with_name("segments")).is_file() and "source" in fields:
        raise DataError(f"{scps[0]} has a segments file: cut it first with `python -m funasr.bin.format_wav_scp`")
    tables: dict[str, Mapping[str, str]] = {field: IndexedTable(scp) for field, scp in zip(fields, scps)}
    lengths = None
    if "source" in fields:
        lengths = lengths_from_headers(scps[list(fields).index("source")], MANIFEST_FS, workers)
    count = 0
    with atomic_path(output) as temporary, temporary.open("w", encoding="utf-8") as file:
        for uid in next(iter(tables.values())):
            record: dict[str, str | int] = {"key": uid}
            for field, table in tables.items():
                if uid in table:
                    record[field] = table[uid]
            if "source" in record and lengths is not None:
                if uid not in lengths:
                    continue  # damaged, and named by lengths_from_headers
                record["source_len"] = lengths[uid][0] // FRAME_SAMPLES
            if "target" in record:
                record["target_len"] = target_len(str(record["target"]))
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
            count += 1
    logger.info("%s: %d records", output, count)
    return count


def main(argv: Sequence[str] | None = None) -> int:
    setup_logging()
    try:
        args = get_parser().parse_args(override_args(sys.argv[1:] if argv is None else argv))
        scp2jsonl(args.scp_file_list, args.data_type_list, args.jsonl_file_out, args.workers)
    except (ConfigError, DataError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Turn whatever a wav.scp holds into plain files of one rate and format.

    python -m funasr.bin.format_wav_scp data/train/wav.scp dump/train --fs 16k --audio_format flac --nj 8

Cuts `segments` (beside the wav.scp, or --segments), reads archives and, with --allow_pipes, runs commands; resamples
and re-encodes.  Writes `wav.scp` and `utt2num_samples` in the order of the input.  Damaged utterances are left out and
named, and their number is the last line of the log.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

import numpy as np
import soundfile
import torch
from tqdm import tqdm

from funasr.datasets.sound import SoundReader, read_entry
from funasr.datasets.table import IndexedTable
from funasr.utils.errors import ConfigError, DamagedUtteranceError, DataError
from funasr.utils.io import atomic_path, write_text
from funasr.utils.logging import setup_logging
from funasr.utils.option_types import str2bool

logger = logging.getLogger(__name__)

FORMATS = ("wav", "flac")
_FILES_PER_DIRECTORY = 1000  # a directory of a million files is slow on most file systems


def parse_rate(text: str) -> int:
    """`16k` or `16000` -> 16000 (Hz)."""
    number = float(text[:-1]) * 1000 if text.lower().endswith("k") else float(text)
    if number < 1 or number != int(number):
        raise argparse.ArgumentTypeError(f"'{text}' is not a rate; write e.g. 16k or 16000")
    return int(number)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("scp", help="wav.scp")
    parser.add_argument("outdir", help="where wav.scp, utt2num_samples and audio/ are written")
    parser.add_argument("--segments", help="segments file (default: the one beside the wav.scp, if any)")
    parser.add_argument("--fs", type=parse_rate, help="rate wanted, e.g. 16k (default: as it is)")
    parser.add_argument("--audio_format", choices=FORMATS, default="wav")
    parser.add_argument("--nj", type=int, default=1, help="processes")
    parser.add_argument("--allow_pipes", type=str2bool, default=False, help="run commands (`... |`) through a shell")
    parser.add_argument("--log_level", default="INFO", choices=["ERROR", "WARNING", "INFO", "DEBUG"])
    return parser


@dataclass(frozen=True)
class Written:
    """What became of one utterance: its file and length, or why there is none."""

    uid: str
    path: str = ""
    num_samples: int = 0
    error: str = ""


class _FileReader(SoundReader):
    """A SoundReader that keeps each file's own rate when no rate is asked for."""

    def read(self, uid: str) -> tuple[np.ndarray, int]:
        if self.fs is not None:
            return self[uid], self.fs
        entry, span = self.entry(uid)
        return read_entry(entry, span, self.allow_pipes)


def _write_one(item: tuple[int, str], reader: _FileReader, outdir: Path, audio_format: str) -> Written:
    index, uid = item
    directory = outdir / "audio" / f"{index // _FILES_PER_DIRECTORY:05d}"
    path = directory / f"{quote(uid, safe='')}.{audio_format}"
    try:
        samples, rate = reader.read(uid)
        if not len(samples):
            raise DamagedUtteranceError("no samples")
        with atomic_path(path) as temporary:
            soundfile.write(temporary, samples, rate, format=audio_format.upper(), subtype="PCM_16")
    except (DamagedUtteranceError, OSError, soundfile.LibsndfileError) as error:
        return Written(uid, error=str(error) or type(error).__name__)
    return Written(uid, str(path), len(samples))


def format_wav_scp(
    scp: str | Path,
    outdir: str | Path,
    segments: str | Path | None = None,
    fs: int | None = None,
    audio_format: str = "wav",
    nj: int = 1,
    allow_pipes: bool = False,
) -> dict[str, str]:
    """Write every utterance to a file of its own; returns id -> reason of those that could not be.

    Raises DataError if none could, or an entry is a command and `allow_pipes` is off.
    """
    if audio_format not in FORMATS:
        raise ConfigError(f"--audio_format must be one of {', '.join(FORMATS)}, not '{audio_format}'")
    scp, outdir = Path(scp), Path(outdir)
    if (outdir / "wav.scp").resolve() == scp.resolve():
        raise ConfigError(f"{outdir} holds the input {scp}; write to another directory")
    beside = scp.with_name("segments")
    segments = segments or (beside if scp.name == "wav.scp" and beside.is_file() else None)
    reader = _FileReader(IndexedTable(scp), fs, allow_pipes, IndexedTable(segments) if segments else None)
    damaged: dict[str, str] = {}
    scp_lines, length_lines = [], []
    for written in tqdm(_run(reader, outdir, audio_format, nj), total=len(reader), unit="utt", disable=None):
        if written.error:
            logger.warning("%s is left out: %s", written.uid, written.error)
            damaged[written.uid] = written.error
        else:
            scp_lines.append(f"{written.uid} {written.path}\n")
            length_lines.append(f"{written.uid} {written.num_samples}\n")
    if not scp_lines:
        raise DataError(f"{scp}: none of its {len(reader)} utterances could be written")
    write_text(outdir / "utt2num_samples", "".join(length_lines))
    write_text(outdir / "wav.scp", "".join(scp_lines))
    logger.info("%s: %d utterances written, %d damaged", outdir / "wav.scp", len(scp_lines), len(damaged))
    return damaged


def _run(reader: _FileReader, outdir: Path, audio_format: str, nj: int) -> Iterator[Written]:
    work = partial(_write_one, reader=reader, outdir=outdir, audio_format=audio_format)
    if nj <= 1:
        yield from map(work, enumerate(reader))
        return
    # One torch thread each: nj processes share the cores, and a forked process must not enter OpenMP's threads.
    with ProcessPoolExecutor(nj, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        yield from pool.map(work, enumerate(reader), chunksize=max(1, min(64, len(reader) // nj)))


def main(argv: Sequence[str] | None = None) -> int:
    args = get_parser().parse_args(argv)
    setup_logging(args.log_level)
    try:
        format_wav_scp(args.scp, args.outdir, args.segments, args.fs, args.audio_format, args.nj, args.allow_pipes)
    except (ConfigError, DataError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

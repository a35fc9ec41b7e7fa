"""Lengths of utterances: shape files, audio headers, and leaving out what is too short or too long."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from tqdm import tqdm

from funasr.datasets.data_types import open_reader
from funasr.datasets.sound import SoundReader
from funasr.utils.data_dir import read_table
from funasr.utils.errors import DamagedUtteranceError, DataError
from funasr.utils.io import write_text

logger = logging.getLogger(__name__)

Shapes = dict[str, tuple[int, ...]]


def read_shapes(path: str | Path) -> Shapes:
    """`ID 123,80` -> id -> (123, 80), in file order.  Raises DataError naming the id of a line that is not so."""
    shapes: Shapes = {}
    for uid, value in read_table(path).items():
        try:
            shapes[uid] = tuple(int(number) for number in value.split(","))
        except ValueError:
            raise DataError(f"{path}: the shape of {uid} is '{value}', not numbers like 123,80") from None
    if not shapes:
        raise DataError(f"{path} is empty")
    return shapes


def load_shapes(sources: Sequence[Shapes | str | Path]) -> list[Shapes]:
    """Shape files (or what `read_shapes` gave for them), which must have the same ids."""
    loaded = [source if isinstance(source, dict) else read_shapes(source) for source in sources]
    for source, shapes in zip(sources[1:], loaded[1:]):
        if shapes.keys() != loaded[0].keys():
            odd = sorted(shapes.keys() ^ loaded[0].keys())
            name, first = (s if isinstance(s, str | Path) else "the shapes" for s in (source, sources[0]))
            raise DataError(f"{name} and {first} differ in {len(odd)} ids, e.g. {', '.join(odd[:5])}")
    return loaded


def lengths_from_headers(
    path: str | Path,
    fs: int | None = None,
    workers: int = 8,
    cache: bool = False,
    type_name: str = "sound",
    allow_pipes: bool = False,
) -> Shapes:
    """Utterance id -> (samples,) of a wav.scp (or manifest), read from the audio headers.

    Args:
        fs: count samples at this rate (Hz); None: at the rate of the file.
        workers: threads that open files.
        cache: keep the result beside the file, as `PATH.samples` (`PATH.16000hz.samples`), and use it while newer.

    Damaged files are left out and named in the log.
    """
    path = Path(path)
    kept = path.with_name(f"{path.name}.{f'{fs}hz.' if fs else ''}samples")
    if cache and kept.is_file() and kept.stat().st_mtime >= path.stat().st_mtime:
        return read_shapes(kept)
    reader = open_reader(str(path), type_name, fs, allow_pipes)
    if not isinstance(reader, SoundReader):
        raise DataError(f"{path},{type_name}: only sound has a header to read lengths from")

    def measure(uid: str) -> int | str:
        try:
            return reader.num_samples(uid)
        except (DamagedUtteranceError, OSError) as error:
            return str(error)

    lengths: Shapes = {}
    damaged: dict[str, str] = {}
    with (
        ThreadPoolExecutor(max(1, workers)) as pool,
        tqdm(total=len(reader), desc=f"lengths of {path}", unit="utt", disable=None) as progress,
    ):
        uids = iter(reader)
        while block := list(islice(uids, 10_000)):  # a pool takes all its tasks at once; a million is a lot of memory
            for uid, found in zip(block, pool.map(measure, block)):
                if isinstance(found, int) and found > 0:
                    lengths[uid] = (found,)
                else:
                    damaged[uid] = str(found) if found else "no samples"
            progress.update(len(block))
    for uid, reason in damaged.items():
        logger.warning("%s: %s is left out: %s", path, uid, reason)
    if not lengths:
        raise DataError(f"{path}: none of its {len(reader)} utterances can be read")
    if cache:
        write_text(kept, "".join(f"{uid} {length}\n" for uid, (length,) in lengths.items()))
    return lengths


def filter_lengths(
    shapes: Mapping[str, tuple[int, ...]], units_per_ms: float, min_ms: float = -1, max_ms: float = -1
) -> Shapes:
    """The utterances with min_ms <= duration <= max_ms; a bound below 0 is off.  What is left out is logged.

    `units_per_ms`: lengths (the first number) per millisecond, e.g. fs / 1000 for samples.
    """
    low = min_ms * units_per_ms if min_ms >= 0 else 0.0
    high = max_ms * units_per_ms if max_ms >= 0 else float("inf")
    kept = {uid: shape for uid, shape in shapes.items() if low <= shape[0] <= high}
    if len(kept) < len(shapes):
        dropped = [uid for uid in shapes if uid not in kept]
        logger.info(
            "%d of %d utterances are outside %s..%s ms and left out, e.g. %s",
            len(dropped), len(shapes), min_ms, max_ms, ", ".join(dropped[:5]),
        )  # fmt: skip
    if not kept:
        raise DataError(f"no utterance lasts {min_ms}..{max_ms} ms; check speech_length_min, speech_length_max")
    return kept

"""Iterator factory that cuts utterances into pieces of fixed length."""

from __future__ import annotations

import logging
import re
from collections.abc import Generator, Iterator, Sequence

import numpy as np

from funasr.datasets.collate import Sample
from funasr.datasets.dataset import SpeechTextDataset
from funasr.datasets.loading import Batch, CollateFn, EpochIterator, SkipLog
from funasr.utils.errors import ConfigError, DataError

logger = logging.getLogger(__name__)


def parse_chunk_lengths(text: str | int) -> list[int]:
    """`500` -> [500]; `300,400` -> [300, 400]; `300-400` -> every length from 300 to 400."""
    lengths: list[int] = []
    for part in str(text).split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None or int(match[1]) < 1 or int(match[2] or match[1]) < int(match[1]):
            raise ConfigError(f"chunk_length '{text}' must be like 500, 300,400 or 300-400")
        lengths += range(int(match[1]), int(match[2] or match[1]) + 1)
    return lengths


class ChunkIterFactory:
    """Batches of windows of equal length, cut from utterances whose sequences are all equally long.

    For each utterance of length L a window length W is drawn from the candidates that fit; with a shift
    S = int(W * chunk_shift_ratio) it gives (L - W) // S + 1 windows, from an offset drawn in [0, (L - W) mod S].
    Windows of one length are collected, and mixed once there are more than `num_cache_chunks`.

    Args:
        dataset, collate_fn, seed, shuffle, num_workers, pin_memory: as for `SequenceIterFactory`.
        uids: the utterances of a pass.
        batch_size: windows in a global batch; what does not fill a batch at the end of an epoch is dropped.
        chunk_length: see `parse_chunk_lengths`, in units of the first axis.
        num_utts_per_epoch: utterances (not batches) in an epoch; None: all.
        excluded_key_prefixes: values whose names begin so are passed on whole.
        rank, world_size: this process takes windows rank, rank + world_size, ... of each global batch. To have the same
            number of batches everywhere, every process reads every utterance.
    """

    def __init__(
        self,
        dataset: SpeechTextDataset,
        uids: Sequence[str],
        batch_size: int,
        collate_fn: CollateFn,
        chunk_length: str | int = 500,
        chunk_shift_ratio: float = 0.5,
        num_cache_chunks: int = 1024,
        num_utts_per_epoch: int | None = None,
        excluded_key_prefixes: Sequence[str] = (),
        seed: int = 0,
        shuffle: bool = False,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool = True,
    ) -> None:
        if batch_size < world_size:
            raise ConfigError(f"batch_size {batch_size} is less than the {world_size} processes")
        if chunk_shift_ratio <= 0:
            raise ConfigError(f"chunk_shift_ratio must be above 0, not {chunk_shift_ratio}")
        self.dataset = dataset
        self.uids = list(uids)
        self.batch_size = batch_size
        self.collate_fn = collate_fn
        self.lengths = np.array(sorted(parse_chunk_lengths(chunk_length)))
        self.chunk_shift_ratio = chunk_shift_ratio
        self.num_cache_chunks = max(num_cache_chunks, batch_size)
        self.num_utts_per_epoch = num_utts_per_epoch
        self.excluded_key_prefixes = tuple(excluded_key_prefixes)
        self.seed = seed
        self.shuffle = shuffle
        self.num_workers = num_workers
        self.rank = rank
        self.world_size = world_size
        self.pin_memory = pin_memory
        self._log = SkipLog()

    @property
    def skipped(self) -> dict[str, str]:
        """Id -> reason of all utterances left out since this factory was made."""
        return self._log.skipped

    def build_iter(self, epoch: int, skip: int = 0) -> ChunkIterator:
        """The batches of `epoch`, without the first `skip`.  Their number is known only at the end: no `len()`."""
        return ChunkIterator(self, epoch, skip)

    def epoch_uids(self, epoch: int) -> list[str]:
        """The utterances of an epoch: a window over endless passes, pass p in an order seeded by p + seed."""
        if epoch < 1:
            raise ConfigError(f"epochs count from 1, not {epoch}")
        count = self.num_utts_per_epoch or len(self.uids)
        start = (epoch - 1) * count
        uids: list[str] = []
        for index in range(start // len(self.uids), (start + count - 1) // len(self.uids) + 1):
            order = np.arange(len(self.uids))
            if self.shuffle:
                np.random.default_rng(index + 1 + self.seed).shuffle(order)
            uids += [self.uids[i] for i in order]
        offset = start % len(self.uids)
        return uids[offset : offset + count]


class ChunkIterator:
    """One epoch of a `ChunkIterFactory`."""

    def __init__(self, factory: ChunkIterFactory, epoch: int, skip: int) -> None:
        self.factory = factory
        self.epoch = epoch
        self.skip = skip

    def __iter__(self) -> Iterator[Batch]:
        factory = self.factory
        rng = np.random.default_rng([self.epoch, factory.seed])
        for index, samples in enumerate(self._batches(rng)):
            if index >= self.skip:
                yield factory.collate_fn(samples[factory.rank :: factory.world_size])

    def _batches(self, rng: np.random.Generator) -> Iterator[list[Sample]]:
        """Global batches: windows of one length each."""
        caches: dict[int, list[Sample]] = {}
        size = self.factory.batch_size
        for uid, values in self._utterances():
            windows = self._windows(uid, values, rng)
            if not windows:
                continue
            cache = caches.setdefault(windows[0][0], [])
            cache += [window for _, window in windows]
            if len(cache) > self.factory.num_cache_chunks:
                rest = yield from _emit(cache, size, rng if self.factory.shuffle else None)
                caches[windows[0][0]] = rest
        for cache in caches.values():
            yield from _emit(cache, size, rng if self.factory.shuffle else None)

    def _utterances(self) -> Iterator[Sample]:
        factory = self.factory
        single = [[uid] for uid in factory.epoch_uids(self.epoch)]
        loader = EpochIterator(
            factory.dataset, single, _keep_samples, self.epoch, factory.seed, factory.num_workers, log=factory._log,
        )  # fmt: skip
        for uids, batch in loader:
            if uids:
                yield uids[0], batch

    def _windows(self, uid: str, values: dict[str, np.ndarray], rng: np.random.Generator) -> list[tuple[int, Sample]]:
        """(window length, sample) for each window of one utterance; none if it is shorter than every candidate."""
        factory = self.factory
        names = [name for name in values if not name.startswith(factory.excluded_key_prefixes or ("\0",))]
        lengths = {len(values[name]) for name in names}
        if len(lengths) != 1:
            raise DataError(f"{uid}: chunks need sequences of one length, not { ({n: len(values[n]) for n in names}) }")
        length = lengths.pop()
        candidates = factory.lengths[factory.lengths <= length]
        if not len(candidates):
            factory._log.add(1, {uid: f"its length {length} is below every chunk_length"}, {})
            return []
        window = int(rng.choice(candidates))
        shift = max(1, int(window * factory.chunk_shift_ratio))
        offset = int(rng.integers(0, (length - window) % shift + 1)) if factory.shuffle else 0
        count = (length - window) // shift + 1
        return [(window, (uid, _cut(values, names, offset + i * shift, window))) for i in range(count)]


def _cut(values: dict[str, np.ndarray], names: Sequence[str], start: int, window: int) -> dict[str, np.ndarray]:
    return {name: value[start : start + window] if name in names else value for name, value in values.items()}


def _keep_samples(samples: Sequence[Sample]) -> Batch:
    """A collate function that keeps the arrays of a single sample."""
    uid, values = samples[0]
    return [uid], values


def _emit(
    cache: list[Sample], size: int, rng: np.random.Generator | None
) -> Generator[list[Sample], None, list[Sample]]:
    """Batches of a cache, mixed by `rng`; returns what does not fill one."""
    if rng is not None:
        cache = [cache[i] for i in rng.permutation(len(cache))]
    full = len(cache) - len(cache) % size
    for start in range(0, full, size):
        yield cache[start : start + size]
    return cache[full:]

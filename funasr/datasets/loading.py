"""Batches of ids -> batches of tensors, in worker processes, without the damaged utterances."""

from __future__ import annotations

import logging
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from funasr.datasets.dataset import Damaged, SpeechTextDataset
from funasr.utils.errors import DataError
from funasr.utils.threads import torch_threads

logger = logging.getLogger(__name__)

Batch = tuple[list[str], dict[str, Any]]
CollateFn = Callable[[Sequence[tuple[str, dict[str, np.ndarray]]]], Batch]
_HOPELESS = 50  # so many utterances, all damaged, from the start: the paths are wrong, not the audio


class _Batches(Dataset[tuple[Batch, dict[str, str], dict[tuple[int, int], str]]]):
    """What a worker runs: a draw and a list of ids -> (batch, id -> why it is damaged, resampling notices)."""

    def __init__(self, dataset: SpeechTextDataset, collate_fn: CollateFn) -> None:
        self.dataset = dataset
        self.collate_fn = collate_fn

    def __getitem__(self, item: tuple[int, Sequence[str]]) -> tuple[Batch, dict[str, str], dict[tuple[int, int], str]]:
        draw, uids = item
        self.dataset.set_epoch(draw)
        # What a worker process has: the last bit of a resampled value depends on the number of threads.
        with torch_threads(1):
            found = [self.dataset[uid] for uid in uids]
        damaged = {item.uid: item.reason for item in found if isinstance(item, Damaged)}
        samples = [item for item in found if not isinstance(item, Damaged)]
        batch: Batch = self.collate_fn(samples) if samples else ([], {})
        return batch, damaged, self.dataset.pop_notices()


def _identity(item: Any) -> Any:
    return item


def _start_worker(_: int) -> None:
    """Seed what libraries may draw from (our own augmentation is seeded by utterance); leave signals to the trainer.

    Schedulers and terminals signal a whole process group.  The trainer answers by saving its state, for which it must
    not lose its loader; the worker ends with it.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    seed = torch.initial_seed() % 2**32
    random.seed(seed)
    np.random.seed(seed)


class SkipLog:
    """Counts and names the utterances left out, each once, and tells of resampling, once for each pair of rates."""

    def __init__(self) -> None:
        self.skipped: dict[str, str] = {}
        self._resampled: set[tuple[int, int]] = set()
        self._good = 0

    def add(self, good: int, damaged: dict[str, str], notices: dict[tuple[int, int], str]) -> None:
        self._good += good
        for uid, reason in damaged.items():
            if uid not in self.skipped:
                logger.warning("%s is skipped: %s", uid, reason)
                self.skipped[uid] = reason
        for (rate, wanted), path in notices.items():
            if (rate, wanted) not in self._resampled:
                self._resampled.add((rate, wanted))
                logger.warning("%s has %d Hz, not %d Hz: it, and all like it, are resampled", path, rate, wanted)
        if not self._good and len(self.skipped) >= _HOPELESS:
            self.fail()

    def fail(self) -> None:
        uid, reason = next(iter(self.skipped.items()))
        raise DataError(f"all of the first {len(self.skipped)} utterances are damaged, e.g. {uid}: {reason}")

    @property
    def nothing_good(self) -> bool:
        return bool(self.skipped) and not self._good


class EpochIterator:
    """The batches of one epoch: iterate for `(ids, tensors)`; `len()` is their number.

    An utterance that cannot be used is missing from its batch; a batch of nothing else is `([], {})`.

    `draws`: for each batch, the epoch whose augmentation it gets; default: this one's.
    """

    def __init__(
        self,
        dataset: SpeechTextDataset,
        batches: list[list[str]],
        collate_fn: CollateFn,
        epoch: int,
        seed: int = 0,
        num_workers: int = 0,
        pin_memory: bool = False,
        prefetch_factor: int = 2,
        log: SkipLog | None = None,
        fail_if_empty: bool = True,
        draws: Sequence[int] | None = None,
    ) -> None:
        self.dataset = dataset
        self.batches = batches
        self.collate_fn = collate_fn
        self.epoch = epoch
        self.seed = seed
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.prefetch_factor = prefetch_factor
        self.log = log or SkipLog()
        self.fail_if_empty = fail_if_empty
        self.draws = list(draws) if draws is not None else [epoch] * len(batches)

    @property
    def skipped(self) -> dict[str, str]:
        """Id -> reason of the utterances left out so far."""
        return self.log.skipped

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        self.dataset.set_epoch(self.epoch)
        if self.num_workers > 0 and self.dataset.max_cache_size > 0:
            self.dataset.fill_cache([uid for batch in self.batches for uid in batch], self.num_workers)
        skipped_here = total = 0
        for (uids, batch), damaged, notices in self._loader():
            self.log.add(len(uids), damaged, notices)
            skipped_here += len(damaged)
            total += len(uids) + len(damaged)
            yield uids, batch
        if skipped_here:
            logger.warning("epoch %d: %d of %d utterances were damaged and skipped", self.epoch, skipped_here, total)
        if self.fail_if_empty and self.log.nothing_good:
            self.log.fail()

    def _loader(self) -> DataLoader[Any]:
        return DataLoader(
            _Batches(self.dataset, self.collate_fn),
            sampler=list(zip(self.draws, self.batches)),
            batch_size=None,
            collate_fn=_identity,
            num_workers=self.num_workers,
            worker_init_fn=_start_worker,
            # A generator of its own, so that making a loader does not move the global one.
            generator=torch.Generator().manual_seed(self.seed + self.epoch),
            pin_memory=self.pin_memory and torch.cuda.is_available(),
            prefetch_factor=self.prefetch_factor if self.num_workers else None,
        )

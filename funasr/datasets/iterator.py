"""Iterator factories: an object that gives the batches of any epoch, the same ones whenever it is asked.

`build_iter(epoch, skip)` gives `(ids, tensors)`; the same epoch gives the same batches for any number of workers, and
`skip` leaves out the first ones, so that training can go on in the middle of an epoch.  Epochs count from 1.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from funasr.datasets.data_types import Triplet
from funasr.datasets.dataset import Preprocess, SpeechTextDataset
from funasr.datasets.loading import CollateFn, EpochIterator, SkipLog
from funasr.datasets.samplers import Batches, BatchPlan, FixedBatches
from funasr.datasets.table import IndexedTable
from funasr.utils.errors import ConfigError, DataError


class SequenceIterFactory:
    """Whole utterances in the batches of a plan.

    Args:
        dataset: where samples come from.
        batches: of the global batch: a `BatchPlan`, or a list of id lists.
        collate_fn: samples -> `(ids, tensors)`.
        num_iters_per_epoch: an epoch is a window of so many batches over endless passes of the corpus; None: one pass.
        shuffle: shuffle the batches of pass p with a generator seeded by p + seed.
        shuffle_within_batch: shuffle the items of each batch too.
        num_workers: worker processes; 0 loads in this one.
        rank, world_size: this process takes items rank, rank + world_size, ... of every global batch, so that all
            processes see the same number of batches.
        pin_memory: put batches in page-locked memory if there is a GPU.

    Raises DataError if a batch has fewer items than there are processes.
    """

    def __init__(
        self,
        dataset: SpeechTextDataset,
        batches: BatchPlan | Batches,
        collate_fn: CollateFn,
        num_iters_per_epoch: int | None = None,
        seed: int = 0,
        shuffle: bool = False,
        shuffle_within_batch: bool = False,
        num_workers: int = 0,
        rank: int = 0,
        world_size: int = 1,
        pin_memory: bool = True,
        prefetch_factor: int = 2,
    ) -> None:
        self.dataset = dataset
        self.plan: BatchPlan = FixedBatches(batches) if isinstance(batches, list) else batches
        self.collate_fn = collate_fn
        self.num_iters_per_epoch = num_iters_per_epoch
        self.seed = seed
        self.shuffle = shuffle
        self.shuffle_within_batch = shuffle_within_batch
        self.num_workers = num_workers
        self.rank = rank
        self.world_size = world_size
        self.pin_memory = pin_memory
        self.prefetch_factor = prefetch_factor
        self._log = SkipLog()
        first_pass = self.plan.batches(None)
        if not first_pass:
            raise DataError("there is no batch to iterate over")
        _check_batches(first_pass, dataset, world_size)

    @property
    def skipped(self) -> dict[str, str]:
        """Id -> reason of all utterances left out since this factory was made."""
        return self._log.skipped

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.num_iters_per_epoch or len(self.plan)

    def global_batches(self, epoch: int) -> Batches:
        """The ids of all global batches of an epoch."""
        return [batch for _, batch in self._numbered_batches(epoch)]

    def _numbered_batches(self, epoch: int) -> list[tuple[int, list[str]]]:
        """(pass, ids) of all global batches of an epoch."""
        if epoch < 1:
            raise ConfigError(f"epochs count from 1, not {epoch}")
        per_pass = len(self.plan)
        start, count = (epoch - 1) * len(self), len(self)
        batches: list[tuple[int, list[str]]] = []
        for index in range(start // per_pass, (start + count - 1) // per_pass + 1):
            batches += [(index + 1, batch) for batch in self._pass(index + 1)]
        offset = start % per_pass
        return batches[offset : offset + count]

    def _pass(self, index: int) -> Batches:
        if not self.shuffle:
            return self.plan.batches(None)
        rng = np.random.default_rng(index + self.seed)
        batches = self.plan.batches(rng)
        if self.shuffle_within_batch:
            batches = [[batch[i] for i in rng.permutation(len(batch))] for batch in batches]
        return batches

    def build_iter(self, epoch: int, skip: int = 0) -> EpochIterator:
        """The batches of `epoch` for this process, without the first `skip`.

        Augmentation is drawn anew for each pass over the corpus, so a long epoch over a small corpus does not hear
        the same thing again.
        """
        numbered = self._numbered_batches(epoch)[skip:]
        batches = [batch[self.rank :: self.world_size] for _, batch in numbered]
        return EpochIterator(
            self.dataset, batches, self.collate_fn, epoch, self.seed, self.num_workers, self.pin_memory,
            self.prefetch_factor, self._log, fail_if_empty=self.world_size == 1,
            draws=[number for number, _ in numbered],
        )  # fmt: skip


def _check_batches(batches: Batches, dataset: SpeechTextDataset, world_size: int) -> None:
    small = sum(len(batch) < world_size for batch in batches)
    if small:
        raise DataError(
            f"{small} of {len(batches)} batches have fewer items than the {world_size} processes; use larger batches, "
            f"min_batch_size={world_size}, or fewer processes"
        )
    known = set(dataset.ids)
    unknown = [uid for batch in batches for uid in batch if uid not in known]
    if unknown:
        raise DataError(
            f"the shape files have {len(unknown)} ids that are not in all of "
            f"{', '.join(path for path, _, _ in dataset.triplets)}, e.g. {', '.join(unknown[:5])}"
        )


class MultipleIterFactory:
    """A corpus in N splits (see `split_paths`), one of them in memory at a time.

    Args:
        build_funcs: each makes the factory of one split.
        seed, shuffle: visit the splits in an order shuffled anew for each epoch.
    """

    def __init__(self, build_funcs: Sequence[Callable[[], SequenceIterFactory]], seed: int = 0, shuffle: bool = False):
        self.build_funcs = list(build_funcs)
        self.seed = seed
        self.shuffle = shuffle
        self._counts: dict[int, int] = {}
        self.skipped: dict[str, str] = {}

    def __len__(self) -> int:
        """Batches in an epoch; builds the splits that were not visited yet, to count theirs."""
        return sum(self._count(index) for index in range(len(self.build_funcs)))

    def _count(self, index: int) -> int:
        if index not in self._counts:
            self._counts[index] = len(self.build_funcs[index]())
        return self._counts[index]

    def build_iter(self, epoch: int, skip: int = 0) -> MultipleIterator:
        """The batches of all splits for `epoch`, without the first `skip`."""
        order = list(range(len(self.build_funcs)))
        if self.shuffle:
            np.random.default_rng(epoch + self.seed).shuffle(order)
        return MultipleIterator(self, order, epoch, skip)


class MultipleIterator:
    """One epoch of a `MultipleIterFactory`."""

    def __init__(self, factory: MultipleIterFactory, order: list[int], epoch: int, skip: int) -> None:
        self.factory = factory
        self.order = order
        self.epoch = epoch
        self.skip = skip

    def __len__(self) -> int:
        return max(0, len(self.factory) - self.skip)

    def __iter__(self):  # type: ignore[no-untyped-def]
        skip = self.skip
        for index in self.order:
            if skip and index in self.factory._counts and skip >= self.factory._counts[index]:
                skip -= self.factory._counts[index]
                continue
            split = self.factory.build_funcs[index]()
            count = self.factory._counts[index] = len(split)
            if skip < count:
                yield from split.build_iter(self.epoch, skip)
            skip = max(0, skip - count)
            self.factory.skipped.update(split.skipped)


def split_paths(directory: str | Path) -> list[Path]:
    """The files `split.0`, `split.1`, ... of a directory made by `split_scps`, which says how many in `num_splits`."""
    directory = Path(directory)
    try:
        count = int((directory / "num_splits").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise DataError(f"{directory} has no file num_splits; make it with `python -m funasr.bin.split_scps`") from None
    return [directory / f"split.{index}" for index in range(count)]


def share_iterations(num_iters: int | None, num_splits: int) -> list[int | None]:
    """Iterations of an epoch, divided over splits; the first ones get what does not divide."""
    if num_iters is None:
        return [None] * num_splits
    if num_iters < num_splits:
        raise ConfigError(f"num_iters_per_epoch={num_iters} is less than the {num_splits} splits")
    return [num_iters // num_splits + (index < num_iters % num_splits) for index in range(num_splits)]


def build_streaming_iterator(
    triplets: Sequence[Triplet],
    collate_fn: CollateFn,
    preprocess: Preprocess | None = None,
    key_file: str | Path | None = None,
    batch_size: int = 1,
    fs: int | None = None,
    float_dtype: str = "float32",
    num_workers: int = 0,
    pin_memory: bool = False,
    allow_pipes: bool = False,
    may_be_empty: Collection[str] = (),
) -> EpochIterator:
    """The utterances of a data set in the order of its first file, for decoding and statistics.

    `key_file` (ids in its first column) chooses utterances, in the order of that file.  The iterator's `skipped` tells
    afterwards which ones could not be used.
    """
    dataset = SpeechTextDataset(
        triplets, preprocess, fs, float_dtype, allow_pipes=allow_pipes, may_be_empty=may_be_empty
    )
    uids = dataset.ids if key_file is None else list(IndexedTable(key_file))
    known = set(dataset.ids)
    unknown = [uid for uid in uids if uid not in known]
    if unknown:
        raise DataError(f"{key_file} has {len(unknown)} ids that {triplets[0][0]} lacks: {', '.join(unknown[:5])}")
    batches = [uids[start : start + batch_size] for start in range(0, len(uids), batch_size)]
    return EpochIterator(
        dataset, batches, collate_fn, epoch=1, num_workers=num_workers, pin_memory=pin_memory, fail_if_empty=False
    )

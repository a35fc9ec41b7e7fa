"""Batch samplers: utterance lengths -> lists of utterance ids.

    unsorted   a count of utterances, in the order of the file
    sorted     the same after sorting by length
    folded     a count that shrinks as utterances get longer than fold_length
    length     as many as fit in batch_bins = count * longest, summed over the shape files
    numel      the same counted in numbers (length * the other dimensions)
    bucket     duration buckets mixed anew for every pass, never more than batch_bins
    shuffled   a count of utterances, all mixed anew for every pass: for samples of one length

`batch_size` and `batch_bins` are those of the global batch, over all ranks.  All but `bucket` and `shuffled` follow the
rules (and the batches) of ESPnet2 and FunASR 0.8; their limit may be exceeded by one utterance.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np

from funasr.datasets.lengths import Shapes, load_shapes
from funasr.datasets.table import IndexedTable
from funasr.register import nearest_names
from funasr.utils.data_dir import read_table
from funasr.utils.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

Batches = list[list[str]]
BATCH_TYPES = ("unsorted", "sorted", "folded", "length", "numel", "bucket", "shuffled")
_ORDERS = ("ascending", "descending")


class BatchPlan(Protocol):
    """The batches of one pass over a corpus.  Their number is the same in every pass."""

    def __len__(self) -> int: ...

    def batches(self, rng: np.random.Generator | None) -> Batches:
        """The batches, shuffled by `rng`; in their own order if it is None."""
        ...


class FixedBatches:
    """The same batches in every pass; only their order is shuffled."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def batches(self, rng: np.random.Generator | None) -> Batches:
        if rng is None:
            return list(self._batches)
        return [self._batches[i] for i in rng.permutation(len(self._batches))]


class ShuffledBatches:
    """The groups of `unsorted_batches`, filled anew in every pass."""

    def __init__(self, ids: Sequence[str], batch_size: int, drop_last: bool = False) -> None:
        self.ids, self.batch_size, self.drop_last = list(ids), batch_size, drop_last

    def __len__(self) -> int:
        return max(len(self.ids) // self.batch_size, 1)

    def batches(self, rng: np.random.Generator | None) -> Batches:
        mixed = self.ids if rng is None else [self.ids[i] for i in rng.permutation(len(self.ids))]
        return unsorted_batches(mixed, self.batch_size, self.drop_last)


class BucketBatches:
    """Buckets of similar length; each pass shuffles inside the buckets, cuts them into batches and shuffles those.

    A bucket's batch size is set by its longest utterance, so no batch exceeds `batch_bins` with its padding, however
    it is mixed, and batches of a bucket have nearly equal shapes, which suits the memory allocator.

    Args:
        shapes: one per shape file; the first one orders the utterances.
        batch_bins: limit of count * longest, summed over the files.
        num_buckets: buckets hold about equal total length.
        quadratic_length: length L at which the quadratic part of the cost (self-attention) equals the linear one: an
            utterance then costs n + n^2 / L.  None: cost n.
        groups: lists of ids that must not share a batch.
        min_batch_size: a batch has at least so many items, even if that exceeds the limit.
        drop_last: leave out the rest of a bucket that does not fill a batch.
    """

    def __init__(
        self,
        shapes: Sequence[Shapes],
        batch_bins: float,
        num_buckets: int = 30,
        quadratic_length: float | None = None,
        groups: Sequence[list[str]] | None = None,
        min_batch_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        self.buckets: list[tuple[list[str], list[int]]] = []  # ids, and the edges that cut them into batches
        over = 0
        for group in groups or [list(shapes[0])]:
            ids = sorted(group, key=lambda uid: shapes[0][uid][0])
            for bucket in _equal_duration(ids, [shapes[0][uid][0] for uid in ids], num_buckets, min_batch_size):
                cost = sum(_cost(max(s[uid][0] for uid in bucket), quadratic_length) for s in shapes)
                size = max(min_batch_size, int(batch_bins // cost))
                over += len(bucket) * (size * cost > batch_bins)
                self.buckets.append((bucket, _edges(len(bucket), size, min_batch_size, drop_last)))
        if over:
            logger.warning(
                "%d utterances are in buckets whose batches of %d exceed batch_bins=%g; raise it, or filter by length",
                over, min_batch_size, batch_bins,
            )  # fmt: skip

    def __len__(self) -> int:
        return sum(len(edges) - 1 for _, edges in self.buckets)

    def batches(self, rng: np.random.Generator | None) -> Batches:
        batches: Batches = []
        for ids, edges in self.buckets:
            mixed = ids if rng is None else [ids[i] for i in rng.permutation(len(ids))]
            batches += [mixed[a:b] for a, b in pairwise(edges)]
        return batches if rng is None else [batches[i] for i in rng.permutation(len(batches))]


def _cost(length: int, quadratic_length: float | None) -> float:
    return max(length, 1) * (1 + (length / quadratic_length if quadratic_length else 0.0))


def _equal_duration(ids: list[str], lengths: list[int], count: int, min_items: int) -> Batches:
    """Cut sorted ids into at most `count` runs of about equal total length, with at least `min_items` each."""
    total = np.cumsum(np.maximum(lengths, 1))
    bucket = np.minimum(((total - 1) * count // total[-1]).astype(int), count - 1)
    cuts = [0]
    for cut in (np.flatnonzero(np.diff(bucket)) + 1).tolist():
        if cut - cuts[-1] >= min_items and len(ids) - cut >= min_items:
            cuts.append(cut)
    return [ids[a:b] for a, b in pairwise([*cuts, len(ids)])]


def _edges(count: int, size: int, min_size: int, drop_last: bool) -> list[int]:
    """Cut `count` items into nearly equal parts of at most `size` (and at least `min_size`, which comes first)."""
    if drop_last and count >= size:
        return list(range(0, count + 1, size))
    parts = max(1, min(-(-count // size), count // min_size))
    return [i * count // parts for i in range(parts + 1)]


def unsorted_batches(ids: Sequence[str], batch_size: int, drop_last: bool = False) -> Batches:
    """len // batch_size groups of nearly equal size in the given order, or of exactly batch_size with `drop_last`."""
    groups = max(len(ids) // batch_size, 1)
    if drop_last:
        return [list(ids[i * batch_size : (i + 1) * batch_size]) for i in range(groups)]
    return [list(ids[i * len(ids) // groups : (i + 1) * len(ids) // groups]) for i in range(groups)]


def folded_sizes(
    shapes: Sequence[Sequence[int]],
    fold_lengths: Sequence[int],
    batch_size: int,
    min_batch_size: int = 1,
    drop_last: bool = False,
) -> list[int]:
    """Batch sizes along ids in ascending order of length; `shapes[f][i]` is the length of id i in file f."""
    sizes: list[int] = []
    count, start = len(shapes[0]), 0
    while start < count:
        factor = max(int(lengths[start] / fold) for lengths, fold in zip(shapes, fold_lengths))
        size = max(min_batch_size, int(batch_size / (1 + factor)))
        if start + size > count and drop_last and sizes:
            break
        sizes.append(min(size, count - start))
        start += size
    return sizes


def bins_sizes(
    costs: Sequence[Sequence[float]], batch_bins: float, min_batch_size: int = 1, drop_last: bool = False,
    padding: bool = True,
) -> list[int]:  # fmt: skip
    """Batch sizes along ids in ascending order of length; `costs[f][i]` is the cost of id i in file f.

    A batch is closed by the item that takes it over `batch_bins`, which it keeps.
    """
    sizes: list[int] = []
    size, plain = 0, 0.0
    for item in zip(*costs):
        size += 1
        plain += sum(item)
        bins = size * sum(item) if padding else plain
        if bins > batch_bins and size >= min_batch_size:
            sizes.append(size)
            size, plain = 0, 0.0
    if size and not (drop_last and sizes):
        sizes.append(size)
    return sizes


def spread_small_last(sizes: list[int], min_batch_size: int) -> list[int]:
    """Give the items of a last batch below `min_batch_size` to the batches before it, from the last one on."""
    if len(sizes) < 2 or sizes[-1] >= min_batch_size:
        return sizes
    *kept, rest = sizes
    for i in range(rest):
        kept[-(i % len(kept)) - 1] += 1
    return kept


def _cut(ids: list[str], sizes: list[int], sort_in_batch: str) -> Batches:
    batches, start = [], 0
    for size in sizes:
        batch = ids[start : start + size]
        batches.append(batch if sort_in_batch == "ascending" else batch[::-1])
        start += size
    return batches


def _groups(ids: list[str], utt2category: Mapping[str, str] | str | Path | None) -> Batches:
    """Ids by category, in the order in which categories first appear; one group if there are no categories."""
    if utt2category is None:
        return [ids]
    table = utt2category if isinstance(utt2category, Mapping) else read_table(utt2category)
    missing = [uid for uid in ids if uid not in table]
    if missing:
        raise DataError(f"utt2category lacks {len(missing)} ids, e.g. {', '.join(missing[:5])}")
    groups: dict[str, list[str]] = {}
    for uid in ids:
        groups.setdefault(table[uid], []).append(uid)
    return list(groups.values())


def _element_costs(shapes: Shapes, ids: list[str], padding: bool) -> list[float]:
    dims = {shapes[uid][1:] for uid in ids}
    if padding and len(dims) > 1:
        raise DataError(f"batch_type numel: the dimensions behind the length differ: {sorted(dims)[:3]}")
    return [float(math.prod(shapes[uid])) for uid in ids]


def build_batches(
    batch_type: str,
    shapes: Sequence[Shapes | str | Path],
    batch_size: int = 20,
    batch_bins: float = 1_000_000,
    fold_lengths: Sequence[int] = (),
    sort_in_batch: str = "descending",
    sort_batch: str = "descending",
    min_batch_size: int = 1,
    drop_last: bool = False,
    utt2category: Mapping[str, str] | str | Path | None = None,
    padding: bool = True,
    num_buckets: int = 30,
    quadratic_length: float | None = None,
) -> BatchPlan:
    """The batch plan of a corpus.

    Args:
        batch_type: one of `BATCH_TYPES`.
        shapes: shape files (or their content). `unsorted` and `shuffled` need only the ids of the first; `sorted`
            orders by it.
        batch_size, batch_bins: of the global batch.
        fold_lengths: for `folded`, one per shape file.
        sort_in_batch, sort_batch: ascending or descending length inside a batch, and of the batches.
        min_batch_size: the world size, so that every rank gets an item of every batch.
        drop_last: leave out the last batch if it is not full.
        utt2category: file or mapping id -> category; no batch mixes two categories.
        padding: count padding in `length` and `numel`.
        num_buckets, quadratic_length: see `BucketBatches`.

    Raises:
        ConfigError: a wrong option.  DataError: shape files that do not fit together; fewer utterances than
        `min_batch_size`.
    """
    _check_options(batch_type, shapes, fold_lengths, sort_in_batch, sort_batch, batch_size, batch_bins)
    if batch_type in ("unsorted", "shuffled"):
        ids = list(shapes[0] if isinstance(shapes[0], dict) else IndexedTable(shapes[0]))
        _check_count(ids, min_batch_size)
        if batch_type == "shuffled":
            return ShuffledBatches(ids, max(batch_size, min_batch_size), drop_last)
        return FixedBatches(unsorted_batches(ids, max(batch_size, min_batch_size), drop_last))
    all_shapes = load_shapes(shapes)
    ids = list(all_shapes[0])
    _check_count(ids, min_batch_size)
    if batch_type == "sorted":
        ids.sort(key=lambda uid: all_shapes[0][uid][0], reverse=sort_in_batch == "descending")
        batches = unsorted_batches(ids, max(batch_size, min_batch_size), drop_last)
        return FixedBatches(batches if sort_batch == sort_in_batch else batches[::-1])
    groups = _groups(ids, utt2category)
    if batch_type == "bucket":
        return BucketBatches(
            all_shapes, batch_bins, num_buckets, quadratic_length, groups, min_batch_size, drop_last
        )  # fmt: skip

    def sizes_of(group: list[str]) -> list[int]:
        if batch_type == "folded":
            lengths = [[s[uid][0] for uid in group] for s in all_shapes]
            return folded_sizes(lengths, fold_lengths, batch_size, min_batch_size, drop_last)
        if batch_type == "length":
            costs = [[float(s[uid][0]) for uid in group] for s in all_shapes]
        else:
            costs = [_element_costs(s, group, padding) for s in all_shapes]
        return bins_sizes(costs, batch_bins, min_batch_size, drop_last, padding)

    return FixedBatches(_group_batches(groups, all_shapes[0], sizes_of, sort_in_batch, sort_batch, min_batch_size))


def _check_count(ids: list[str], min_batch_size: int) -> None:
    if len(ids) < min_batch_size:
        raise DataError(f"{len(ids)} utterances are too few for batches of {min_batch_size}")


def _group_batches(
    groups: Batches, shapes: Shapes, sizes_of: Callable[[list[str]], list[int]],
    sort_in_batch: str, sort_batch: str, min_batch_size: int,
) -> Batches:  # fmt: skip
    batches: Batches = []
    for group in groups:
        ascending = sorted(group, key=lambda uid: shapes[uid][0])
        sizes = spread_small_last(sizes_of(ascending), min_batch_size)
        batches += _cut(ascending, sizes, sort_in_batch)
    return batches if sort_batch == "ascending" else batches[::-1]


def _check_options(
    batch_type: str, shapes: Sequence[object], fold_lengths: Sequence[int],
    sort_in_batch: str, sort_batch: str, batch_size: int, batch_bins: float,
) -> None:  # fmt: skip
    if batch_type not in BATCH_TYPES:
        near = nearest_names(batch_type, list(BATCH_TYPES))
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"Unknown batch_type '{batch_type}'.{hint} Types: {', '.join(BATCH_TYPES)}.")
    if not shapes:
        raise ConfigError(f"batch_type {batch_type} needs a shape file (--train_shape_file)")
    if batch_type == "folded" and len(fold_lengths) != len(shapes):
        raise ConfigError(
            f"folded needs a fold_length for each of the {len(shapes)} shape files, not {len(fold_lengths)}"
        )
    for name, value in (("sort_in_batch", sort_in_batch), ("sort_batch", sort_batch)):
        if value not in _ORDERS:
            raise ConfigError(f"{name} must be ascending or descending, not '{value}'")
    if batch_size < 1 or batch_bins < 1:
        raise ConfigError("batch_size and batch_bins must be at least 1")

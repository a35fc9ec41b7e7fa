"""From the options of a run to its iterator factories: dataset, batches, collate function, this process's share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from funasr.datasets.chunk import ChunkIterFactory
from funasr.datasets.data_types import Triplet
from funasr.datasets.dataset import SpeechTextDataset
from funasr.datasets.iterator import MultipleIterFactory, SequenceIterFactory, share_iterations, split_paths
from funasr.datasets.lengths import Shapes, lengths_from_headers
from funasr.datasets.samplers import build_batches
from funasr.train.distributed import Distributed
from funasr.utils.errors import ConfigError

if TYPE_CHECKING:
    from funasr.tasks.abs_task import AbsTask

IterFactory = SequenceIterFactory | ChunkIterFactory | MultipleIterFactory
VALID_CACHE_SHARE = 0.05  # of the training cache, unless --valid_max_cache_size says otherwise


def parse_triplets(words: list[str], option: str) -> list[Triplet]:
    """`path,name,type` texts as triplets; ConfigError names the option of a malformed one."""
    triplets = []
    for word in words:
        parts = word.strip("()[] ").split(",")
        if len(parts) != 3 or not all(part.strip() for part in parts):
            raise ConfigError(f"{option}: '{word}' must read path,name,type, e.g. data/wav.scp,speech,sound")
        triplets.append((parts[0].strip(), parts[1].strip(), parts[2].strip()))
    if not triplets:
        raise ConfigError(f"{option} is needed: path,name,type, e.g. data/train/wav.scp,speech,sound")
    return triplets


@dataclass(frozen=True)
class _Data:
    """The files of one phase, or of one split of it, and how many batches of them make an epoch (None: all)."""

    triplets: Sequence[Triplet]
    shapes: Sequence[str]
    num_iters: int | None


def _data_of(task: type[AbsTask], args: argparse.Namespace, train: bool) -> _Data:
    phase = "train" if train else "valid"
    option = f"--{phase}_data_path_and_name_and_type"
    triplets = parse_triplets(getattr(args, option[2:]), option)
    task.check_task_requirements([name for _, name, _ in triplets], args.allow_variable_data_keys, train=True)
    return _Data(triplets, getattr(args, f"{phase}_shape_file"), args.num_iters_per_epoch if train else None)


def _splits(data: _Data) -> list[_Data]:
    """The parts of data whose paths are directories made by `funasr.bin.split_scps`."""
    paths = [path for path, _, _ in data.triplets] + list(data.shapes)
    parts = {path: [str(part) for part in split_paths(path)] for path in paths}
    counts = {path: len(found) for path, found in parts.items()}
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{path} has {count}" for path, count in counts.items())
        raise ConfigError(f"--multiple_iterator true needs directories with the same number of splits: {said}")
    return [
        _Data(
            [(parts[path][index], name, type_name) for path, name, type_name in data.triplets],
            [parts[path][index] for path in data.shapes],
            num_iters,
        )
        for index, num_iters in enumerate(share_iterations(data.num_iters, counts[paths[0]]))
    ]


def _build_dataset(task: type[AbsTask], args: argparse.Namespace, train: bool, data: _Data) -> SpeechTextDataset:
    cache = args.max_cache_size
    if not train:
        cache = int(cache * VALID_CACHE_SHARE) if args.valid_max_cache_size is None else args.valid_max_cache_size
    return SpeechTextDataset(
        data.triplets,
        preprocess=task.build_preprocess_fn(args, train),
        fs=task.sample_rate(args),
        float_dtype="float64" if args.train_dtype == "float64" else "float32",
        max_cache_size=cache,
        allow_pipes=args.allow_pipes,
        filter_input=args.filter_input,
        may_be_empty=task.may_be_empty,
    )


def build_iter_factory(
    task: type[AbsTask], args: argparse.Namespace, distributed: Distributed, train: bool
) -> IterFactory:
    """The iterator factory of one phase.  `batch_size` and `batch_bins` are per process; batches here are global."""
    data = _data_of(task, args, train)
    if train and args.multiple_iterator:
        if args.iterator_type == "chunk":
            raise ConfigError("--multiple_iterator true goes with --iterator_type sequence, not with chunk")
        build_funcs = [partial(_build_sequence, task, args, distributed, train, split) for split in _splits(data)]
        return MultipleIterFactory(build_funcs, seed=args.seed, shuffle=True)
    build = _build_chunks if train and args.iterator_type == "chunk" else _build_sequence
    return build(task, args, distributed, train, data)


def _build_sequence(
    task: type[AbsTask], args: argparse.Namespace, distributed: Distributed, train: bool, data: _Data
) -> SequenceIterFactory:
    dataset = _build_dataset(task, args, train, data)
    batch_type = _phase_value(args, "batch_type", train)
    world_size = distributed.world_size
    plan = build_batches(
        batch_type,
        list(data.shapes) or [_shapes_without_file(args, dataset, batch_type, train)],
        batch_size=_phase_value(args, "batch_size", train) * world_size,
        batch_bins=_phase_value(args, "batch_bins", train) * world_size,
        fold_lengths=args.fold_length,
        sort_in_batch=args.sort_in_batch,
        sort_batch=args.sort_batch,
        min_batch_size=max(world_size, args.min_batch_size),
        drop_last=args.drop_last_iter and train,
    )
    return SequenceIterFactory(
        dataset,
        plan,
        task.build_collate_fn(args, train),
        num_iters_per_epoch=data.num_iters,
        **_common_options(args, distributed, train),
    )


def _build_chunks(
    task: type[AbsTask], args: argparse.Namespace, distributed: Distributed, train: bool, data: _Data
) -> ChunkIterFactory:
    dataset = _build_dataset(task, args, train, data)
    return ChunkIterFactory(
        dataset,
        dataset.ids,
        _phase_value(args, "batch_size", train) * distributed.world_size,
        task.build_collate_fn(args, train),
        chunk_length=args.chunk_length,
        chunk_shift_ratio=args.chunk_shift_ratio,
        num_cache_chunks=args.num_cache_chunks,
        num_utts_per_epoch=data.num_iters,
        **_common_options(args, distributed, train),
    )


def _common_options(args: argparse.Namespace, distributed: Distributed, train: bool) -> dict[str, Any]:
    return {
        "seed": args.seed,
        "shuffle": train,
        "num_workers": args.num_workers,
        "rank": distributed.rank,
        "world_size": distributed.world_size,
    }


def _phase_value(args: argparse.Namespace, name: str, train: bool) -> Any:
    """A training option, or its `valid_` counterpart if that is given."""
    other = getattr(args, f"valid_{name}")
    return getattr(args, name) if train or other is None else other


def _shapes_without_file(args: argparse.Namespace, dataset: SpeechTextDataset, batch_type: str, train: bool) -> Shapes:
    """Ids for `unsorted` and `shuffled`; lengths from the audio headers for the others."""
    if batch_type in ("unsorted", "shuffled"):
        return dict.fromkeys(dataset.ids, (1,))
    path, _, type_name = dataset.triplets[0]
    if type_name != "sound":
        option = "--train_shape_file" if train else "--valid_shape_file"
        raise ConfigError(f"--batch_type {batch_type} needs {option} (written by --collect_stats true)")
    lengths = lengths_from_headers(path, workers=4, allow_pipes=args.allow_pipes)
    known = set(dataset.ids)
    return {uid: shape for uid, shape in lengths.items() if uid in known}

"""From the options of a run to its iterator factories: dataset, batches, collate function, this process's share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from funasr.datasets.chunk import ChunkIterFactory
from funasr.datasets.data_types import Triplet
from funasr.datasets.dataset import SpeechTextDataset
from funasr.datasets.iterator import SequenceIterFactory
from funasr.datasets.lengths import Shapes, lengths_from_headers
from funasr.datasets.samplers import build_batches
from funasr.train.distributed import Distributed
from funasr.utils.errors import ConfigError

if TYPE_CHECKING:
    from funasr.tasks.abs_task import AbsTask

IterFactory = SequenceIterFactory | ChunkIterFactory
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


def build_dataset(task: type[AbsTask], args: argparse.Namespace, train: bool, augment: bool) -> SpeechTextDataset:
    """The dataset of the training or the validation data.

    `augment` is False for validation and for statistics, which must not depend on chance.
    """
    phase = "train" if train else "valid"
    option = f"--{phase}_data_path_and_name_and_type"
    triplets = parse_triplets(getattr(args, option[2:]), option)
    task.check_task_requirements([name for _, name, _ in triplets], args.allow_variable_data_keys, train=True)
    cache = args.max_cache_size
    if not train:
        cache = int(cache * VALID_CACHE_SHARE) if args.valid_max_cache_size is None else args.valid_max_cache_size
    return SpeechTextDataset(
        triplets,
        preprocess=task.build_preprocess_fn(args, augment),
        fs=task.sample_rate(args),
        float_dtype="float64" if args.train_dtype == "float64" else "float32",
        max_cache_size=cache,
        allow_pipes=args.allow_pipes,
        filter_input=args.filter_input,
    )


def build_iter_factory(
    task: type[AbsTask], args: argparse.Namespace, distributed: Distributed, train: bool
) -> IterFactory:
    """The iterator factory of one phase.  `batch_size` and `batch_bins` are per process; batches here are global."""
    dataset = build_dataset(task, args, train, augment=train)
    collate_fn = task.build_collate_fn(args, train)
    world_size = distributed.world_size
    common: dict[str, Any] = {
        "seed": args.seed,
        "shuffle": train,
        "num_workers": args.num_workers,
        "rank": distributed.rank,
        "world_size": world_size,
    }
    batch_size = _phase_value(args, "batch_size", train) * world_size
    if args.iterator_type == "chunk" and train:
        return ChunkIterFactory(
            dataset,
            dataset.ids,
            batch_size,
            collate_fn,
            chunk_length=args.chunk_length,
            chunk_shift_ratio=args.chunk_shift_ratio,
            num_cache_chunks=args.num_cache_chunks,
            num_utts_per_epoch=args.num_iters_per_epoch,
            **common,
        )
    shapes = list(args.train_shape_file if train else args.valid_shape_file)
    batch_type = _phase_value(args, "batch_type", train)
    plan = build_batches(
        batch_type,
        shapes or [_shapes_without_file(args, dataset, batch_type, train)],
        batch_size=batch_size,
        batch_bins=_phase_value(args, "batch_bins", train) * world_size,
        fold_lengths=args.fold_length,
        sort_in_batch=args.sort_in_batch,
        sort_batch=args.sort_batch,
        min_batch_size=max(world_size, args.min_batch_size),
        drop_last=args.drop_last_iter and train,
    )
    num_iters = args.num_iters_per_epoch if train else None
    return SequenceIterFactory(dataset, plan, collate_fn, num_iters_per_epoch=num_iters, **common)


def _phase_value(args: argparse.Namespace, name: str, train: bool) -> Any:
    """A training option, or its `valid_` counterpart if that is given."""
    other = getattr(args, f"valid_{name}")
    return getattr(args, name) if train or other is None else other


def _shapes_without_file(args: argparse.Namespace, dataset: SpeechTextDataset, batch_type: str, train: bool) -> Shapes:
    """Ids for `unsorted`; lengths from the audio headers for the others."""
    if batch_type == "unsorted":
        return dict.fromkeys(dataset.ids, (1,))
    path, _, type_name = dataset.triplets[0]
    if type_name != "sound":
        option = "--train_shape_file" if train else "--valid_shape_file"
        raise ConfigError(f"--batch_type {batch_type} needs {option} (written by --collect_stats true)")
    lengths = lengths_from_headers(path, workers=4, allow_pipes=args.allow_pipes)
    known = set(dataset.ids)
    return {uid: shape for uid, shape in lengths.items() if uid in known}

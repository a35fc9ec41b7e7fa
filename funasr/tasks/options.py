"""The options that every task has, besides those of the trainer: run, data, batches, optimizer, initial weights."""

from __future__ import annotations

import argparse
from typing import Any

from funasr.tasks.parser import Repeat
from funasr.utils.nested_dict import NestedDictAction
from funasr.utils.option_types import (
    float_or_none,
    humanfriendly_size,
    int_or_none,
    int_range,
    str2bool,
    str_or_none,
)

BATCH_TYPES = ("unsorted", "sorted", "folded", "length", "numel", "bucket", "shuffled")
INIT_SCHEMES = ("chainer", "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", None)
ITERATOR_TYPES = ("sequence", "chunk")


def add_general_arguments(parser: argparse.ArgumentParser, num_optimizers: int) -> None:
    """Add every option that does not depend on the task."""
    _add_common(parser.add_argument_group("Run"))
    _add_weights(parser.add_argument_group("Initial weights"))
    _add_batches(parser.add_argument_group("Batches"))
    _add_data(parser.add_argument_group("Data"))
    _add_optimizers(parser.add_argument_group("Optimizer"), num_optimizers)


def _add_common(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--config", action="append", help="YAML file with option values; later files win")
    group.add_argument("--user_modules", action=Repeat, default=[], help="Python file that registers classes of yours")
    group.add_argument("--print_config", action="store_true", help="print the resolved options as YAML and exit")
    group.add_argument(
        "--log_level",
        type=str.upper,
        default="INFO",
        choices=("ERROR", "WARNING", "INFO", "DEBUG", "NOTSET"),
        help="log level of the first process",
    )
    group.add_argument("--output_dir", type=str_or_none, default=None, help="experiment directory")
    group.add_argument("--dry_run", type=str2bool, default=False, help="build everything, write config.yaml, stop")
    group.add_argument("--ngpu", type=int_range(0), default=0, help="GPUs on this machine, one process each; 0: CPU")
    group.add_argument("--nproc", type=int_range(1), default=1, help="processes on this machine when --ngpu is 0")
    group.add_argument(
        "--dist_backend", type=str_or_none, default=None, choices=("nccl", "gloo", None), help="none: auto"
    )
    group.add_argument("--unused_parameters", type=str2bool, default=False, help="some parameters sit out some batches")
    group.add_argument("--seed", type=int, default=0, help="base of all random seeds")
    group.add_argument("--num_threads", type=int_or_none, default=None, help="CPU threads per process")
    group.add_argument("--cudnn_benchmark", type=str2bool, default=False, help="let cuDNN try algorithms")
    group.add_argument("--cudnn_deterministic", type=str2bool, default=True, help="cuDNN repeats bit for bit")
    group.add_argument("--use_tf32", type=str2bool, default=False, help="TF32 matrix products on GPUs")
    group.add_argument(
        "--collect_stats", type=str2bool, default=False, help="write shapes and statistics, do not train"
    )
    group.add_argument(
        "--write_collected_feats", type=str2bool, default=False, help="with --collect_stats: also save the features"
    )


def _add_weights(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--init_param", action=Repeat, default=[], help="FILE[:SRC[:DST[:EXCLUDE]]], in this order")
    group.add_argument(
        "--ignore_init_mismatch", type=str2bool, default=False, help="skip weights that do not fit, with a warning"
    )
    group.add_argument("--freeze_param", action=Repeat, default=[], help="prefix of parameters that are not trained")


def _add_batches(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--iterator_type", default="sequence", choices=ITERATOR_TYPES, help="whole samples or chunks")
    group.add_argument(
        "--multiple_iterator",
        type=str2bool,
        default=False,
        help="training paths and shape files are directories of funasr.bin.split_scps, read one split after the other",
    )
    group.add_argument("--num_iters_per_epoch", type=int_or_none, default=None, help="batches per epoch; default: all")
    group.add_argument(
        "--batch_type",
        default="folded",
        choices=BATCH_TYPES,
        help="how batches are made; all but unsorted and shuffled need shape files",
    )
    group.add_argument("--valid_batch_type", type=str_or_none, default=None, choices=(*BATCH_TYPES, None))
    group.add_argument("--batch_size", type=int_range(1), default=20, help="samples in a batch, per process")
    group.add_argument("--valid_batch_size", type=int_or_none, default=None)
    group.add_argument("--batch_bins", type=int_range(1), default=1000000, help="bins in a batch, per process")
    group.add_argument("--valid_batch_bins", type=int_or_none, default=None)
    group.add_argument("--train_shape_file", action=Repeat, default=[], help="file of `ID length,dim` lines")
    group.add_argument("--valid_shape_file", action=Repeat, default=[])
    group.add_argument("--fold_length", type=int, action=Repeat, default=[], help="for folded: one per shape file")
    group.add_argument("--sort_in_batch", default="descending", choices=("descending", "ascending"))
    group.add_argument("--sort_batch", default="descending", choices=("descending", "ascending"))
    group.add_argument("--min_batch_size", type=int_range(1), default=1)
    group.add_argument("--drop_last_iter", type=str2bool, default=False, help="leave out an incomplete last batch")
    group.add_argument("--chunk_length", default="500", help="for chunk: 500, or 300,400, or 300-400")
    group.add_argument("--chunk_shift_ratio", type=float, default=0.5)
    group.add_argument("--num_cache_chunks", type=int, default=1024)


def _add_data(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--train_data_path_and_name_and_type",
        action=Repeat,
        default=[],
        help="path,name,type, e.g. data/train/wav.scp,speech,sound",
    )
    group.add_argument("--valid_data_path_and_name_and_type", action=Repeat, default=[])
    group.add_argument("--filter_input", type=str2bool, default=False, help="keep only ids that all files have")
    group.add_argument("--allow_variable_data_keys", type=str2bool, default=False, help="allow names the task ignores")
    group.add_argument("--allow_pipes", type=str2bool, default=False, help="run commands that stand in wav.scp")
    group.add_argument("--num_workers", type=int_range(0), default=1, help="loader processes per training process")
    group.add_argument("--max_cache_size", type=humanfriendly_size, default=0, help="memory for read samples: 500MB")
    group.add_argument("--valid_max_cache_size", type=humanfriendly_size, default=None)
    group.add_argument("--train_dtype", default="float32", choices=("float32", "float64"), help="type of the weights")


def _add_optimizers(group: argparse._ArgumentGroup, num_optimizers: int) -> None:
    for number in range(1, num_optimizers + 1):
        suffix = "" if number == 1 else str(number)
        group.add_argument(f"--optim{suffix}", type=str.lower, default="adam", help="optimizer")
        group.add_argument(f"--optim{suffix}_conf", action=NestedDictAction, default={}, help="its options")
        group.add_argument(f"--scheduler{suffix}", type=str_or_none, default=None, help="learning-rate schedule")
        group.add_argument(f"--scheduler{suffix}_conf", action=NestedDictAction, default={}, help="its options")
    group.add_argument(
        "--exclude_weight_decay", type=str2bool, default=False, help="no weight decay for biases and norms"
    )


def add_augmentation_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what a task with waveforms may do to them in training; `augmentation_options` reads it."""
    audio = parser.add_argument_group("Augmentation (training only)")
    audio.add_argument("--speed_perturb", type=float, action=Repeat, default=[], help="a factor, e.g. 0.9")
    audio.add_argument("--speech_volume_normalize", type=float_or_none, default=None, help="peak, e.g. 0.9")
    audio.add_argument("--rir_scp", type=str_or_none, default=None, help="list of impulse responses")
    audio.add_argument("--rir_apply_prob", type=float, default=1.0)
    audio.add_argument("--noise_scp", type=str_or_none, default=None, help="list of noises")
    audio.add_argument("--noise_apply_prob", type=float, default=1.0)
    audio.add_argument("--noise_db_range", default="13_15", help="signal-to-noise ratio in dB: 10 or 10_20")


def augmentation_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_augmentation_arguments` as `CommonPreprocessor` takes them."""
    names = "speed_perturb speech_volume_normalize rir_scp rir_apply_prob noise_scp noise_apply_prob noise_db_range"
    return {name: getattr(args, name) for name in names.split()}

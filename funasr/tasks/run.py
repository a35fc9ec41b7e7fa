"""The steps of a training run, in order: processes, model, optimizers, configuration file, data, trainer, result."""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import platform
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from funasr.datasets.iterator import build_streaming_iterator
from funasr.register import Table
from funasr.tasks.iterators import build_iter_factory, parse_triplets
from funasr.train.checkpoint import link_file
from funasr.train.collect_stats import collect_stats
from funasr.train.distributed import (
    Distributed,
    DistributedOptions,
    launch_workers,
    process_group,
    workers_to_launch,
)
from funasr.train.init_param import freeze_parameters, load_init_params
from funasr.train.optimizers import build_optimizer
from funasr.train.options import options_from_args
from funasr.train.run_lock import run_lock
from funasr.train.schedulers import build_scheduler, with_run_length
from funasr.train.trainer import Trainer
from funasr.utils.config import dump_yaml
from funasr.utils.errors import ConfigError
from funasr.utils.io import atomic_path, write_text
from funasr.utils.logging import setup_logging
from funasr.utils.version import __version__

if TYPE_CHECKING:
    from funasr.tasks.abs_task import AbsTask

logger = logging.getLogger(__name__)

CODE_FILE = "model.py"  # where AutoModel(trust_remote_code=True) looks


def launch_or_run(task: type[AbsTask], args: argparse.Namespace, words: Sequence[str]) -> None:
    """Start the processes that `--ngpu` or `--nproc` ask for, or train in this one."""
    options = DistributedOptions.from_args(args)
    count = workers_to_launch(options)
    if count:
        raise SystemExit(launch_workers(count, program_arguments(task, words)))
    with process_group(options) as distributed:
        writes = distributed.is_main and not args.collect_stats
        with run_lock(args.output_dir) if writes else nullcontext():
            run(task, args, distributed)


def program_arguments(task: type[AbsTask], words: Sequence[str]) -> list[str]:
    """Arguments of the Python interpreter that start `task` with the options `words`, wherever it is defined.

    A program that was started with these options is started again.  If the options came from elsewhere
    (`KWSTask.main(cmd=[...])`), the task is imported from its module.  Raises ConfigError if it has none.
    """
    if list(words) == sys.argv[1:]:
        return sys.orig_argv[1:]
    if task.__module__ == "__main__" or "." in task.__qualname__:
        raise ConfigError(
            f"several processes cannot find {task.__qualname__}: call it as a program with these options, or put it in "
            "a module of its own"
        )
    code = f"import sys; sys.path[:] = {sys.path!r}; from {task.__module__} import {task.__name__} as task; task.main()"
    return ["-c", code, *words]


def run(task: type[AbsTask], args: argparse.Namespace, distributed: Distributed) -> None:
    """Train (or write statistics, or stop after building) in this process."""
    output_dir = Path(args.output_dir)
    log_file = None if args.collect_stats else output_dir / "log" / "train.log"
    setup_logging(args.log_level, distributed.rank, distributed.world_size, log_file)
    _set_up_torch(args)
    model = task.build_model(args).to(dtype=getattr(torch, args.train_dtype), device=distributed.device)
    frontend = task.frontend(args)
    if frontend is not None:
        frontend = frontend.to(distributed.device)
    if args.collect_stats:
        _collect_stats(task, args, model, frontend, output_dir)
        return
    load_init_params(model, args.init_param, args.ignore_init_mismatch)
    freeze_parameters(model, args.freeze_param)
    optimizer = build_optimizer(model, args.optim, args.optim_conf, args.exclude_weight_decay)
    logger.info("%s", _summary(model))
    if distributed.is_main:
        write_model_directory(task, args, output_dir)
    if args.dry_run:
        logger.info("dry run: %s is written, nothing is trained", output_dir / "config.yaml")
        return
    train_iter_factory = build_iter_factory(task, args, distributed, train=True)
    scheduler_conf = with_run_length(args.scheduler, args.scheduler_conf, _run_length(args, train_iter_factory))
    trainer = Trainer(
        model,
        frontend,
        [optimizer],
        [build_scheduler(optimizer, args.scheduler, scheduler_conf)],
        train_iter_factory=train_iter_factory,
        valid_iter_factory=build_iter_factory(task, args, distributed, train=False),
        options=options_from_args(args),
        output_dir=output_dir,
        distributed=distributed,
        seed=args.seed,
        config_hash=_config_hash(task, args),
    )
    result = trainer.run()
    if distributed.is_main and result.final_model is not None:
        link_file(result.final_model, output_dir / "model.pt")
        logger.info("%s is ready: AutoModel(model=%r)", output_dir / "model.pt", str(output_dir))


def _run_length(args: argparse.Namespace, train_iter_factory: Any) -> int | None:
    """Updates that the whole run will take; None if that is not known before (chunks)."""
    if args.max_update is not None:
        return int(args.max_update)
    if not hasattr(train_iter_factory, "__len__"):
        return None
    return int(args.max_epoch) * -(-len(train_iter_factory) // args.accum_grad)


def _collect_stats(
    task: type[AbsTask], args: argparse.Namespace, model: Any, frontend: Any | None, output_dir: Path
) -> None:
    """Shapes and sums of both data sets; the first shape file of a set chooses its ids (parallel jobs)."""
    sets = {}
    for phase in ("train", "valid"):
        option = f"--{phase}_data_path_and_name_and_type"
        triplets = parse_triplets(getattr(args, option[2:]), option)
        task.check_task_requirements([name for _, name, _ in triplets], args.allow_variable_data_keys, train=True)
        sets[phase] = build_streaming_iterator(
            triplets,
            task.build_collate_fn(args, train=False),
            task.build_preprocess_fn(args, train=False),
            key_file=next(iter(getattr(args, f"{phase}_shape_file")), None),
            batch_size=args.batch_size,
            fs=task.sample_rate(args),
            num_workers=args.num_workers,
            allow_pipes=args.allow_pipes,
            may_be_empty=task.may_be_empty,
        )
    collect_stats(model, frontend, sets, output_dir, args.write_collected_feats)
    for phase, batches in sets.items():
        logger.info("%s: %d batches, %d utterances skipped", phase, len(batches), len(batches.skipped))


def _config_hash(task: type[AbsTask], args: argparse.Namespace) -> str:
    """Identifies what a resumed run must share with the run it continues: all options but those of the run itself."""
    config = {k: v for k, v in task.resolved_config(args).items() if k not in ("resume", "log_level", "num_workers")}
    return hashlib.sha256(dump_yaml(config).encode()).hexdigest()[:16]


def _set_up_torch(args: argparse.Namespace) -> None:
    random.seed(args.seed)
    np.random.seed(args.seed)
    torch.manual_seed(args.seed)
    if args.num_threads is not None:
        torch.set_num_threads(args.num_threads)
    torch.backends.cudnn.benchmark = args.cudnn_benchmark
    torch.backends.cudnn.deterministic = args.cudnn_deterministic
    torch.backends.cuda.matmul.allow_tf32 = args.use_tf32
    torch.backends.cudnn.allow_tf32 = args.use_tf32


def _summary(model: torch.nn.Module) -> str:
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return f"{type(model).__name__}: {total:,} parameters, {trained:,} of them trained; torch {torch.__version__}"


def write_model_directory(task: type[AbsTask], args: argparse.Namespace, output_dir: Path) -> None:
    """Write all of a model directory but the weights: config.yaml, configuration.json and the files these name."""
    config = {**task.resolved_config(args), "version": __version__, "environment": _environment()}
    write_text(output_dir / "config.yaml", dump_yaml(config))
    metas: dict[str, Any] = {"init_param": "model.pt", "config": "config.yaml"}
    for option, source in task.model_files(args).items():
        group, _, key = option.partition(".")
        name = "am.mvn" if key == "cmvn_file" else source.name
        if not source.is_file():
            raise ConfigError(f"{option}: {source} does not exist")
        if source.resolve() != (output_dir / name).resolve():
            with atomic_path(output_dir / name) as temporary:
                shutil.copyfile(source, temporary)
        metas.setdefault(group, {})[key] = name
    code = own_code(task, args)
    if code is not None:
        write_text(output_dir / CODE_FILE, code.read_text(encoding="utf-8"))
        metas["code"] = CODE_FILE
    content = {"framework": "pytorch", "model": {"type": "funasr"}, "file_path_metas": metas}
    write_text(output_dir / "configuration.json", json.dumps(content, indent=2) + "\n")


def own_code(task: type[AbsTask], args: argparse.Namespace) -> Path | None:
    """The user's file that registers components of this configuration; AutoModel runs a copy of it if trusted.

    None if all are the package's, or an installed package's, or if they come from several files.
    """
    files = set()
    for choices in task.class_choices_list:
        module = sys.modules[getattr(choices.get_class(getattr(args, choices.name)), "__module__", "funasr")]
        if isinstance(choices.classes, Table) and "." not in module.__name__ and module.__name__ != "funasr":
            files.add(Path(module.__file__ or ""))
    if len(files) > 1:
        names = ", ".join(sorted(map(str, files)))
        logger.warning("components come from %s: AutoModel needs one file (remote_code=) that imports all", names)
    return files.pop() if len(files) == 1 else None


def _environment() -> dict[str, str]:
    """What a reader of config.yaml needs to repeat the run."""
    try:
        root = Path(__file__).parent
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=root)
        commit = done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = "unknown"
    return {
        "command": " ".join(sys.orig_argv),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "commit": commit,
    }

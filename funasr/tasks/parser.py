"""The command line of a task: options, YAML files under them, and errors that name the nearest valid option."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from funasr.register import nearest_names, tables
from funasr.utils.config import deep_merge, read_yaml
from funasr.utils.errors import ConfigError
from funasr.utils.nested_dict import NestedDictAction
from funasr.utils.option_types import str_or_none

logger = logging.getLogger(__name__)

# Options of older releases: on the command line an error, in an old config.yaml a warning.
DROPPED = {
    "pretrain_path": "use --init_param FILE",
    "sharded_ddp": "start with torchrun or --ngpu N; sharding is not offered",
    "simple_ddp": "this is the only way now; leave it out",
    "gpu_id": "set CUDA_VISIBLE_DEVICES, or use --ngpu N",
    "num_worker_count": "start torchrun on each machine",
    "multiprocessing_distributed": "--ngpu N starts the processes",
    "use_pai": "read corpora from a mounted path",
    "oss_bucket": "read corpora from a mounted path",
    "batch_interval": "use --save_interval_steps N",
    "dist_launcher": "torchrun and SLURM are recognised from the environment",
    "dist_init_method": "set MASTER_ADDR and MASTER_PORT, as torchrun does",
    "dist_world_size": "use --ngpu N, --nproc N or torchrun",
    "dist_rank": "use --ngpu N, --nproc N or torchrun",
    "local_rank": "use --ngpu N, --nproc N or torchrun",
    "distributed": "found out from the environment; leave it out",
    "version": "written by a run; leave it out",
}
RECORDED = ("version", "environment")  # keys that a run adds to config.yaml and reads back without a word


class Repeat(argparse._AppendAction):
    """A repeatable option whose first use on the command line replaces what the YAML file or the default says."""

    def __call__(
        self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: str | None = None
    ) -> None:
        seen = namespace.__dict__.setdefault("_repeated", set())
        if self.dest not in seen:
            seen.add(self.dest)
            setattr(namespace, self.dest, [])
        super().__call__(parser, namespace, values, option_string)


class TaskParser(argparse.ArgumentParser):
    """ArgumentParser with `--config FILE` (repeatable, left to right) and `--user_modules FILE`.

    Order, weakest to strongest: defaults, YAML files (each may name another under `base:`), command line.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            allow_abbrev=False,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
            conflict_handler="error",
            **kwargs,
        )

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse; ConfigError for what is unknown or malformed in a YAML file, exit status 2 for the command line."""
        words = list(sys.argv[1:] if args is None else args)
        early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        early.add_argument("--config", action="append", default=[])
        early.add_argument("--user_modules", action="append", default=[])
        first, _ = early.parse_known_args(words)
        values: dict[str, Any] = {}
        for file in first.config:
            values = deep_merge(values, self._read(Path(file)))
        for file in first.user_modules or values.get("user_modules") or []:
            tables.load_file(file)
        self.set_defaults(**values)
        parsed, unknown = self.parse_known_args(words, namespace)
        parsed.__dict__.pop("_repeated", None)
        if unknown:
            self._refuse(unknown[0])
        return parsed

    def _refuse(self, word: str) -> NoReturn:
        name = word.lstrip("-").partition("=")[0]
        if name in DROPPED:
            self.error(f"--{name} is no longer an option: {DROPPED[name]}")
        near = nearest_names(name, [action.dest for action in self._actions])
        hint = f" (did you mean {' or '.join('--' + n for n in near)}?)" if near else ""
        self.error(f"unrecognized arguments: {word}{hint}")

    def _read(self, path: Path) -> dict[str, Any]:
        """The options in a YAML file, each checked and converted like the same option on the command line."""
        content = read_yaml(path)
        base = content.pop("base", None)
        under = self._read(path.parent / base) if base else {}
        actions = {action.dest: action for action in self._actions}
        values: dict[str, Any] = {}
        for key, value in content.items():
            if key == "config" or key in RECORDED:
                continue
            if key in DROPPED:
                logger.warning("%s: '%s' is no longer an option (%s); left out", path, key, DROPPED[key])
            elif key not in actions:
                near = nearest_names(key, list(actions))
                hint = f" Did you mean {' or '.join(near)}?" if near else ""
                raise ConfigError(f"unrecognized arguments: {key} (from {path}).{hint}")
            else:
                values[key] = self._convert(actions[key], value, path)
        return deep_merge(under, values)

    def _convert(self, action: argparse.Action, value: Any, path: Path) -> Any:
        """A YAML value as the option's own type would have it."""
        if value is None:
            return None
        where = f"{path}: {action.dest}"
        if isinstance(action, NestedDictAction):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where} must be a mapping, not {value!r}")
            return dict(value)
        if isinstance(action, (argparse._AppendAction,)) or action.nargs in ("*", "+") or isinstance(action.nargs, int):
            if not isinstance(value, (list, tuple)):
                raise ConfigError(f"{where} must be a list, not {value!r}")
            return [self._scalar(action, item, where) for item in value]
        if isinstance(action, argparse._StoreTrueAction):
            return bool(value)
        return self._scalar(action, value, where)

    def _scalar(self, action: argparse.Action, value: Any, where: str) -> Any:
        if isinstance(value, (list, tuple)):  # a triplet, or a list (of tokens) that is else read from a named file
            if action.type in (None, str_or_none) or not all(isinstance(item, str) for item in value):
                return list(value)
            return self._scalar(action, ",".join(value), where)
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if callable(action.type):
            try:
                value = action.type(text)
            except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
                raise ConfigError(f"{where}: {value!r} is not valid: {error}") from None
        if action.choices is not None and value not in action.choices:
            raise ConfigError(f"{where}: {value!r} is not one of {', '.join(map(str, action.choices))}")
        return value

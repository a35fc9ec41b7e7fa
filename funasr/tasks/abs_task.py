"""`AbsTask`: what every task shares, said once: the command line, the configuration file and the steps of a run.

A task is a class that is never instantiated.  It says which arguments, data, preprocessor, collate function and model
it has; `main` turns a command line into a trained model directory.
"""

from __future__ import annotations

import argparse
import logging
import sys
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, TextIO

from funasr.models.build import SET_BY_BUILDER, build_frontend
from funasr.register import RegistryError
from funasr.tasks.options import add_general_arguments
from funasr.tasks.parser import TaskParser
from funasr.train.class_choices import ClassChoices
from funasr.train.optimizers import DEFAULT_LR, optimizer_class
from funasr.train.options import add_trainer_arguments
from funasr.train.schedulers import scheduler_class
from funasr.utils.config import check_keywords, constructor_defaults, dump_yaml
from funasr.utils.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

HIDDEN = ("required", "print_config", "config", "ngpu", "nproc", "help")  # not part of a configuration


class AbsTask(ABC):
    """Base of all tasks; subclass it, never make an object of it."""

    num_optimizers: int = 1
    class_choices_list: Sequence[ClassChoices] = ()
    may_be_empty: Sequence[str] = ()
    """Data names whose values may be empty, like a text with none of the words looked for; others are damaged then."""

    _last_frontend: ClassVar[tuple[Any, Any, Any]] = (None, None, None)  # task, weak reference to its options, result

    def __init__(self) -> None:
        raise RuntimeError(f"{type(self).__name__} is a bundle of class methods and has no objects")

    # What a task says itself.

    @classmethod
    @abstractmethod
    def add_task_arguments(cls, parser: argparse.ArgumentParser) -> None:
        """Add the task's own options; the choice groups of `class_choices_list` are added by `get_parser`."""

    @classmethod
    @abstractmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Callable[..., Any] | None:
        """`(utt_id, dict) -> dict` after which every value is a numeric array, or None."""

    @classmethod
    @abstractmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Callable[..., Any]:
        """`list of (utt_id, dict) -> (list of ids, dict of padded tensors and <name>_lengths)`."""

    @classmethod
    @abstractmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Names that the data triplets must supply."""

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Names that they may supply."""
        return ()

    @classmethod
    @abstractmethod
    def build_model(cls, args: argparse.Namespace) -> Any:
        """The model.  May write resolved values (a token list read from its file) back into `args`."""

    @classmethod
    def build_frontend(cls, args: argparse.Namespace) -> Any | None:
        """The module that turns `speech` into features before the model; None in a task that has no `--frontend`."""
        return build_frontend(vars(args)) if getattr(args, "frontend", None) else None

    @classmethod
    def sample_rate(cls, args: argparse.Namespace) -> int | None:
        """Rate in Hz that sound is read at: that of the front end; None without one."""
        frontend = cls.frontend(args)
        return None if frontend is None else int(frontend.fs)

    @classmethod
    def model_files(cls, args: argparse.Namespace) -> dict[str, Path]:
        """Files of the model directory besides weights and config: option path in configuration.json -> source."""
        return {}

    @classmethod
    def frontend(cls, args: argparse.Namespace) -> Any:
        """What `build_frontend` makes of `args`; made once as long as a run keeps to the same object (or None)."""
        task, options, frontend = AbsTask._last_frontend
        if task is not cls or options() is not args:
            frontend = cls.build_frontend(args)
            AbsTask._last_frontend = (cls, weakref.ref(args), frontend)
        return frontend

    # The command line.

    @classmethod
    def get_parser(cls) -> TaskParser:
        """The parser with general, trainer and task options."""
        prog = f"funasr.bin.{cls.name()}_train" if cls.__module__.startswith("funasr.") else None
        parser = TaskParser(prog=prog, description=cls.__doc__)
        parser.set_defaults(required=["output_dir"])
        add_general_arguments(parser, cls.num_optimizers)
        add_trainer_arguments(parser.add_argument_group("Trainer"))
        cls.add_task_arguments(parser)
        group: Any = parser.add_argument_group("Components")
        for choices in cls.class_choices_list:
            choices.add_arguments(group)
        return parser

    @classmethod
    def name(cls) -> str:
        """Short name of the task: "asr" for ASRTask."""
        return cls.__name__.removesuffix("Task").lower()

    @classmethod
    def check_required_command_args(cls, parser: TaskParser, args: argparse.Namespace) -> None:
        """Exit with status 2 and the list of what is missing."""
        missing = [f"--{name}" for name in args.required if getattr(args, name) in (None, [], "")]
        if missing:
            parser.print_usage(sys.stderr)
            parser.exit(2, f"the following arguments are required: {', '.join(missing)}\n")

    @classmethod
    def resolve_choices(cls, args: argparse.Namespace) -> None:
        """Replace option values by registered names; check every `_conf` against its class.

        Raises ConfigError or RegistryError naming the option, the class and the nearest valid name.
        """
        for choices in cls.class_choices_list:
            name = choices.normalise(getattr(args, choices.name))
            setattr(args, choices.name, name)
            conf = getattr(args, f"{choices.name}_conf") or {}
            component = choices.get_class(name)
            if component is not None:
                check_keywords(component, conf, f"--{choices.name}_conf")

    @classmethod
    def resolved_config(cls, args: argparse.Namespace) -> dict[str, Any]:
        """All options with the defaults of the chosen classes filled in; what `config.yaml` holds."""
        config = {key: value for key, value in vars(args).items() if key not in HIDDEN}
        components: dict[str, Any] = {
            choices.name: choices.get_class(config[choices.name]) for choices in cls.class_choices_list
        }
        for number in range(1, cls.num_optimizers + 1):
            suffix = "" if number == 1 else str(number)
            optim, scheduler = config[f"optim{suffix}"], config[f"scheduler{suffix}"]
            components[f"optim{suffix}"] = optimizer_class(optim)
            components[f"scheduler{suffix}"] = scheduler_class(scheduler)[0] if scheduler else None
            if optim in DEFAULT_LR:
                config[f"optim{suffix}_conf"] = {"lr": DEFAULT_LR[optim], **config[f"optim{suffix}_conf"]}
        for name, component in components.items():
            if component is not None:
                defaults = {
                    key: value
                    for key, value in constructor_defaults(component).items()
                    if _representable(value) and not (name == "model" and key in SET_BY_BUILDER)
                }
                config[f"{name}_conf"] = {**defaults, **(config.get(f"{name}_conf") or {})}
        return config

    @classmethod
    def print_config(cls, args: argparse.Namespace, file: TextIO | None = None) -> None:
        """Write the resolved options as YAML; fed back with --config they give the same run."""
        (file or sys.stdout).write(dump_yaml(cls.resolved_config(args)))

    @classmethod
    def check_task_requirements(
        cls, names: Sequence[str], allow_variable_data_keys: bool, train: bool, inference: bool = False
    ) -> None:
        """Raise ConfigError if the data lack a required name or have one the task does not know."""
        required = cls.required_data_names(train, inference)
        known = (*required, *cls.optional_data_names(train, inference))
        said = f"{cls.__name__} needs {', '.join(required)}; the data give {', '.join(names) or 'nothing'}"
        for name in required:
            if name not in names:
                raise ConfigError(f"data name '{name}' is missing: {said}")
        for name in names:
            if name not in known and not allow_variable_data_keys:
                raise ConfigError(f"data name '{name}' is unknown: {said} (--allow_variable_data_keys true accepts it)")

    # A run.

    @classmethod
    def main(cls, args: argparse.Namespace | None = None, cmd: Sequence[str] | None = None) -> None:
        """Train.  Options come from `cmd` (default: the command line), or ready-made in `args`.

        A wrong option or corpus file ends the process with status 2 and one line that says what to do.
        """
        try:
            cls._main(args, cmd)
        except (ConfigError, DataError, RegistryError) as error:
            sys.stderr.write(f"{cls.name()}_train: error: {error}\n")
            raise SystemExit(2) from None

    @classmethod
    def _main(cls, args: argparse.Namespace | None, cmd: Sequence[str] | None) -> None:
        parser = cls.get_parser()
        words = list(sys.argv[1:] if cmd is None else cmd)
        if args is None:
            args = parser.parse_args(words)
        cls.resolve_choices(args)
        if args.print_config:
            cls.print_config(args)
            return
        cls.check_required_command_args(parser, args)
        from funasr.tasks.run import launch_or_run  # torch is needed from here on

        launch_or_run(cls, args, words)


def _representable(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_representable(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _representable(item) for key, item in value.items())
    return value is None or isinstance(value, (bool, int, float, str))

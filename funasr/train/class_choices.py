"""`ClassChoices`: one table of the registry seen as two command-line options, `--NAME` and `--NAME_conf`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from funasr.register import RegistryError, Table, nearest_names
from funasr.utils.nested_dict import NestedDictAction
from funasr.utils.option_types import NONE_WORDS, str_or_none


class ClassChoices:
    """A choice group of a task, e.g. `ClassChoices("encoder", tables.encoder_classes, default="conformer")`.

    `classes` is a table of the registry, or a mapping name -> class.  The group is optional (accepts none) if
    `optional`, or if `default` is None.  Names are case-insensitive.
    """

    def __init__(
        self,
        name: str,
        classes: Table | Mapping[str, type],
        type_check: type | None = None,
        default: str | None = None,
        optional: bool = False,
    ) -> None:
        if not isinstance(classes, Table):
            classes = {key.lower(): value for key, value in classes.items()}
            reserved = [key for key in classes if key in NONE_WORDS]
            if reserved:
                raise ValueError(f"choice '{reserved[0]}' of --{name} is a reserved word")
        self.name = name
        self.classes = classes
        self.type_check = type_check
        self.default = default
        self.optional = optional or default is None

    def choices(self) -> tuple[str | None, ...]:
        """All option values, lower case, plus None when the group is optional."""
        if isinstance(self.classes, Table):
            names: list[str] = sorted({name.lower() for entry in self.classes.entries() for name in entry.names})
        else:
            names = list(self.classes)
        return (*names, None) if self.optional else tuple(names)

    def normalise(self, name: str | None) -> str | None:
        """Canonical form of an option value: the registered key, or None.  Raises RegistryError if unknown."""
        if name is None or str(name).lower() in NONE_WORDS:
            if self.optional:
                return None
            raise RegistryError(
                f"--{self.name} cannot be none; choose one of {', '.join(filter(None, self.choices()))}"
            )
        if isinstance(self.classes, Table):
            return self.classes.entry(name).key
        if str(name).lower() not in self.classes:
            near = nearest_names(str(name), list(self.classes))
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise RegistryError(f"Unknown --{self.name} '{name}'.{hint} Choices: {', '.join(self.classes)}.")
        return str(name).lower()

    def get_class(self, name: str | None) -> type | None:
        """The class for an option value; None for none."""
        key = self.normalise(name)
        if key is None:
            return None
        cls = self.classes[key]
        if self.type_check is not None and not issubclass(cls, self.type_check):
            raise RegistryError(f"--{self.name} {name}: {cls.__name__} is not a {self.type_check.__name__}")
        return cls

    def add_arguments(self, parser: Any) -> None:
        """Add `--NAME` and `--NAME_conf` to an argparse parser or group."""
        parser.add_argument(
            f"--{self.name}", type=str_or_none, default=self.default, help=f"Choice of {self.name}: {self._listed()}"
        )
        parser.add_argument(
            f"--{self.name}_conf", action=NestedDictAction, default={}, help=f"Options of the {self.name}, as key=value"
        )

    def _listed(self) -> str:
        return ", ".join(str(choice).lower() for choice in self.choices())

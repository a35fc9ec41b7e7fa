"""YAML that is safe and reads `1e-3` as a number, and the check of keyword arguments against a constructor."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from funasr.register import nearest_names
from funasr.utils.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """SafeLoader with the float rule of YAML 1.2: `1e-3` and `5E4` are numbers, not strings."""


class _Dumper(yaml.SafeDumper):
    """SafeDumper without anchors."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_FLOAT = re.compile(
    r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$|^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$"
)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:float"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Dumper.add_representer(tuple, lambda dumper, data: dumper.represent_list(list(data)))


def parse_yaml(text: str, where: str = "text") -> Any:
    """The value of a YAML text.  Raises ConfigError naming `where` and the line."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is not valid YAML: {error}") from None


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.  Raises ConfigError if the file is missing or holds anything else."""
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"configuration file {path} does not exist")
    value = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: the top level must be a mapping (key: value), not {type(value).__name__}")
    return value


def dump_yaml(value: Any) -> str:
    """YAML text: 4-space indent, key order kept, no anchors."""
    return yaml.dump(value, Dumper=_Dumper, indent=4, sort_keys=False, allow_unicode=True)


def deep_merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """A new dict: `over` laid on `base`, nested dicts merged key by key, everything else replaced."""
    merged = copy.deepcopy(dict(base))
    for key, value in over.items():
        if isinstance(value, Mapping) and isinstance(merged.get(key), dict):
            merged[key] = deep_merge(merged[key], value)
        else:
            merged[key] = copy.deepcopy(value)
    return merged


def constructor_defaults(cls: Callable[..., Any]) -> dict[str, Any]:
    """Parameter name -> default for each constructor parameter that has one."""
    parameters = inspect.signature(cls).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def unknown_keywords(cls: Callable[..., Any], conf: Mapping[str, Any]) -> dict[str, list[str]]:
    """Keys of `conf` that the constructor does not take, each with its nearest valid names."""
    parameters = inspect.signature(cls).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return {}
    return {key: nearest_names(key, list(parameters)) for key in conf if key not in parameters}


def check_keywords(cls: type, conf: Mapping[str, Any], where: str) -> None:
    """Raise ConfigError if `conf` (the value of option `where`) has a key or a value that `cls` does not take."""
    for key, near in unknown_keywords(cls, conf).items():
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        valid = ", ".join(inspect.signature(cls).parameters)
        raise ConfigError(f"{where}: {cls.__name__} has no option '{key}'.{hint} Valid: {valid}.")
    from funasr.utils.typecheck import wrong_type  # typeguard is needed for this check alone

    wrong = wrong_type(cls, conf)
    if wrong is not None:
        raise ConfigError(f"{where}.{wrong[0]} of {cls.__name__} must be {wrong[1]}, not {wrong[2]!r}")

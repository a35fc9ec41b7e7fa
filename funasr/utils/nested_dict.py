"""`--NAME_conf`: an argparse option whose value is a nested dictionary, written as `key=value` on the command line."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Sequence
from typing import Any

from funasr.utils.config import parse_yaml
from funasr.utils.errors import ConfigError

SYNTAX = """
  {option} KEY=VALUE            set a key; VALUE is YAML (3, 1e-3, true, [1, 2], {{a: b}}, word)
  {option} KEY.SUB=VALUE        set a key of a nested dictionary
  {option} KEY=                 set a key to the empty string
  {option} "{{KEY: VALUE, ...}}"  set several keys at once
  {option} ~KEY                 remove a key (or KEY.SUB) that a configuration file or default has set
"""


class NestedDictAction(argparse.Action):
    """Collects `key=value` texts into one dict; later uses of the option add to or override earlier ones.

    `--conf a=3`, `--conf a.b=4` (a value at `a` that is not a dict is replaced by one), `--conf "{a: 1, b: 2}"`
    (merged key by key at the top level), `--conf a=` (empty string), `--conf ~a.b` (delete).  Works with any `nargs`.
    The default is copied for each parse, so two parses share nothing.
    """

    _default: Any = None

    @property
    def default(self) -> Any:
        return copy.deepcopy(self._default)

    @default.setter
    def default(self, value: Any) -> None:
        self._default = value

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        result = copy.deepcopy(getattr(namespace, self.dest, None))
        if not isinstance(result, dict):  # None, or a none-word in a configuration file
            result = {}
        for text in [values] if isinstance(values, str) else values or ():
            try:
                apply_setting(result, text)
            except ConfigError as error:
                syntax = SYNTAX.format(option=option_string or f"--{self.dest}")
                raise argparse.ArgumentError(self, f"{error}\nValid forms:{syntax}") from None
        setattr(namespace, self.dest, result)


def apply_setting(target: dict[str, Any], text: str) -> None:
    """Apply one text (`a.b=3`, `{a: 3}`, `~a.b`) to `target` in place.  Raises ConfigError if it has no such form."""
    text = text.strip()
    if text.startswith("~"):
        _delete(target, text[1:].strip())
    elif "=" in text and not text.startswith("{"):
        key, _, value = text.partition("=")
        _set(target, key.strip(), "" if value.strip() == "" else parse_yaml(value, f"the value of {key.strip()}"))
    else:
        mapping = parse_yaml(text, f"'{text}'")
        if not isinstance(mapping, dict):
            raise ConfigError(f"'{text}' is neither KEY=VALUE nor a mapping")
        wrong = [key for key in mapping if not isinstance(key, str)]
        if wrong:
            raise ConfigError(f"key {wrong[0]!r} in '{text}' is not a word")
        target.update(mapping)


def _split(path: str) -> list[str]:
    keys = path.split(".")
    if not all(keys) or any(character.isspace() for character in path):
        raise ConfigError(f"'{path}' is not a key")
    return keys


def _set(target: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = _split(path)
    for key in parents:
        if not isinstance(target.get(key), dict):
            target[key] = {}
        target = target[key]
    target[last] = value


def _delete(target: dict[str, Any], path: str) -> None:
    """Deleting what is not there is no error: the key may come from a configuration file that others do not use."""
    *parents, last = _split(path)
    for key in parents:
        if not isinstance(target.get(key), dict):
            return
        target = target[key]
    target.pop(last, None)

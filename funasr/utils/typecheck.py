"""Is the value of a configuration key of the type that the constructor declares?"""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

import typeguard


def wrong_type(cls: type, conf: Mapping[str, Any]) -> tuple[str, str, Any] | None:
    """(key, declared type, value) of the first value that does not fit the constructor's annotation, or None.

    A YAML list fits a tuple annotation; an int fits a float.
    """
    try:
        hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except NameError:  # an annotation that exists only for type checkers
        return None
    for key, value in conf.items():
        if key in hints and not _fits(value, hints[key]):
            return key, str(hints[key]).replace("typing.", ""), value
    return None


def _fits(value: Any, hint: Any) -> bool:
    for candidate in (value, _as_tuples(value)):
        try:
            typeguard.check_type(candidate, hint, collection_check_strategy=typeguard.CollectionCheckStrategy.ALL_ITEMS)
        except typeguard.TypeCheckError:
            continue
        return True
    return False


def _as_tuples(value: Any) -> Any:
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value

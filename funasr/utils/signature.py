"""Methods that take the options of another one and some of their own, without listing the other's again."""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable, Collection
from typing import Any, TypeVar

R = TypeVar("R")


def extends(base: Callable[..., Any], without: Collection[str] = ()) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Decorator: the method has the parameters of `base` beside its own.

        class Child(Parent):
            @extends(Parent.__init__)
            def __init__(self, *, depth: int = 2, **options: Any) -> None:
                super().__init__(**options)

    `inspect.signature(Child)` shows all of them with their types and defaults, the own ones last; one that `base` has
    too keeps its place there.  Callers may give by position what `base` takes by position.  The method gets everything
    by keyword: its own parameters, and what the caller gave of the others in `**options`.

    Args:
        base: a method; its parameters must have types that can be resolved.
        without: parameters of `base` that this method does not take, because it sets them or they make no sense.

    Raises TypeError, when the method is called, for an argument that neither has, unless `base` takes any.
    """

    def decorate(method: Callable[..., R]) -> Callable[..., R]:
        whole = _merged(inspect.signature(method), inspect.signature(base), without)
        names = list(whole.parameters)
        rest = [p.name for p in whole.parameters.values() if p.kind is p.VAR_KEYWORD]

        @functools.wraps(method)
        def call(*args: Any, **kwargs: Any) -> R:
            try:
                given = whole.bind(*args, **kwargs).arguments
            except TypeError as error:
                raise TypeError(f"{method.__qualname__}() {error}") from None
            for name in rest:
                given |= given.pop(name, {})
            return method(given.pop(names[0]), **given)

        call.__signature__ = whole  # type: ignore[attr-defined]
        hints = {**typing.get_type_hints(base), **method.__annotations__}
        call.__annotations__ = {name: hint for name, hint in hints.items() if name in names or name == "return"}
        return call

    return decorate


def _merged(own: inspect.Signature, base: inspect.Signature, without: Collection[str]) -> inspect.Signature:
    """Parameters of `base`, those of `own` in their place or behind them, and last the `**kwargs` of `base`, if any."""
    added = {p.name: p for p in own.parameters.values() if p.kind is p.KEYWORD_ONLY}
    kept = [p for p in base.parameters.values() if p.name not in without]
    parameters = [added.pop(p.name).replace(kind=p.kind) if p.name in added else p for p in kept]
    parameters += added.values()
    return own.replace(parameters=sorted(parameters, key=lambda p: p.kind))

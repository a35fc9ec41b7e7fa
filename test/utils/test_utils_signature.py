"""A method that extends another shows, takes and checks the options of both."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from funasr.utils.config import check_keywords, constructor_defaults
from funasr.utils.errors import ConfigError
from funasr.utils.signature import extends


class Parent:
    def __init__(self, size: int, rate: float = 0.1, *, name: str = "p") -> None:
        self.got = (size, rate, name)

    def run(self, data: list[int], key: str | None = None, *, beam: int = 2, **kwargs: Any) -> tuple[Any, ...]:
        return data, key, beam, kwargs


class Child(Parent):
    @extends(Parent.__init__, without=("name",))
    def __init__(self, *, rate: float = 0.5, depth: int = 3, **options: Any) -> None:
        super().__init__(rate=rate, name="child", **options)
        self.depth = depth

    @extends(Parent.run)
    def run(self, *, key: str | None = None, hotword: str = "", **options: Any) -> tuple[Any, ...]:
        """Runs."""
        return hotword, super().run(key=key, **options)


def test_the_signature_has_the_parameters_of_both() -> None:
    assert str(inspect.signature(Child)) == "(size: 'int', rate: 'float' = 0.5, *, depth: 'int' = 3) -> 'None'"
    kinds = {p.name: p.kind.name for p in inspect.signature(Child(1).run).parameters.values()}
    assert list(kinds) == ["data", "key", "beam", "hotword", "kwargs"]
    assert kinds["hotword"] == kinds["beam"] == "KEYWORD_ONLY" and kinds["kwargs"] == "VAR_KEYWORD"
    assert Child.run.__doc__ == "Runs." and constructor_defaults(Child) == {"rate": 0.5, "depth": 3}


def test_arguments_arrive_by_position_and_by_name() -> None:
    assert Child(7).got == (7, 0.5, "child")
    child = Child(7, 0.2, depth=4)
    assert (child.got, child.depth) == ((7, 0.2, "child"), 4)
    assert child.run([1], "k", hotword="h", beam=5) == ("h", ([1], "k", 5, {}))
    assert child.run([1], other=1) == ("", ([1], None, 2, {"other": 1}))


@pytest.mark.parametrize("options", [{"size": 1, "dept": 2}, {"size": 1, "name": "x"}, {}])
def test_an_argument_that_is_unknown_left_out_or_missing(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"Child.__init__\(\)"):
        Child(**options)


def test_options_are_checked_as_those_of_any_constructor() -> None:
    check_keywords(Child, {"size": 2, "depth": 2}, "conf")
    with pytest.raises(ConfigError, match=r"no option 'dept'.* Did you mean depth"):
        check_keywords(Child, {"dept": 2}, "conf")
    with pytest.raises(ConfigError, match=r"conf.size of Child must be .*int"):
        check_keywords(Child, {"size": "wide"}, "conf")
    with pytest.raises(ConfigError, match=r"conf.depth of Child must be .*int"):
        check_keywords(Child, {"depth": "deep"}, "conf")

"""--NAME_conf: every form of the command line gives the stated dictionary, and parses share no state."""

from __future__ import annotations

import argparse

import pytest

from funasr.utils.nested_dict import NestedDictAction


def parse(*texts: str, default: object = None) -> dict:
    parser = argparse.ArgumentParser()
    parser.add_argument("--conf", action=NestedDictAction, default={} if default is None else default)
    return parser.parse_args([word for text in texts for word in ("--conf", text)]).conf


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a=3"], {"a": 3}),
        (["lr=1e-3"], {"lr": 0.001}),
        (["a.b=4"], {"a": {"b": 4}}),
        (["a=3", "a.b=4"], {"a": {"b": 4}}),
        (["a.b={c: true}"], {"a": {"b": {"c": True}}}),
        (["{a: 34.5}"], {"a": 34.5}),
        (["{'a': 1}"], {"a": 1}),
        (["a=1", "{b: 2, a: 3}"], {"a": 3, "b": 2}),
        (["{a: 'x=y'}"], {"a": "x=y"}),
        (["a="], {"a": ""}),
        (["a=x=y"], {"a": "x=y"}),
        (["a=[1, 2]", "b=null"], {"a": [1, 2], "b": None}),
        (["a=1", "b=2", "~a"], {"b": 2}),
        (["a.b=1", "a.c=2", "~a.b"], {"a": {"c": 2}}),
        (["~missing.key"], {}),
    ],
)
def test_forms(texts: list[str], expected: dict) -> None:
    assert parse(*texts) == expected


def test_whole_dictionary_is_merged_at_the_top_level_only() -> None:
    assert parse("a.b=1", "{a: {c: 2}}") == {"a": {"c": 2}}


def test_inherited_key_can_be_deleted() -> None:
    assert parse("~x.y", default={"x": {"y": 1, "z": 2}}) == {"x": {"z": 2}}


def test_default_is_not_shared_between_parses() -> None:
    default = {"x": {"y": 1}}
    parser = argparse.ArgumentParser()
    parser.add_argument("--conf", action=NestedDictAction, default=default)
    untouched = parser.parse_args([])
    parser.parse_args(["--conf", "{q: 1}", "--conf", "x.y=7"])
    untouched.conf["x"]["y"] = 9
    assert parser.parse_args([]).conf == {"x": {"y": 1}} == default


def test_set_defaults_then_command_line() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--conf", action=NestedDictAction, default={})
    parser.set_defaults(conf={"a": 1, "b": 2})
    assert parser.parse_args(["--conf", "b=3"]).conf == {"a": 1, "b": 3}


@pytest.mark.parametrize("text", ["word", "[1, 2]", "=3", "a..b=3", "{a: ", "a b=3", "~", "{1: 2}"])
def test_anything_else_is_an_error_that_shows_the_syntax(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(text)
    assert "--conf KEY=VALUE" in capsys.readouterr().err


def test_no_code_is_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse("a=!!python/object/apply:os.getcwd []")
    assert parse("a=__import__('os')") == {"a": "__import__('os')"}

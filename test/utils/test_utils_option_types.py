"""Type functions of options: each word gives the stated value, everything else an error."""

from __future__ import annotations

import argparse

import pytest

from funasr.utils.option_types import (
    bool_or_none,
    float_or_none,
    humanfriendly_size,
    int_or_none,
    int_range,
    str2bool,
    str2triplet,
    str_or_none,
)


def test_bool_words() -> None:
    assert all(str2bool(word) for word in ["true", "True", "yes", "ON", "1", "t", "y"])
    assert not any(str2bool(word) for word in ["false", "False", "no", "off", "0", "f", "N"])
    with pytest.raises(argparse.ArgumentTypeError):
        str2bool("maybe")


def test_none_words() -> None:
    for convert in (int_or_none, float_or_none, str_or_none, bool_or_none):
        assert [convert(word) for word in ("none", "Null", "NIL")] == [None] * 3
    assert (int_or_none("3"), float_or_none("1e-3"), str_or_none("x"), bool_or_none("no")) == (3, 0.001, "x", False)
    with pytest.raises(ValueError):
        int_or_none("x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("123", 123), ("10MB", 10_000_000), ("20 GB", 20 * 10**9), ("1.5GiB", 3 * 2**29), ("2k", 2000)],
)
def test_sizes(text: str, expected: int) -> None:
    assert humanfriendly_size(text) == expected


def test_wrong_size() -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        humanfriendly_size("lots")


@pytest.mark.parametrize("text", ["valid,acc,max", "(valid, acc, max)", "['valid', \"acc\", max]"])
def test_triplets(text: str) -> None:
    assert str2triplet(text) == ("valid", "acc", "max")


@pytest.mark.parametrize("text", ["valid,acc", "a,b,c,d", "a,,c"])
def test_wrong_triplets(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        str2triplet(text)


def test_int_range() -> None:
    convert = int_range(1, 4)
    assert [convert("1"), convert("4")] == [1, 4]
    for text in ("0", "5"):
        with pytest.raises(argparse.ArgumentTypeError):
            convert(text)

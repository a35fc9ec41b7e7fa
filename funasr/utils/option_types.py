"""Type functions for argparse: booleans as words, optional values, sizes, triplets.

Each takes the text of an option and returns the value, or raises ValueError, which argparse shows with the option.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable

NONE_WORDS = ("none", "null", "nil")
_TRUE = ("true", "t", "yes", "y", "on", "1")
_FALSE = ("false", "f", "no", "n", "off", "0")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def str2bool(text: str) -> bool:
    """true/yes/on/1/t/y or false/no/off/0/f/n, in any case."""
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise argparse.ArgumentTypeError(f"'{text}' is not a boolean; write true or false")


def _is_none(text: str) -> bool:
    return text.strip().lower() in NONE_WORDS


def int_or_none(text: str) -> int | None:
    """An integer, or None for the words none, null, nil."""
    return None if _is_none(text) else int(text)


def float_or_none(text: str) -> float | None:
    """A number, or None for the words none, null, nil."""
    return None if _is_none(text) else float(text)


def str_or_none(text: str) -> str | None:
    """The text, or None for the words none, null, nil."""
    return None if _is_none(text) else text


def bool_or_none(text: str) -> bool | None:
    """A boolean, or None for the words none, null, nil."""
    return None if _is_none(text) else str2bool(text)


def int_range(minimum: int | None = None, maximum: int | None = None) -> Callable[[str], int]:
    """A type function for integers between `minimum` and `maximum`, both included."""

    def parse(text: str) -> int:
        value = int(text)
        if minimum is not None and value < minimum:
            raise argparse.ArgumentTypeError(f"{value} is too small; the least is {minimum}")
        if maximum is not None and value > maximum:
            raise argparse.ArgumentTypeError(f"{value} is too large; the most is {maximum}")
        return value

    parse.__name__ = "int"  # argparse names the type in its message
    return parse


def humanfriendly_size(text: str) -> int:
    """Bytes: `1048576`, `10MB` (10 million), `20GB`, `1.5 GiB` (powers of 1024)."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]i?)?b?\s*", text.lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size; write e.g. 500MB or 20GB")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def str2triplet(text: str) -> tuple[str, str, str]:
    """`a,b,c`, which may stand in () or [] and have quoted members: ("a", "b", "c")."""
    inner = text.strip()
    if inner[:1] + inner[-1:] in ("()", "[]"):
        inner = inner[1:-1]
    members = tuple(member.strip().strip("'\"") for member in inner.split(","))
    if len(members) != 3 or not all(members):
        raise argparse.ArgumentTypeError(f"'{text}' must be three words with commas between, e.g. valid,acc,max")
    return members[0], members[1], members[2]

"""Cleaners change only what they say, and an unknown or uninstalled one is named."""

from __future__ import annotations

import importlib.util

import pytest

from funasr.text.cleaner import TextCleaner
from funasr.utils.errors import ConfigError


def test_none_changes_nothing() -> None:
    assert TextCleaner(None)(" Mr.  x ") == " Mr.  x "
    assert TextCleaner("none")(" Mr.  x ") == " Mr.  x "


def test_english() -> None:
    assert TextCleaner("tacotron")(" Mr.  Smith met\tthe Dr. in august") == "MISTER SMITH MET THE DOCTOR IN AUGUST"


def test_abbreviation_needs_its_own_word() -> None:
    assert TextCleaner("tacotron")("the best. co") == "THE BEST. CO"


def test_vietnamese_composes_accents() -> None:
    assert TextCleaner(["vietnamese"])("Xin cha\u0300o, ba\u0323n!") == "xin chào bạn"


def test_unknown_cleaner() -> None:
    with pytest.raises(ConfigError, match="Did you mean tacotron"):
        TextCleaner("tacotrn")


@pytest.mark.skipif(importlib.util.find_spec("jaconv") is not None, reason="jaconv is installed")
def test_missing_package_gives_the_install_line() -> None:
    with pytest.raises(ConfigError, match="pip install jaconv"):
        TextCleaner("jaconv")("ｱ")

"""The grammar of the embedded corpus: its marks follow from its words, the same on every run, disjoint sets."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / "egs" / "mini" / "local" / "grammar.py"


@pytest.fixture(scope="module")
def grammar() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mini_grammar", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw(grammar: ModuleType, set_name: str, texts: int, sentences: int = 4) -> list[list[list[str]]]:
    return [grammar.draw_text(set_name, sentences, np.random.default_rng([7, number])) for number in range(texts)]


def readings(grammar: ModuleType, words: list[str]) -> list[str]:
    """All ways to read words without marks as sentences of the grammar, by its rules."""

    def pattern(symbol: str) -> str:
        if symbol in grammar.MARKS:
            return ""
        if symbol not in grammar.RULES:
            return f"{symbol} "
        return "(?:" + "|".join("".join(map(pattern, choice.split())) for choice in grammar.RULES[symbol]) + ")"

    marked = {
        re.compile("".join(map(pattern, choice.split()))): choice.split()[-1] for choice in grammar.RULES["sentence"]
    }

    @cache
    def parts(begin: int) -> list[str]:
        if begin == len(words):
            return [""]
        found = []
        for end in range(begin + 1, min(begin + 25, len(words)) + 1):
            text = "".join(f"{word} " for word in words[begin:end])
            if begin and words[begin] in grammar.DIGITS and words[begin - 1] in grammar.DIGITS:
                continue
            marks = [mark for rule, mark in marked.items() if rule.fullmatch(text)]
            found += [text.strip() + mark + " " + rest for mark in marks for rest in parts(end)]
        return found

    return parts(0)


def test_words_alone_say_where_sentences_end(grammar: ModuleType) -> None:
    for sentences in draw(grammar, "train", 60):
        words = [word for sentence in sentences for word in grammar.bare(sentence)]
        ends = [" ".join(grammar.bare(sentence)) + sentence[-1][-1] for sentence in sentences]
        assert readings(grammar, words) == [" ".join(ends) + " "]


def test_a_sentence_has_one_way_of_marking(grammar: ModuleType) -> None:
    seen: dict[str, set[str]] = {}
    for sentences in draw(grammar, "train", 1500):
        for sentence in sentences:
            seen.setdefault(" ".join(grammar.bare(sentence)), set()).add(" ".join(sentence))
    assert len(seen) > 2000
    assert all(len(ways) == 1 for ways in seen.values())
    marks = "".join(next(iter(ways)) for ways in seen.values())
    assert all(marks.count(mark) > 300 for mark in ",.?")


def test_vocabulary(grammar: ModuleType) -> None:
    assert len(grammar.VOCABULARY) == 32 and set(grammar.DIGITS) < grammar.VOCABULARY
    drawn = {word for text in draw(grammar, "train", 300) for sentence in text for word in grammar.bare(sentence)}
    assert drawn == grammar.VOCABULARY


def test_sets_share_no_sentence_of_three_words_or_more(grammar: ModuleType) -> None:
    sentences = {
        name: {" ".join(grammar.bare(s)) for text in draw(grammar, name, 400) for s in text}
        for name in ("train", "dev", "test")
    }
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        shared = sentences[one] & sentences[other]
        assert all(len(sentence.split()) < 3 for sentence in shared)


def test_texts_are_written_the_same_on_every_run() -> None:
    command = [sys.executable, str(SCRIPT), "--set", "test", "--num", "20"]
    first, second = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert first == second
    lines = first.splitlines()
    assert len(lines) == 20
    assert all(re.fullmatch(r"(?:[A-Z][a-z]*[ ,a-z]*[.?] ?)+", line) for line in lines)

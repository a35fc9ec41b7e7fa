#!/usr/bin/env python3
"""The language of the embedded corpus: digit strings, and orders, questions and statements about doors and codes.

Where a sentence ends and which marks it has follows from the words alone, so that a model which sees no marks can
learn to put them in: `open door two is room six free` can only be "Open door two. Is room six free?".

    local/grammar.py --set test --num 5        prints texts
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Sequence

import numpy as np

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
MARKS = ",.?"
# Name -> what it may become, with weights.  A symbol is a name of this table, a word or a mark.
RULES: dict[str, dict[str, int]] = {
    "sentence": {
        "digits .": 5,
        "order .": 4,
        "order , please .": 2,
        "step , then step .": 2,
        "step and step .": 2,
        "if fact , step .": 2,
        "fact .": 3,
        "fact , right ?": 2,
        "fact , but fact .": 2,
        "answer , fact .": 2,
        "answer , step .": 1,
        "is place state ?": 3,
        "is the code number ?": 2,
        "where is place ?": 2,
        "what is the code ?": 1,
        "what is the code of place ?": 2,
    },
    "order": {"act door some": 4, "act room some": 2, "call room some": 2},
    "step": {"act place": 3, "call room digit": 1},
    "act": {"open": 1, "lock": 1, "check": 1},
    "some": {"digit": 6, "digit and digit": 2, "digit , digit and digit": 2},
    "fact": {"place is state": 3, "place is not state": 3, "the code is number": 2, "the code of place is number": 2},
    "place": {"door digit": 1, "room digit": 1},
    "state": {"open": 1, "free": 1},
    "answer": {"yes": 1, "no": 1},
    "number": {"digit digit": 1, "digit digit digit": 2, "digit digit digit digit": 1},
    "digits": {" ".join(["digit"] * count): 1 for count in range(1, 8)},
    "digit": dict.fromkeys(DIGITS, 1),
}
VOCABULARY = frozenset(
    symbol
    for choices in RULES.values()
    for choice in choices
    for symbol in choice.split()
    if symbol not in RULES and symbol not in MARKS
)
# Of sentences this long those in dev, in test and in train are disjoint; shorter ones are too few for that.
MIN_WORDS_DISJOINT = 3
SHARES = {"train": range(7), "dev": range(7, 8), "test": range(8, 10)}  # of 10


def expand(symbol: str, rng: np.random.Generator) -> list[str]:
    """Words and marks that a symbol becomes."""
    if symbol not in RULES:
        return [symbol]
    choices = RULES[symbol]
    weights = np.cumsum(list(choices.values()))
    chosen = list(choices)[int(np.searchsorted(weights, rng.integers(weights[-1]), side="right"))]
    return [word for part in chosen.split() for word in expand(part, rng)]


def is_in(set_name: str, words: Sequence[str], rng: np.random.Generator) -> bool:
    """Whether a sentence goes to a set, "train", "dev" or "test"; short ones do as often as long ones, by chance."""
    number = int(rng.integers(10)) if len(words) < MIN_WORDS_DISJOINT else zlib.crc32(" ".join(words).encode()) % 10
    return number in SHARES[set_name]


def draw_sentence(set_name: str, rng: np.random.Generator, kind: str = "sentence") -> list[str]:
    """A sentence of a set as words with their marks: `["call", "room", "four,", "please."]`.

    kind: "sentence", or "digits" for a string of digits alone.
    """
    while True:
        symbols = expand(kind, rng) if kind == "sentence" else [*expand(kind, rng), "."]
        marked: list[str] = []
        for symbol in symbols:
            if symbol in MARKS:
                marked[-1] += symbol
            else:
                marked.append(symbol)
        if is_in(set_name, bare(marked), rng):
            return marked


def draw_text(set_name: str, count: int, rng: np.random.Generator) -> list[list[str]]:
    """Consecutive sentences of a set; digits never follow digits, as nobody could say where the sentence ends."""
    sentences: list[list[str]] = []
    while len(sentences) < count:
        sentence = draw_sentence(set_name, rng)
        if not sentences or not can_clash(sentences[-1], sentence):
            sentences.append(sentence)
    return sentences


def can_clash(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether the boundary of two sentences cannot be told without the marks."""
    return bare(before)[-1] in DIGITS and bare(after)[0] in DIGITS


def bare(marked: Sequence[str]) -> list[str]:
    """The words without marks."""
    return [word.rstrip(MARKS) for word in marked]


def written(sentences: Sequence[Sequence[str]]) -> str:
    """Sentences as one writes them, each with a capital letter."""
    return " ".join(" ".join(sentence).capitalize() for sentence in sentences)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--set", default="train", choices=tuple(SHARES))
    parser.add_argument("--num", type=int, default=10, help="texts")
    parser.add_argument("--max_sentences", type=int, default=15, help="sentences in a text: from one to this many")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    for number in range(args.num):
        rng = np.random.default_rng([args.seed, zlib.crc32(args.set.encode()), number])
        print(written(draw_text(args.set, int(rng.integers(1, args.max_sentences + 1)), rng)))


if __name__ == "__main__":
    main()

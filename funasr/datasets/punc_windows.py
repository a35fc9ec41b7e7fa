"""From the paragraphs of a text to training windows, and to the passages that a model is scored on.

A window begins where a sentence begins and ends anywhere, as the windows do that the model sees in use: it reads on
token by token, and what it gave out is over with its last full stop.  So full stops are inside windows, with much or
little text behind them, and cannot be told by the end of the window.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from funasr.datasets.punc_list import SENTENCE_ENDS
from funasr.datasets.punc_text import Paragraph
from funasr.utils.errors import ConfigError


@dataclass(frozen=True)
class Stretch:
    """Consecutive words and the mark after each (`_` for none)."""

    words: tuple[str, ...]
    marks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, part: slice) -> Stretch:
        return Stretch(self.words[part], self.marks[part])


def has_chapters(paragraphs: Sequence[Paragraph]) -> bool:
    """Whether headings divide a text."""
    return sum(paragraph.new_chapter for paragraph in paragraphs) > 1


def chapters(paragraphs: Sequence[Paragraph]) -> list[Stretch]:
    """Paragraphs joined into chapters; without chapters each paragraph stands alone."""
    several = has_chapters(paragraphs)
    groups: list[list[Stretch]] = []
    for paragraph in paragraphs:
        if not groups or paragraph.new_chapter or not several:
            groups.append([])
        groups[-1].append(Stretch(paragraph.words, paragraph.marks))
    return [joined(group) for group in groups]


def joined(parts: Sequence[Stretch]) -> Stretch:
    """Parts that follow one another as one."""
    return Stretch(
        tuple(word for part in parts for word in part.words), tuple(mark for part in parts for mark in part.marks)
    )


def hold_back(
    parts: Sequence[Stretch], valid_share: float, test_share: float
) -> tuple[list[Stretch], list[Stretch], list[Stretch]]:
    """Training, validation and test parts: the last ones are the test, those before them the validation.

    Each of the two gets whole parts (chapters), at least one, whose words come nearest to its share; none for a share
    of 0.  Raises ConfigError for shares that are no shares, or if there are too few parts.
    """
    if min(valid_share, test_share) < 0 or valid_share + test_share > 1 + 1e-9:
        raise ConfigError(f"shares {valid_share:g} and {test_share:g} must be at least 0 and together at most 1")
    total = sum(map(len, parts))
    test = _nearest(parts, total * test_share)
    before = parts[: len(parts) - test]
    valid = _nearest(before, total * valid_share)
    train = len(before) - valid
    if valid_share + test_share < 1 and not train:
        raise ConfigError(f"{len(parts)} parts are too few to hold some back for validation and test")
    return list(parts[:train]), list(before[train:]), list(parts[len(parts) - test :])


def _nearest(parts: Sequence[Stretch], words: float) -> int:
    """How many of the last parts have nearly so many words."""
    if words == 0 or not parts:
        return 0
    held = list(accumulate(len(part) for part in reversed(parts)))
    return 1 + min(range(len(held)), key=lambda index: abs(held[index] - words))


def passages(part: Stretch, size: int) -> Iterator[Stretch]:
    """Whole sentences, one after another, in passages of at least `size` words; the last one may be shorter."""
    begin = 0
    for position, mark in enumerate(part.marks):
        if mark in SENTENCE_ENDS and position + 1 - begin >= size:
            yield part[begin : position + 1]
            begin = position + 1
    if begin < len(part):
        yield part[begin:]


def windows(part: Stretch, shortest: int, longest: int, rng: np.random.Generator) -> Iterator[Stretch]:
    """Windows of `shortest` to `longest` words that cover a part; short ones are as frequent as long ones.

    The next window begins behind the last sentence end of a window (which its last word does not count for); as long
    as there is none, the window is repeated with more words.
    """
    begin, least = 0, shortest
    while begin < len(part):
        drawn = math.exp(rng.uniform(math.log(shortest), math.log(longest)))
        window = part[begin : begin + min(longest, max(least, round(drawn)))]
        if len(window) > 1:
            yield window
        if begin + len(window) == len(part):
            return
        end = next((i for i in range(len(window) - 2, -1, -1) if window.marks[i] in SENTENCE_ENDS), None)
        if end is not None:
            begin, least = begin + end + 1, shortest
        elif len(window) < longest:
            least = min(longest, 2 * len(window))
        else:
            begin, least = begin + len(window), shortest

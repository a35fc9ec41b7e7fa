"""Precision, recall and F1 of punctuation marks.

Reference and hypothesis are two lists of marks, one for each word of the same text; a mark is right if the same mark
stands behind the same word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

ALL = "all"  # all marks together: right if it is the same mark
PLACES = "places"  # right if any mark stands there


@dataclass(frozen=True)
class MarkScore:
    """right: marks that stand in both; given: in the hypothesis; wanted: in the reference."""

    right: int
    given: int
    wanted: int

    @property
    def precision(self) -> float:
        """Share of the given marks that are right; 0 if none is given."""
        return self.right / self.given if self.given else 0.0

    @property
    def recall(self) -> float:
        """Share of the wanted marks that are given; 0 if none is wanted."""
        return self.right / self.wanted if self.wanted else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.right / (self.given + self.wanted) if self.given + self.wanted else 0.0


@dataclass(frozen=True)
class PunctuationScore:
    """marks: score of each mark of the reference or the hypothesis, then `all` and `places`; words: how many."""

    marks: dict[str, MarkScore]
    words: int

    def __getitem__(self, mark: str) -> MarkScore:
        return self.marks.get(mark, MarkScore(0, 0, 0))


def score_marks(
    pairs: Iterable[tuple[Sequence[str], Sequence[str]]], nothing: str = "_", skip_last: bool = True
) -> PunctuationScore:
    """Score pairs of (reference, hypothesis) marks.

    Args:
        nothing: the sign for no mark.
        skip_last: leave out the last word of each text, which every method closes with a full stop.

    Raises ValueError if the two of a pair differ in length.
    """
    right: Counter[str] = Counter()
    given: Counter[str] = Counter()
    wanted: Counter[str] = Counter()
    places = words = 0
    for reference, hypothesis in pairs:
        if len(reference) != len(hypothesis):
            raise ValueError(f"{len(hypothesis)} marks given, but the text has {len(reference)} words")
        count = len(reference) - skip_last
        words += max(count, 0)
        for ref, hyp in zip(reference[:count], hypothesis):
            wanted[ref] += 1
            given[hyp] += 1
            right[ref] += ref == hyp
            places += nothing not in (ref, hyp)
    order = sorted((given | wanted).keys() - {nothing}, key=lambda mark: (-wanted[mark], mark))
    scores = {mark: MarkScore(right[mark], given[mark], wanted[mark]) for mark in order}
    put, asked = sum(given[mark] for mark in order), sum(wanted[mark] for mark in order)
    scores[ALL] = MarkScore(sum(right[mark] for mark in order), put, asked)
    scores[PLACES] = MarkScore(places, put, asked)
    return PunctuationScore(scores, words)


def to_dict(score: PunctuationScore) -> dict[str, Any]:
    """Counts and rates by mark, for a JSON file."""
    return {
        "words": score.words,
        "marks": {
            mark: {
                "right": found.right,
                "given": found.given,
                "wanted": found.wanted,
                "precision": round(found.precision, 4),
                "recall": round(found.recall, 4),
                "f1": round(found.f1, 4),
            }
            for mark, found in score.marks.items()
        },
    }

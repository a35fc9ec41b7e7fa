"""Punctuation by rule, the rival that a model is measured against: its rules are the best simple ones for a text.

For each mark three rules are tried on the training text, and that with the best F1 is kept:

    every     behind every n-th word since the last mark (n: the best one)
    after     behind certain words (Chinese 吗, 道; English "yes")
    before    before certain words (English "and", "but", "which"; Chinese 但, 却)
    either    the two together

The words are those behind (before) which the mark stands in at least a certain share of all cases, the share that gives
the best F1.  Where two rules meet, the better one wins, or the full stop does, whichever is better in training.  The
last word of a text has a full stop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from funasr.datasets.punc_list import SENTENCE_ENDS
from funasr.metrics.punctuation import score_marks
from funasr.models.ct_transformer.marks import NOTHING
from funasr.utils.errors import DataError

Text = tuple[Sequence[str], Sequence[str]]  # words, marks

_RARE = 20  # what is said of a word that occurs less often is chance
_SHARES = np.arange(0.02, 1.0, 0.02)
_LONGEST = 100


@dataclass(frozen=True)
class Rule:
    """Where one mark stands; `f1` is that on the training text."""

    mark: str
    after: frozenset[str] = frozenset()
    before: frozenset[str] = frozenset()
    every: int = 0
    f1: float = 0.0

    def __str__(self) -> str:
        if self.every:
            return f"{self.mark} every {self.every} words"
        parts = [
            f"{where} {len(words)} words ({' '.join(sorted(words)[:5])} ...)"
            for where, words in (("after", self.after), ("before", self.before))
            if words
        ]
        return f"{self.mark} {', '.join(parts)}"


@dataclass(frozen=True)
class Rules:
    """One rule for each mark; where several would put theirs, the first one does."""

    rules: tuple[Rule, ...]

    def apply(self, words: Sequence[str]) -> list[str]:
        """The mark behind each word."""
        marks = [NOTHING] * len(words)
        for rule in self.rules:
            for position in _places(rule, words, marks):
                marks[position] = rule.mark
        if words and marks[-1] not in SENTENCE_ENDS:
            marks[-1] = "。"
        return marks


def _places(rule: Rule, words: Sequence[str], marks: Sequence[str]) -> Iterable[int]:
    """Free places of a rule among the marks that are there already."""
    if not rule.every:
        following = [*words[1:], ""]
        for position, (word, after) in enumerate(zip(words, following)):
            if marks[position] == NOTHING and (word in rule.after or after in rule.before):
                yield position
        return
    since = 0
    for position in range(len(words)):
        since += 1
        if marks[position] != NOTHING:
            since = 0
        elif since == rule.every:
            yield position
            since = 0


def fit_rules(texts: Sequence[Text]) -> Rules:
    """The best rule of each mark in `texts`.  Raises DataError if they have no mark."""
    counts = Counter(mark for _, marks in texts for mark in marks if mark != NOTHING)
    if not counts:
        raise DataError("the training text has no mark, so no rule can be found for one")
    corpus = _Corpus(texts)
    rules = [corpus.best_rule(mark) for mark in counts]
    orders = (
        sorted(rules, key=lambda rule: -rule.f1),
        sorted(rules, key=lambda rule: (rule.mark not in SENTENCE_ENDS, -rule.f1)),
    )
    return max((Rules(tuple(order)) for order in orders), key=lambda found: _mean_f1(found, texts))


def _mean_f1(rules: Rules, texts: Sequence[Text]) -> float:
    """F1 summed over the marks, each counted as often as it occurs."""
    found = score_marks((marks, rules.apply(words)) for words, marks in texts)
    return sum(found[rule.mark].f1 * found[rule.mark].wanted for rule in rules.rules)


class _Corpus:
    """All words of some texts in one array, as numbers: beside each its mark, the word behind it, its place."""

    def __init__(self, texts: Sequence[Text]) -> None:
        numbers: dict[str, int] = {"": 0}
        ids: list[int] = []
        after: list[int] = []
        places: list[int] = []
        for words, _ in texts:
            own = [numbers.setdefault(word, len(numbers)) for word in words]
            ids += own
            after += [*own[1:], 0]
            places += range(1, len(own) + 1)
        self.names = list(numbers)
        self.sides = {"after": np.array(ids), "before": np.array(after)}
        self.places = np.array(places)
        self.marks = np.array([mark for _, marks in texts for mark in marks])

    def best_rule(self, mark: str) -> Rule:
        wanted = self.marks == mark
        chosen = {side: self._best_words(ids, wanted) for side, ids in self.sides.items()}
        hits = {side: chosen[side][ids] for side, ids in self.sides.items()}
        after, before = (frozenset(self.names[i] for i in np.flatnonzero(chosen[side])) for side in self.sides)
        candidates = [
            Rule(mark, after=after, f1=_f1(hits["after"], wanted)),
            Rule(mark, before=before, f1=_f1(hits["before"], wanted)),
            Rule(mark, after=after, before=before, f1=_f1(hits["after"] | hits["before"], wanted)),
        ]
        candidates += [Rule(mark, every=n, f1=_f1(self.places % n == 0, wanted)) for n in range(1, _LONGEST + 1)]
        return max(candidates, key=lambda rule: rule.f1)

    def _best_words(self, ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        """Which words the mark stands beside often enough, for the best F1; bool (words,)."""
        total = np.bincount(ids, minlength=len(self.names))
        right = np.bincount(ids, weights=wanted, minlength=len(self.names))
        share = np.where(total >= _RARE, right / np.maximum(total, 1), 0.0)
        share[0] = 0.0
        scores = [2 * right[share >= s].sum() / (total[share >= s].sum() + wanted.sum()) for s in _SHARES]
        return share >= _SHARES[int(np.argmax(scores))]


def _f1(put: np.ndarray, wanted: np.ndarray) -> float:
    return float(2 * (put & wanted).sum() / max(put.sum() + wanted.sum(), 1))

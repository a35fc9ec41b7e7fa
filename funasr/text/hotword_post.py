"""Hot words put into texts that are recognised already.

A list has lines of two kinds: `wrong=>right` (also `->` or `→`) replaces one spelling by another wherever it stands;
a word alone replaces what sounds like it.  Lines that begin with `#` say nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from rapidfuzz import fuzz, process

from funasr.utils.errors import ConfigError

Hotwords = str | Sequence[str] | Mapping[str, str]

THRESHOLD = 0.85
_ARROW = re.compile(r"=>|->|→")
_IDEOGRAPH = "\u3400-\u9fff"
_UNIT = re.compile(rf"[{_IDEOGRAPH}]|[A-Za-z0-9]+(?:'[A-Za-z]+)*")
_IDEOGRAPHS = re.compile(rf"[{_IDEOGRAPH}]+")


@dataclass(frozen=True)
class HotwordList:
    """pairs: spelling -> what it becomes; targets: words that are looked for by their sound."""

    pairs: Mapping[str, str]
    targets: tuple[str, ...]


@dataclass(frozen=True)
class Match:
    """What was replaced.

    score: 1 for a pair, else how alike the sounds are.
    start, end: characters of `original` in the text, everything before them replaced already.
    """

    original: str
    replacement: str
    score: float
    start: int
    end: int


def read_hotwords(given: Hotwords | None = None, file: str | Path | None = None) -> HotwordList:
    """The entries of an option and of a file.

    Args:
        given: lines in one text or in a list, or a mapping from wrong to right.
        file: UTF-8 text.

    Raises ConfigError for a file that cannot be read or a line without both sides.
    """
    lines: list[tuple[str, str]] = []
    pairs: dict[str, str] = {}
    if isinstance(given, Mapping):
        pairs.update({wrong: right for wrong, right in given.items() if wrong})
    elif given is not None:
        texts = [given] if isinstance(given, str) else list(given)
        lines += [("postprocess_hotwords", line) for text in texts for line in text.splitlines()]
    if file is not None:
        try:
            read = Path(file).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"postprocess_hotword_file {file} cannot be read: {error}") from None
        lines += [(f"{file}:{number}", line) for number, line in enumerate(read, 1)]
    targets: list[str] = []
    for place, line in lines:
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        wrong, *right = (side.strip() for side in _ARROW.split(entry, maxsplit=1))
        if not right:
            targets.append(entry)
        elif wrong:
            pairs[wrong] = right[0]
        else:
            raise ConfigError(f"{place}: '{entry}' does not say what is replaced; write wrong=>right")
    return HotwordList(pairs, tuple(dict.fromkeys(targets)))


class HotwordReplacer:
    """Puts hot words into texts; nothing changes after construction.

    Args:
        threshold: how alike a stretch of text must sound to become a target, 1 for the same (Levenshtein ratio of
            pinyin without tones; of the letters for words in Latin script).
        fuzzy: False: only the pairs.

    Raises ConfigError if a target is Chinese and pypinyin is not installed.
    """

    def __init__(self, hotwords: HotwordList, threshold: float = THRESHOLD, fuzzy: bool = True) -> None:
        if not 0.0 < threshold <= 1.0:
            raise ConfigError(f"postprocess_hotword_threshold must be above 0 and at most 1, not {threshold}")
        self._pairs = dict(hotwords.pairs)
        longest_first = sorted(self._pairs, key=lambda wrong: (-len(wrong), wrong))
        self._pattern = re.compile("|".join(f"({_spelling(wrong)})" for wrong in longest_first))
        self._wrong = longest_first
        self._threshold = threshold
        self._targets: list[tuple[str, Sequence[str]]] = []
        for target in hotwords.targets if fuzzy else ():
            sounds = [sound for _, _, sound in _units(target)]
            # Alone, one syllable sounds like too many others.
            if len(sounds) > 1 or (sounds and not _IDEOGRAPHS.search(target)):
                self._targets.append((target, sounds))
        if any(_IDEOGRAPHS.search(target) for target, _ in self._targets):
            _pinyin("字")  # says now what is missing

    def replace(self, text: str) -> tuple[str, list[Match]]:
        """The text with hot words, and what was replaced, in order."""
        found = [*self._spelled(text)]
        found += self._sounding(text, found)
        out, matches, done = [], [], 0
        length = 0
        for begin, end, right, score in sorted(found):
            out.append(text[done:begin])
            length += begin - done
            if text[begin:end] != right:
                matches.append(Match(text[begin:end], right, score, length, length + end - begin))
            out.append(right)
            length += len(right)
            done = end
        return "".join([*out, text[done:]]), matches

    def _spelled(self, text: str) -> Iterable[tuple[int, int, str, float]]:
        for hit in self._pattern.finditer(text) if self._wrong else ():
            assert hit.lastindex is not None
            yield hit.start(), hit.end(), self._pairs[self._wrong[hit.lastindex - 1]], 1.0

    def _sounding(self, text: str, taken: Sequence[tuple[int, int, str, float]]) -> list[tuple[int, int, str, float]]:
        """The best stretches that sound like a target and do not overlap, each as long as it give or take a unit."""
        if not self._targets:
            return []
        units = _units(text)
        joined = [False] + [text[a[1] : b[0]].strip() == "" for a, b in pairwise(units)]
        runs = np.cumsum([not with_last for with_last in joined])  # no stretch goes across a mark
        candidates: list[tuple[float, int, int, int, str]] = []
        for target, sounds in self._targets:
            wanted = " ".join(sounds)
            for size in range(max(1, len(sounds) - 1), len(sounds) + 2):
                first = np.flatnonzero(runs[: len(units) - size + 1] == runs[size - 1 :]) if size <= len(units) else ()
                windows = [" ".join(unit[2] for unit in units[i : i + size]) for i in first]
                scores = process.cdist([wanted], windows, scorer=fuzz.ratio, score_cutoff=100 * self._threshold)
                for at in np.flatnonzero(scores[0]) if windows else ():
                    begin, end = units[first[at]][0], units[first[at] + size - 1][1]
                    score = round(float(scores[0][at]) / 100, 4)
                    candidates.append((-score, abs(size - len(sounds)), begin, end, target))
        free = np.ones(len(text), dtype=bool)
        for begin, end, _, _ in taken:
            free[begin:end] = False
        chosen: list[tuple[int, int, str, float]] = []
        for negative, _, begin, end, target in sorted(candidates):
            if free[begin:end].all():
                free[begin:end] = False
                chosen.append((begin, end, target, -negative))
        return chosen


def _spelling(wrong: str) -> str:
    """A pattern for a spelling; a space may stand beside an ideograph, as recognisers write them."""
    pieces = [re.escape(wrong[:1])]
    for before, char in pairwise(wrong):
        loose = not before.isspace() and not char.isspace() and _IDEOGRAPHS.search(before + char)
        pieces.append(" ?" * bool(loose) + re.escape(char))
    return "".join(pieces)


def _units(text: str) -> list[tuple[int, int, str]]:
    """Characters of Chinese and words of Latin script: (begin, end, sound)."""
    if not _IDEOGRAPHS.search(text):
        return [(hit.start(), hit.end(), hit.group().lower()) for hit in _UNIT.finditer(text)]
    hits = list(_UNIT.finditer(text))
    chinese = "".join(hit.group() for hit in hits if _IDEOGRAPHS.match(hit.group()))
    sounds = iter(_pinyin(chinese))
    return [
        (hit.start(), hit.end(), next(sounds) if _IDEOGRAPHS.match(hit.group()) else hit.group().lower())
        for hit in hits
    ]


def _pinyin(characters: str) -> list[str]:
    """The sound of each character, without tones."""
    try:
        from pypinyin import lazy_pinyin
    except ImportError as error:
        raise ConfigError(
            "hot words in Chinese are found by their sound, which needs pypinyin: pip install 'funasr[g2p]'; "
            "or give pairs only (postprocess_hotword_fuzzy=False)"
        ) from error
    return list(lazy_pinyin(characters, errors=list))  # type: ignore[arg-type]

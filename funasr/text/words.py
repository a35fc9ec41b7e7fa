"""The words of a recognised text: one list, from which text, times, marks and sentences are read.

Everything a result says about a recording is a view on this list, so its parts cannot disagree: a time belongs to a
word, not to a position in a list beside the text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from funasr.text.sentences import MARKS, Sentence, marked_sentences, split_tokens

_TAGS = re.compile(r"(?:\s*<\|[^|<>]*\|>)+")
_TAG = re.compile(r"<\|[^|<>]*\|>")
_FULL_WIDTH = {",": "，", ".": "。", "?": "？"}
_ASCII_WIDTH = {full: ascii_mark for ascii_mark, full in _FULL_WIDTH.items()}
_NO_MARK = 1  # in the numbering of funasr.text.sentences
_SENTENCE_END = 3


@dataclass(frozen=True, slots=True)
class Word:
    """A unit of text: a word, a Chinese character, a sign.

    start_ms, end_ms: in the recording; None if the model gives no times.
    score: of the word, if the model gives one.
    speaker: number of the speaker, if they are told apart.
    punc: mark behind the word, full-width; "" for none.
    lead: what stands before the word in the text as recognised (nothing or a space).
    written: the word as it stands in the punctuated text, with the marks and spaces around it; None before that.
    """

    text: str
    start_ms: int | None = None
    end_ms: int | None = None
    score: float | None = None
    speaker: int | None = None
    punc: str = ""
    lead: str = ""
    written: str | None = None

    @property
    def timed(self) -> bool:
        """Whether it is known when the word was said."""
        return self.start_ms is not None and self.end_ms is not None


def raw_text(words: Sequence[Word]) -> str:
    """The text as recognised."""
    return "".join(word.lead + word.text for word in words)


def written_text(words: Sequence[Word]) -> str:
    """The punctuated text; words that nobody has punctuated stand as recognised."""
    return "".join(word.lead + word.text if word.written is None else word.written for word in words)


def timestamps(words: Sequence[Word]) -> list[list[int]]:
    """[start_ms, end_ms] of each word; [] unless all have times."""
    spans = [[word.start_ms, word.end_ms] for word in words if word.start_ms is not None and word.end_ms is not None]
    return spans if len(spans) == len(words) else []


def result_words(result: Mapping[str, Any], offset_ms: float = 0.0) -> tuple[str, list[Word]]:
    """The words of what a model returned, and the tags (`<|zh|>`) in front of them.

    Args:
        result: `text`, and if there are times `timestamp`: [start_ms, end_ms] or [start_ms, end_ms, score] or
            [word, start, end] of each unit, or `timestamps`: dicts with start_time and end_time in seconds, and
            maybe `token` or `word` and `score`.  Units are those of `words`, if given, else of the text.
        offset_ms: where the audio begins in its recording.
    """
    text = str(result.get("text") or "")
    found = _TAGS.match(text)
    tags = found[0].strip() if found else ""
    text = _TAG.sub("", text[found.end() :] if found else text).strip()
    units, spans, scores = _timed_units(result, text)
    times: list[list[int]] = []
    if spans is None:
        units = split_tokens(text)
    else:
        whole_ms = [[int(start + offset_ms), int(end + offset_ms)] for start, end in spans]
        times, scores = _fitted(whole_ms, scores, len(units))
    words = []
    for i, (unit, lead) in enumerate(zip(units, _leads(text, units))):
        start, end = times[i] if times else (None, None)
        words.append(Word(unit, start, end, scores[i] if scores else None, lead=lead))
    return tags, _with_whole_ascii_words(words)


def _timed_units(
    result: Mapping[str, Any], text: str
) -> tuple[list[str], list[list[float]] | None, list[float] | None]:
    """Units of the text, their [start, end] in ms and their scores, as far as the result has them."""
    names: list[str] = [str(word) for word in result.get("words") or ()]
    scores: list[float] = []
    spans: list[list[float]] = []
    if result.get("timestamp"):
        for item in result["timestamp"]:
            if isinstance(item[0], str):
                scale = 1000.0 if isinstance(item[1], float) else 1.0  # [word, start, end] in s or ms
                names = [*names[: len(spans)], item[0]]
                spans.append([scale * item[1], scale * item[2]])
            else:
                spans.append([item[0], item[1]])
                scores += [float(item[2])] if len(item) > 2 else []
    elif result.get("timestamps"):
        names = []
        for entry in result["timestamps"]:
            spans.append([1000.0 * entry["start_time"], 1000.0 * entry["end_time"]])
            names += [str(entry[field]) for field in ("token", "word") if field in entry][:1]
            scores += [float(entry["score"])] if "score" in entry else []
    if not spans:
        return [], None, None
    candidates = [[name.strip() for name in names], text.split(), split_tokens(text)]
    units = next((units for units in candidates if len(units) == len(spans)), text.split())
    kept = [i for i, unit in enumerate(units) if unit]
    if len(units) == len(spans):
        spans = [spans[i] for i in kept]
        scores = [scores[i] for i in kept] if len(scores) == len(units) else []
    return [units[i] for i in kept], spans, scores or None


def _fitted(
    spans: list[list[int]], scores: list[float] | None, count: int
) -> tuple[list[list[int]], list[float] | None]:
    """One span for each of `count` units, starts and ends never decreasing.

    Signs for which a model gives no time get the end of the one before.
    """
    for before, span in pairwise(spans):
        span[0] = max(span[0], before[0])
        span[1] = max(span[1], before[1], span[0])
    if len(spans) < count:
        end = spans[-1][1]
        spans = [*spans, *([end, end] for _ in range(count - len(spans)))]
    return spans[:count], scores if scores is not None and len(scores) >= count else None


def _leads(text: str, units: Sequence[str]) -> list[str]:
    """What stands before each unit in the text; a space before all but the first if the text is not made of them."""
    lowered, end = text.lower(), 0
    leads: list[str] = []
    for unit in units:
        start = lowered.find(unit.lower(), end)
        if start < 0 or lowered[end:start].strip():
            return ["", *(" " for _ in units[1:])][: len(units)]
        leads.append(" " if start > end and leads else "")
        end = start + len(unit)
    return leads


def _with_whole_ascii_words(words: Sequence[Word]) -> list[Word]:
    """Neighbouring ASCII units with nothing between them (sub-words, digits) as one word."""
    out: list[Word] = []
    for word in words:
        if out and not word.lead and word.text.isascii() and out[-1].text.isascii():
            scores = [score for score in (out[-1].score, word.score) if score is not None]
            out[-1] = replace(
                out[-1], text=out[-1].text + word.text, end_ms=word.end_ms, score=min(scores, default=None)
            )
        else:
            out.append(word)
    return out


def with_written_text(words: Sequence[Word], text: str) -> list[Word]:
    """Words with the marks that a punctuated text has behind them, and as they are written there.

    Args:
        text: the words in order with marks, spaces and capitals of a punctuation model's own.

    Raises ValueError if the text is not made of these words.
    """
    out: list[Word] = []
    end = 0
    for position, word in enumerate(words):
        begin, mark = end, ""
        for char in "".join(word.text.split()):
            while end < len(text) and not _same(text[end], char) and _skippable(text[end]):
                mark = mark if text[end].isspace() else text[end]
                end += 1
            if end == len(text) or not _same(text[end], char):
                raise ValueError(
                    f"the punctuated text does not hold '{word.text}' after '{text[max(0, end - 20) : end]}'"
                )
            end += 1
        following = words[position + 1].text[:1] if position + 1 < len(words) else ""
        while end < len(text) and not text[end].isspace() and not (following and _same(text[end], following)):
            mark = text[end]
            end += 1
        out.append(replace(word, punc=_FULL_WIDTH.get(mark, mark), written=text[begin:end]))
    return out


def _same(left: str, right: str) -> bool:
    return left == right or left.lower() == right.lower()


def _skippable(char: str) -> bool:
    return char.isspace() or not char.isalnum()


def with_marks(words: Sequence[Word], marks: Sequence[str]) -> list[Word]:
    """Words with marks, otherwise written as recognised: no capitals, no other spaces, ASCII marks after ASCII.

    Args:
        marks: full-width mark behind each word, "" for none.
    """
    out = []
    for word, mark in zip(words, marks, strict=True):
        shown = _ASCII_WIDTH.get(mark, mark) if word.text[-1:].isascii() else mark
        out.append(replace(word, punc=mark, written=word.lead + word.text + shown))
    return out


def clauses(words: Sequence[Word], *, return_raw_text: bool = False, english: bool = False) -> list[Sentence]:
    """Clauses of timed, punctuated words, as released FunASR lists them; see `funasr.text.sentences.marked_sentences`.

    [] if times are missing.
    """
    ids = [_mark_id(word.punc) for word in words]
    return marked_sentences(
        [word.text for word in words], ids, timestamps(words), return_raw_text=return_raw_text, english=english
    )


def surface_clauses(words: Sequence[Word]) -> list[Sentence]:
    """Clauses of timed, punctuated words with their text as it is written; the rest behind the last mark is one too."""
    out: list[Sentence] = []
    first = 0
    for position, word in enumerate(words):
        if not word.punc and position + 1 < len(words):
            continue
        part = words[first : position + 1]
        spans = timestamps(part)
        if spans:
            out.append(
                {
                    "text": written_text(part).strip(),
                    "start": spans[0][0],
                    "end": spans[-1][1],
                    "timestamp": spans,
                    "raw_text": raw_text(part).strip(),
                }
            )
        first = position + 1
    return out


def _mark_id(mark: str) -> int:
    """Marks that FunASR's lists do not have, such as `！`, end a sentence."""
    if not mark:
        return _NO_MARK
    return MARKS.index(mark) if mark in MARKS else _SENTENCE_END

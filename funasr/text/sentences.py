"""From words with marks and times to sentences: the `sentence_info` of a result.

Mark ids are those of the punctuation models: `<unk> _ ， 。 ？ 、`, so ids above 1 are marks.  Times are
[start_ms, end_ms].
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

MARKS = ("", "", "，", "。", "？", "、")
ENGLISH_MARKS = ("", "", ",", ".", "?", ",")
_ASCII_WIDTH = {"，": ",", "。": ".", "？": "?"}

Span = Sequence[int]
Sentence = dict[str, Any]

_TOKEN = re.compile(r"[\x00-\x7f]+|[^\x00-\x7f]")
_TAG = re.compile(r"<\|[^|<>]*\|>")
_LETTER = re.compile(r"[A-Za-z]")


def split_tokens(text: str) -> list[str]:
    """Runs of ASCII characters between spaces, and every other character alone."""
    return [token for piece in text.split() for token in _TOKEN.findall(piece)]


def join_segments(texts: Sequence[str]) -> str:
    """Texts of consecutive segments as one, without `<|...|>` tags: no space between two ideographs, else one."""
    parts: list[str] = []
    for text in filter(None, (_TAG.sub("", text).strip() for text in texts)):
        if parts and not (_is_ideograph(parts[-1][-1]) and _is_ideograph(text[0])):
            parts.append(" ")
        parts.append(text)
    return "".join(parts)


def _is_ideograph(char: str) -> bool:
    return "\u3400" <= char <= "\u9fff"


def marked_sentences(
    tokens: Sequence[str],
    punc_ids: Sequence[int] | None,
    timestamps: Sequence[Span],
    *,
    return_raw_text: bool = False,
    english: bool = False,
) -> list[Sentence]:
    """Clauses of a text, one for each mark: `text`, `start`, `end` (ms), `timestamp` of its tokens.

    A space stands before a token that begins with an ASCII letter or follows one, also at the beginning of a clause.
    Tokens behind the last mark are left out.  Without times there are no clauses; without marks (None or empty) the
    text is one clause.

    Args:
        punc_ids, timestamps: one for each token.  Where the longest of the three is longer, tokens or times that are
            missing add nothing and missing marks are no marks.
        return_raw_text: add `raw_text`, the tokens joined.
        english: ASCII marks, no space at the beginning of a clause, `raw_text` with spaces.
    """
    if not timestamps:
        return []
    marks = ENGLISH_MARKS if english else MARKS
    if not punc_ids:
        return [_clause(tokens, timestamps, "", return_raw_text, english)]
    clauses = []
    words: list[str] = []
    spans: list[Span] = []
    for token, mark, span in zip_longest(tokens, punc_ids, timestamps):
        if token is not None:
            words.append(token)
        if span is not None:
            spans.append(span)
        if mark is None or mark <= 1:
            continue
        if spans:  # a clause without any time has no place in the list
            clauses.append(_clause(words, spans, marks[mark], return_raw_text, english))
        words, spans = [], []
    return clauses


def _clause(tokens: Sequence[str], spans: Sequence[Span], mark: str, return_raw_text: bool, english: bool) -> Sentence:
    text = _with_spaces(tokens) + mark
    clause: Sentence = {
        "text": text.lstrip() if english else text,
        "start": spans[0][0],
        "end": spans[-1][1],
        "timestamp": [list(span) for span in spans],
    }
    if return_raw_text:
        clause["raw_text"] = (" " if english else "").join(tokens)
    return clause


def _with_spaces(tokens: Sequence[str]) -> str:
    parts: list[str] = []
    previous = ""
    for token in tokens:
        if _LETTER.match(token) or _LETTER.match(previous[-1:]):
            parts.append(" ")
        parts.append(token)
        previous = token
    return "".join(parts)


def mark_surface(text: str, punc_ids: Sequence[int]) -> str:
    """Text with marks put in and nothing else changed: no capitals, no spaces.

    Args:
        punc_ids: one for each token (`split_tokens`); behind an ASCII token a mark has ASCII width (but `、`).

    Raises ValueError for another number of ids.
    """
    parts: list[str] = []
    end = 0
    for _, stop, mark in _surface(text, punc_ids):
        parts += [text[end:stop], mark]
        end = stop
    return "".join([*parts, text[end:]])


def surface_sentences(text: str, punc_ids: Sequence[int], timestamps: Sequence[Span]) -> list[Sentence]:
    """Clauses of a text as it stands: `text` with its mark, `raw_text` without, `start`, `end`, `timestamp`.

    What is behind the last mark is a clause too.

    Args:
        punc_ids, timestamps: one for each token (`split_tokens`); ValueError for another number.
    """
    pieces = _surface(text, punc_ids)
    if len(timestamps) != len(pieces):
        raise ValueError(f"{len(timestamps)} timestamps for {len(pieces)} tokens")
    clauses: list[Sentence] = []
    first = 0
    for position, (_, stop, mark) in enumerate(pieces):
        if not mark and position + 1 < len(pieces):
            continue
        start = pieces[first][0]
        spans = [list(span) for span in timestamps[first : position + 1]]
        clauses.append(
            {
                "text": mark_surface(text[start:stop], punc_ids[first : position + 1]),
                "start": spans[0][0],
                "end": spans[-1][1],
                "timestamp": spans,
                "raw_text": text[start:stop],
            }
        )
        first = position + 1
    return clauses


def _surface(text: str, punc_ids: Sequence[int]) -> list[tuple[int, int, str]]:
    """(start, end, mark) in the text of each of its tokens."""
    places = [
        (piece.start() + token.start(), piece.start() + token.end())
        for piece in re.finditer(r"\S+", text)
        for token in _TOKEN.finditer(piece[0])
    ]
    if len(places) != len(punc_ids):
        raise ValueError(f"{len(punc_ids)} punctuation ids for {len(places)} tokens")
    found = []
    for (start, end), mark_id in zip(places, punc_ids):
        mark = MARKS[mark_id]
        found.append((start, end, _ASCII_WIDTH.get(mark, mark) if text[start].isascii() else mark))
    return found


def regroup_times(units: Sequence[str], timestamps: Sequence[Span], tokens: Sequence[str]) -> list[list[int]] | None:
    """Times of `tokens` from those of other units (sub-words) of the same text; None if it is not the same text.

    The time of a unit is shared out evenly over its characters; a token lasts from its first to its last character.
    """
    starts: list[int] = []
    ends: list[int] = []
    written: list[str] = []
    if len(units) != len(timestamps):
        return None
    for unit, (start, end) in zip(units, timestamps):
        bare = "".join(unit.split())
        written.append(bare)
        edges = [start + (end - start) * place // max(len(bare), 1) for place in range(len(bare) + 1)]
        starts += edges[:-1]
        ends += edges[1:]
    if "".join(written) != "".join(tokens) or not all(tokens):
        return None
    regrouped = []
    place = 0
    for token in tokens:
        regrouped.append([starts[place], ends[place + len(token) - 1]])
        place += len(token)
    return regrouped


def segment_sentences(
    segments: Sequence[Span], texts: Sequence[str], timestamps: Sequence[Sequence[Span]] | None = None
) -> list[Sentence]:
    """One entry per segment of the audio, for a text without marks: `start`, `end`, `text`, `sentence`, `timestamp`.

    Segments without text are left out.  An entry begins and ends with its tokens if they have times.

    Args:
        segments: [start_ms, end_ms] each; texts: of each segment.
        timestamps: for each segment those of its tokens, counted from the beginning of the audio.
    """
    entries = []
    times = timestamps if timestamps is not None else [[] for _ in segments]
    for segment, text, spans in zip(segments, texts, times):
        if not text.strip():
            continue
        start, end = (spans[0][0], spans[-1][1]) if spans else (segment[0], segment[1])
        timed = [list(span) for span in spans]
        entries.append({"start": start, "end": end, "text": text, "sentence": text, "timestamp": timed})
    return entries

"""From recognised tokens to the sentence a reader expects: sub-words joined, Chinese without gaps, abbreviations.

The released FunASR models write their text with these rules, so the same tokens give the same sentence here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

SPECIAL_TOKENS = frozenset(("<s>", "</s>", "<unk>", "<OOV>"))
"""Tokens that never reach the text."""

Span = Sequence[int]
"""Start and end of a token, ms."""

_CHINESE = re.compile(r"[\u4e00-\u9fff0-9@]+")
_LETTER = re.compile(r"[A-Za-z]")
_FIRST_PERSON = {"i": "I", "i'm": "I'm", "i've": "I've", "i'll": "I'll"}


@dataclass(frozen=True)
class _Piece:
    """A run of text that will not be split again, the time it covers (ms), and whether a gap follows it."""

    text: str
    span: tuple[int, int] | None
    gap: bool = False


def is_chinese(token: str) -> bool:
    """Whether every character is a CJK ideograph (U+4E00..U+9FFF), an ASCII digit or `@`."""
    return _CHINESE.fullmatch(token) is not None


def is_alphabetic(token: str) -> bool:
    """Whether every character is a letter that is no CJK ideograph, or an apostrophe."""
    return all(char == "'" or (char.isalpha() and not is_chinese(char)) for char in token)


def sentence_postprocess(
    tokens: Sequence[str], timestamps: Sequence[Span] | None = None
) -> tuple[str, list[list[int]] | None, list[str]]:
    """The sentence of a token sequence: (text, timestamps of its words or None, words).

    `<s> </s> <unk> <OOV>` are dropped; `timestamps` has one [start, end] in ms for each token that is left, and
    ValueError is raised for any other number.  Chinese characters and digits stand without gaps, `hel@@ lo` becomes
    `hello`, words are separated by one space, and single letters in a row become an abbreviation (`g p t` -> `GPT`).
    With timestamps all units are separated by one space, Chinese characters too.

    Two habits of the released models are kept.  A Chinese token does not close a pending `@@` word, and a `@@` word
    still pending at the end is dropped.  Tokens of any other kind (punctuation, `x1`) bring no time of their own: the
    times are dealt out to the units in order, so behind such a token they are those of the unit before.
    """
    kept = [token for token in tokens if token not in SPECIAL_TOKENS]
    spans: list[tuple[int, int] | None] = [None] * len(kept)
    if timestamps is not None:
        if len(timestamps) != len(kept):
            raise ValueError(f"{len(timestamps)} timestamps for {len(kept)} tokens (special tokens have none)")
        spans = [(start, end) for start, end in timestamps]
    pieces = _pieces(kept, spans)
    runs = _abbreviation_runs(pieces)
    words = ["".join(p.text for p in run).upper() if len(run) > 1 else run[0].text for run in runs]
    if timestamps is None:
        gaps = [" " if run[-1].gap else "" for run in runs]
        text = "".join(word + gap for word, gap in zip(words, gaps)).strip()
        return text, None, words
    return " ".join(words), _deal_spans(runs), words


def _pieces(tokens: Sequence[str], spans: Sequence[tuple[int, int] | None]) -> list[_Piece]:
    """Tokens with sub-words joined; an English word leaves a gap behind it unless a Chinese token follows at once.

    (A pending `@@` word between the two keeps the gap, as in the released models.)
    """
    pieces: list[_Piece] = []
    pending = ""
    pending_start: int | None = None
    for token, span in zip(tokens, spans):
        if is_chinese(token):
            if pieces and pieces[-1].gap and not pending:
                pieces[-1] = _Piece(pieces[-1].text, pieces[-1].span)
            pieces.append(_Piece(token, span))
        elif "@@" in token:
            if not pending and span is not None:
                pending_start = span[0]
            pending += token.replace("@@", "")
        elif is_alphabetic(token):
            joined = (pending_start, span[1]) if pending and span is not None and pending_start is not None else span
            pieces.append(_Piece(pending + token, joined, gap=True))
            pending = ""
        else:
            pieces.append(_Piece(token, None))
    return pieces


def _abbreviation_runs(pieces: Sequence[_Piece]) -> list[list[_Piece]]:
    """Pieces grouped so that single ASCII letters with only a gap between them are one group, all others alone."""
    runs: list[list[_Piece]] = []
    for piece in pieces:
        last = runs[-1][-1] if runs else None
        if last is not None and last.gap and _LETTER.fullmatch(last.text) and _LETTER.fullmatch(piece.text):
            runs[-1].append(piece)
        else:
            runs.append([piece])
    return runs


def _deal_spans(runs: Sequence[Sequence[_Piece]]) -> list[list[int]]:
    """One [start, end] per run for as long as there are times, given out in order of the pieces."""
    spans = [piece.span for run in runs for piece in run if piece.span is not None]
    dealt: list[list[int]] = []
    first = 0
    for run in runs:
        last = first + len(run) - 1
        if last < len(spans):
            dealt.append([spans[first][0], spans[last][1]])
        first = last + 1
    return dealt


def join_sentencepieces(pieces: Sequence[str]) -> tuple[str, list[str]]:
    """(text, words) of sentencepiece tokens: `▁` begins a word; `<s> </s> <unk> <OOV>` are dropped.

    The words have the English first person in capitals (`I`, `I'm`, `I've`, `I'll`), the text is left as it is, as in
    the released models.  No pieces give ("", [""]).
    """
    joined: list[str] = []
    for piece in pieces:
        if piece in SPECIAL_TOKENS:
            continue
        if "▁" in piece or not joined:
            joined.append("")
        joined[-1] += piece.replace("▁", "")
    joined = joined or [""]
    return " ".join(joined), [_FIRST_PERSON.get(word, word) for word in joined]

"""Punctuated text -> words and the mark after each: what a punctuation model is trained on and scored with.

Words are as a recogniser would give them: without quotes, brackets and other signs, hyphens are spaces, accents and
(by default) capitals are gone; every character that is not Latin is a word of its own.  A mark that the model does not
know becomes the nearest one it does: `！` and `；` a full stop, `：` a comma.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from funasr.datasets.punc_list import SENTENCE_ENDS, MarkMap, full_width
from funasr.models.ct_transformer.marks import NOTHING

_STRENGTH = "—…、，：；。！？"  # of several marks behind one word the strongest counts

_TITLES = frozenset({
    "mr", "mrs", "ms", "messrs", "dr", "st", "mme", "mlle", "prof", "rev", "hon", "col", "gen", "capt", "lieut", "lt",
    "sergt", "sgt", "maj", "adm",
})  # fmt: skip
_OTHER_ABBREVIATIONS = frozenset({
    "jr", "sr", "esq", "etc", "co", "ltd", "no", "nos", "vol", "viz", "vs", "cf", "fig", "dept", "al", "ed", "p", "pp",
    "ft", "oz", "lb", "lbs",
})  # fmt: skip

_LATIN = "A-Za-z\u00c0-\u024f"
_PIECE = re.compile(
    rf"(?P<dotted>(?<![{_LATIN}])[A-Za-z](?:\.[A-Za-z])+\.?(?![{_LATIN}]))"
    r"|(?P<number>\d+(?:[.,:]\d+)+)"
    rf"|(?P<word>[{_LATIN}\d]+(?:['’][{_LATIN}]+)*)"
    r"|(?P<dots>\.{2,}|。{2,}|…+|‥+)"
    r"|(?P<dash>-{2,}|[—―─]+|－{2,}|(?<=\s)[-–](?=\s))"
    r"|(?P<mark>[,，﹐.。｡?？!！;；:：、､])"
    r"|(?P<close>[\"'”’」』)）])"
    r"|(?P<other>[^\W_])"
)
_ROMAN = "[IVXLC]+"
_SMALL = "(?:a|an|and|by|for|from|in|of|on|or|the|to|with)"
_HEADING = re.compile(
    rf"(?:CHAPTER|Chapter|ADVENTURE|Adventure|BOOK|Book|PART|Part|VOLUME|Volume)\s+(?:{_ROMAN}|\d+)\b.*"
    r"|(?:[《<][^》>]*[》>])?\S{0,4}\s*第[一二三四五六七八九十百千零〇两\d]+[回章節节卷部集](?:\s.*)?"
)
_NUMBERED = re.compile(rf"{_ROMAN}\.?(?:\s+(?:[A-Z][\w'-]*|{_SMALL}))*")


@dataclass(frozen=True)
class Paragraph:
    """Words, the mark after each (`_` for none), and whether a chapter begins here."""

    words: tuple[str, ...]
    marks: tuple[str, ...]
    new_chapter: bool = False


def marked_words(text: str, marks: MarkMap, lower: bool = True) -> tuple[list[str], list[str]]:
    """Words of a text without line breaks, and the mark after each.

    A full stop counts unless it belongs to an abbreviation, an initial or a number, or a word in lower case follows
    (the same for `!`, which then is a comma).
    """
    words: list[str] = []
    found: list[str] = []  # the strongest written mark behind each word
    pieces = [(match.lastgroup or "", match.group()) for match in _PIECE.finditer(_simplify(text))]
    for position, (kind, piece) in enumerate(pieces):
        if kind in ("word", "number", "dotted", "other"):
            for word in _spoken(kind, piece, lower):
                words.append(word)
                found.append("")
        elif words and kind in ("dots", "dash", "mark"):
            mark = _meant(kind, piece, pieces, position)
            if _STRENGTH.find(mark) > _STRENGTH.find(found[-1] or "\0"):
                found[-1] = mark
    return words, [marks[mark] if mark else NOTHING for mark in found]


def _simplify(text: str) -> str:
    """Full-width letters and digits as ASCII, Latin letters without accents, `&` as a word."""
    return "".join(_simple(char) for char in text)


def _simple(char: str) -> str:
    if "\uff10" <= char <= "\uff5a":
        narrow = chr(ord(char) - 0xFEE0)
        return narrow if narrow.isalnum() else char
    if "\u00c0" <= char <= "\u024f":
        return "".join(c for c in unicodedata.normalize("NFKD", char) if not unicodedata.combining(c))
    return " and " if char == "&" else char


def _spoken(kind: str, piece: str, lower: bool) -> list[str]:
    if kind == "dotted":  # i.e., U.S.
        spelt = [char for char in piece if char != "."]
    else:
        spelt = [piece.replace(",", "") if kind == "number" else piece.replace("’", "'")]
    return [word.lower() for word in spelt] if lower else spelt


def _meant(kind: str, piece: str, pieces: Sequence[tuple[str, str]], position: int) -> str:
    """The mark (full-width) that a written sign is, "" if it is none."""
    following = next((p for k, p in pieces[position + 1 :] if k in ("word", "number", "dotted", "other")), "")
    if kind == "dash":
        return "—"
    if kind == "dots":
        closed = position + 1 == len(pieces) or pieces[position + 1][0] == "close" or following[:1].isupper()
        return "。" if closed else "…"
    mark = full_width(piece)
    if piece in ".!" and following[:1].islower():
        return "" if piece == "." else "，"
    if piece == "." and following:
        before = pieces[position - 1]
        word = before[1].lower()
        initial = before[0] == "word" and len(word) == 1 and word.isalpha() and word != "i"
        if before[0] == "dotted" or word in _TITLES or initial:
            return ""
        if word in _OTHER_ABBREVIATIONS and (following[0].isdigit() or pieces[position + 1][0] == "mark"):
            return ""
    return mark


def paragraphs(lines: Iterable[str], marks: MarkMap, lower: bool = True, wrapped: bool = True) -> Iterator[Paragraph]:
    """The paragraphs of a text, without headings and other lines that no mark ends.

    Args:
        lines: of the text; an empty or indented one begins a paragraph, a heading (`Chapter 3`, `第三回`) is one.
        wrapped: other lines go on with the paragraph; False: each line is a paragraph.
    """
    new_chapter = False
    for block in _blocks(lines, wrapped):
        if _HEADING.fullmatch(block) or _NUMBERED.fullmatch(block):
            new_chapter = True
            continue
        words, found = marked_words(block, marks, lower)
        if words and found[-1] == NOTHING:  # a heading, or a line that breaks off
            end = max((i for i, mark in enumerate(found) if mark in SENTENCE_ENDS), default=-1)
            words, found = (words[: end + 1], found[: end + 1]) if end >= 2 else ([], [])
        if words:
            yield Paragraph(tuple(words), tuple(found), new_chapter)
            new_chapter = False


def _blocks(lines: Iterable[str], wrapped: bool) -> Iterator[str]:
    block: list[str] = []
    for line in lines:
        content = line.strip()
        heading = _HEADING.fullmatch(content) is not None  # a numbered title also, but in the midst of a paragraph
        heading = heading or (not block and _NUMBERED.fullmatch(content) is not None)  # such a line is just wrapped
        if block and (not wrapped or not content or heading or line[0] in " \t\u3000"):
            yield _joined(block)
            block = []
        if heading:
            yield content
        elif content:
            block.append(content)
    if block:
        yield _joined(block)


def _joined(lines: Sequence[str]) -> str:
    """Wrapped lines as one: a space between them unless both sides are wide characters."""
    text = lines[0]
    for line in lines[1:]:
        text += line if _is_wide(text[-1]) and _is_wide(line[0]) else f" {line}"
    return text


def _is_wide(char: str) -> bool:
    return unicodedata.east_asian_width(char) in "WF"

"""Tokens and marks as text, as the released models write it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from funasr.models.ct_transformer.marks import Marks


def is_ascii(char: str) -> bool:
    """Whether the character takes one byte."""
    return ord(char) < 128


def write_text(
    tokens: Sequence[str], found: Sequence[int], begins: Collection[int], marks: Marks
) -> tuple[str, list[int]]:
    """The punctuated text of a whole text, and its mark ids with the last sentence closed.

    ASCII words are separated by spaces from each other, not from Chinese, and have ASCII marks (but `、`); the first
    of a sentence is capitalised, and its other letters become lower case.

    Args:
        tokens: at least one; found: mark id of each.
        begins: positions at which a released window begins; there an ASCII word always has a space before it.
    """
    parts: list[str] = []
    for position, (token, mark) in enumerate(zip(tokens, found)):
        word, ascii_width = token, is_ascii(token[0])
        if ascii_width:
            if position in begins or is_ascii(tokens[position - 1][0]):
                parts.append(" ")
            if position == 0 or found[position - 1] in marks.ends:
                word = token.capitalize()
        parts += [word, marks.written(mark, ascii_width)]
    return _close("".join(parts), found, marks)


def close_last(word: str, mark: int, marks: Marks) -> int:
    """The mark of the last word of a text: a sentence end unless the word or the mark is one already."""
    shown = marks.written(mark, is_ascii(word[0])) or word[-1]
    return mark if _is_closed(shown) else marks.sentence_end


def _is_closed(char: str) -> bool:
    return char in "。？.?"


def _close(text: str, found: Sequence[int], marks: Marks) -> tuple[str, list[int]]:
    last = text[-1]
    if _is_closed(last):
        return text, list(found)
    if last in "，、":
        text = text[:-1] + "。"
    elif last == ",":
        text = text[:-1] + "."
    else:
        text += "." if is_ascii(last) else "。"
    return text, [*found[:-1], marks.sentence_end]

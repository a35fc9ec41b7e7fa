"""How a text, or a list of words, is cut into the tokens of a punctuation model."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

from funasr.text.sentences import split_tokens

Cutter = Callable[[str], list[str]]
"""Cuts text without spaces into words."""

_ENGLISH = re.compile(r"[a-zA-Z']+")


def tokenize_words(words: Sequence[str], cut: Cutter | None = None) -> tuple[list[str], list[int]]:
    """Tokens of a list of words, and for each token the position of the word in which it ends.

    Without `cut` a token is a run of ASCII characters or one other character.  With `cut` English words are tokens
    and what stands between them is cut as one text, so a token may begin in one word and end in a later one.
    """
    tokens: list[str] = []
    owners: list[int] = []
    if cut is None:
        for position, word in enumerate(words):
            found = split_tokens(word)
            tokens += found
            owners += [position] * len(found)
        return tokens, owners
    run: list[str] = []
    run_owners: list[int] = []  # of each character of the run

    def close_run() -> None:
        end = 0
        for token in cut("".join(run)) if run else ():
            end += len(token)
            tokens.append(token)
            owners.append(run_owners[end - 1])
        run.clear()
        run_owners.clear()

    for position, word in enumerate(words):
        for piece in word.split():
            if _ENGLISH.fullmatch(piece):
                close_run()
                tokens.append(piece)
                owners.append(position)
            else:
                run.append(piece)
                run_owners += [position] * len(piece)
    close_run()
    return tokens, owners


@lru_cache(maxsize=8)
def word_cutter(user_dict: str) -> Cutter:
    """A jieba cutter of its own: the default dictionary plus `user_dict` (one word per line), no word guessing.

    Raises ImportError with the install line if jieba is missing, FileNotFoundError if the file is.
    """
    try:
        import jieba
    except ImportError:
        raise ImportError(
            f"this punctuation model cuts Chinese into words ({Path(user_dict).name}), which needs jieba: "
            "pip install jieba"
        ) from None
    # Not the module's own cutter, whose dictionary all users in the process share.
    cutter = jieba.Tokenizer()
    with open(user_dict, "rb") as file:
        cutter.load_userdict(file)

    def cut(text: str) -> list[str]:
        return cutter.lcut(text, HMM=False)

    return cut


def spread_over_characters(tokens: Sequence[str], marks: Sequence[int], nothing: int) -> list[int]:
    """Mark ids per Chinese character and per other token, from mark ids per token: a word's mark is its last one's."""
    spread: list[int] = []
    for token, mark in zip(tokens, marks):
        if "\u0e00" <= token[0] <= "\u9fa5":
            spread += [nothing] * (len(token) - 1)
        spread.append(mark)
    return spread

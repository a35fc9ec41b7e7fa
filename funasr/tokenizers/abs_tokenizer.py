"""What every tokenizer is: a way to cut text into tokens and join them, and a list that numbers the tokens."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

from funasr.tokenizers.token_list import UNK, read_token_list
from funasr.utils.data_dir import read_lines
from funasr.utils.errors import ConfigError

TokenListSource = str | Path | Sequence[str]


class AbsTokenizer(ABC):
    """Text <-> tokens (subclass) and tokens <-> ids (here).

    `token_list` is a list of tokens or a path to tokens.txt / tokens.json (see `read_token_list`); without one only
    text <-> tokens works.  A token that is not in the list gets the id of `unk_symbol`.
    """

    def __init__(self, token_list: TokenListSource | None = None, unk_symbol: str = UNK) -> None:
        self.unk_symbol = unk_symbol
        self._tokens = None if token_list is None else read_token_list(token_list, unk_symbol)

    @abstractmethod
    def text2tokens(self, text: str) -> list[str]:
        """The tokens of a text."""

    @abstractmethod
    def tokens2text(self, tokens: Sequence[str]) -> str:
        """The text of a token sequence."""

    @property
    def token_list(self) -> list[str]:
        """All tokens; a token's place is its id.  Raises ConfigError if the tokenizer has no list."""
        if self._tokens is None:
            raise ConfigError(f"{type(self).__name__} has no token_list, so it cannot turn tokens into ids")
        return self._tokens

    @property
    def vocab_size(self) -> int:
        """Number of tokens."""
        return len(self.token_list)

    @cached_property
    def token_ids(self) -> dict[str, int]:
        """Token -> id."""
        return {token: index for index, token in enumerate(self.token_list)}

    def tokens2ids(self, tokens: Iterable[str]) -> list[int]:
        """Ids of tokens; unknown ones get the id of the unknown symbol."""
        unknown = self.token_ids[self.unk_symbol]
        return [self.token_ids.get(token, unknown) for token in tokens]

    def ids2tokens(self, ids: Iterable[int]) -> list[str]:
        """Tokens of ids (ints, or a 1-D array or tensor).  Raises IndexError for an id outside of the list."""
        tokens = self.token_list
        numbers = [int(number) for number in ids]
        for number in numbers:
            if not 0 <= number < len(tokens):
                raise IndexError(f"token id {number} is outside of the token list (0..{len(tokens) - 1})")
        return [tokens[number] for number in numbers]

    def encode(self, text: str) -> list[int]:
        """Ids of a text."""
        return self.tokens2ids(self.text2tokens(text))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids."""
        return self.tokens2text(self.ids2tokens(ids))


def read_symbols(symbols: TokenListSource | None) -> list[str]:
    """Non-linguistic symbols (`<noise>`, `[laughter]`) from a list or a file with one per line."""
    if symbols is None:
        return []
    if not isinstance(symbols, (str, Path)):
        return [symbol for symbol in symbols if symbol]
    if not Path(symbols).is_file():
        raise ConfigError(f"non_linguistic_symbols: file {symbols} does not exist")
    return [line.strip() for _, line in read_lines(symbols) if line.strip()]


def symbol_pattern(symbols: Iterable[str]) -> re.Pattern[str]:
    """A pattern with one group that finds any of `symbols`, the longest first; nothing if there are none."""
    ordered = sorted(set(symbols), key=lambda symbol: (-len(symbol), symbol))
    return re.compile("(" + "|".join(map(re.escape, ordered)) + ")" if ordered else "((?!))")

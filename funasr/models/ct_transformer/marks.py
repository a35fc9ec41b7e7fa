"""The punctuation marks of a model by id, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from funasr.utils.errors import ConfigError

NOTHING = "_"
_FULL_WIDTH = {",": "，", "?": "？", ".": "。"}
_ASCII = {"，": ",", "。": ".", "？": "?"}


class Marks:
    """`punc_list` as a model directory gives it: `<unk> _ ， 。 ？ 、`, where `_` means no mark.

    Lists with ASCII marks mean the full-width ones.  Raises ConfigError if `_` is missing or `sentence_end_id` is not
    in the list.
    """

    def __init__(self, punc_list: Sequence[str], sentence_end_id: int) -> None:
        self.symbols = tuple(_FULL_WIDTH.get(mark, mark) for mark in punc_list)
        if NOTHING not in self.symbols:
            raise ConfigError(f"punc_list {list(punc_list)} lacks '{NOTHING}', the sign for no mark")
        if not 0 <= sentence_end_id < len(self.symbols):
            raise ConfigError(f"sentence_end_id {sentence_end_id} is outside of punc_list (0..{len(self.symbols) - 1})")
        self.sentence_end = sentence_end_id
        self.nothing = self.symbols.index(NOTHING)

    @cached_property
    def ends(self) -> frozenset[int]:
        """Ids that end a sentence."""
        return frozenset(i for i, symbol in enumerate(self.symbols) if symbol in "。？")

    @cached_property
    def commas(self) -> frozenset[int]:
        """Ids of the comma."""
        return frozenset(i for i, symbol in enumerate(self.symbols) if symbol == "，")

    def written(self, mark: int, ascii_width: bool = False) -> str:
        """What a mark adds to the text; `_` and special symbols such as `<unk>` add nothing."""
        symbol = self.symbols[mark]
        if symbol == NOTHING or symbol.startswith("<"):
            return ""
        return _ASCII.get(symbol, symbol) if ascii_width else symbol

    def is_mark(self, mark: int) -> bool:
        """Whether the id stands for a written mark."""
        return self.written(mark) != ""

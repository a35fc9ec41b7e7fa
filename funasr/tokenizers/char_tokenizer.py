"""Characters as tokens, with an optional dictionary that cuts words into `hel@@ lo` pieces (Paraformer and kin)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from funasr.register import tables
from funasr.text.postprocess import SPECIAL_TOKENS, sentence_postprocess
from funasr.tokenizers.abs_tokenizer import AbsTokenizer, TokenListSource, read_symbols, symbol_pattern
from funasr.tokenizers.token_list import SPACE, UNK
from funasr.utils.data_dir import read_lines
from funasr.utils.errors import ConfigError, DataError

SegDict = Mapping[str, Sequence[str]]

_SPELLABLE = re.compile(r"[\u4e00-\u9fffA-Za-z0-9]")


@tables.register("tokenizer_classes", "CharTokenizer", aliases=("char",))
class CharTokenizer(AbsTokenizer):
    """One token per character; three ways, in this order of precedence:

    * `seg_dict` (mapping word -> pieces, or a file of `word piece piece ...` lines; `seg_dict_file` is its other name):
      each word between spaces is lower-cased and looked up.  A word that is not there and begins with a CJK, Latin or
      digit character is looked up character by character; anything else is the unknown symbol.
    * `split_with_space`, for text that is already cut (`你 好 hel@@ lo`): a word between spaces is one token if it is
      in the token list (or there is no list), else it is cut into characters.  Without meaning if `space_symbol` is
      in the token list, because spaces are then tokens.
    * otherwise each character is a token.  `non_linguistic_symbols` (list, or file with one per line) are kept whole,
      or left out with `remove_non_linguistic_symbols`.  A gap between words is `space_symbol` if that is in the token
      list or there is no list, else it is dropped.  `space_symbol=None` drops gaps always.

    `tokens2text` writes the sentence as released FunASR does (`sentence_postprocess`), or, if `space_symbol` is in the
    token list, joins the tokens.
    """

    def __init__(
        self,
        token_list: TokenListSource | None = None,
        unk_symbol: str = UNK,
        *,
        space_symbol: str | None = SPACE,
        non_linguistic_symbols: TokenListSource | None = None,
        remove_non_linguistic_symbols: bool = False,
        split_with_space: bool = False,
        seg_dict: SegDict | str | Path | None = None,
        seg_dict_file: str | Path | None = None,
    ) -> None:
        super().__init__(token_list, unk_symbol)
        if seg_dict is not None and seg_dict_file is not None:
            raise ConfigError("seg_dict and seg_dict_file are two names of one option; give only one")
        source = seg_dict if seg_dict is not None else seg_dict_file
        self.seg_dict = read_seg_dict(source) if isinstance(source, (str, Path)) else source
        self.space_symbol = space_symbol
        self.split_with_space = split_with_space
        self.remove_non_linguistic_symbols = remove_non_linguistic_symbols
        self._symbols = set(read_symbols(non_linguistic_symbols))
        whole = self._symbols if space_symbol is None else self._symbols | {space_symbol}
        self._pattern = symbol_pattern(whole)

    @property
    def spaces_are_tokens(self) -> bool:
        """Whether the token list has a token for the gap between words."""
        return self._tokens is not None and self.space_symbol in self.token_ids

    def text2tokens(self, text: str) -> list[str]:
        if self.seg_dict is not None:
            return [token for word in text.strip().split(" ") for token in self._look_up(word.lower())]
        if self.split_with_space and not self.spaces_are_tokens:
            words = [word for word in text.split(" ") if word]
            return [token for word in words for token in self._known_or_characters(word)]
        return self._characters(text)

    def tokens2text(self, tokens: Sequence[str]) -> str:
        if self.spaces_are_tokens:
            kept = [token for token in tokens if token not in SPECIAL_TOKENS]
            return "".join(" " if token == self.space_symbol else token for token in kept).strip()
        return sentence_postprocess(tokens)[0]

    def _look_up(self, word: str) -> list[str]:
        entries = self.seg_dict or {}
        if word in entries:
            return list(entries[word])
        if not _SPELLABLE.match(word):
            return [self.unk_symbol]
        return [token for char in word for token in entries.get(char, (self.unk_symbol,))]

    def _known_or_characters(self, word: str) -> list[str]:
        if self.remove_non_linguistic_symbols and word in self._symbols:
            return []
        if self._tokens is None or word in self.token_ids:
            return [word]
        return self._characters(word)

    def _characters(self, text: str) -> list[str]:
        gap = self.space_symbol if self._tokens is None or self.spaces_are_tokens else None
        # Text that names its gaps ("a b <space> c") uses plain spaces only to keep its tokens apart.
        plain = None if gap is not None and gap in text else gap
        tokens: list[str | None] = []
        for index, part in enumerate(self._pattern.split(text.strip(" "))):
            if index % 2 == 0:
                tokens.extend(plain if char == " " else char for char in re.sub(" +", " ", part))
            elif part == self.space_symbol:
                tokens.append(gap)
            elif not self.remove_non_linguistic_symbols:
                tokens.append(part)
        return [token for token in tokens if token is not None]


def read_seg_dict(path: str | Path) -> dict[str, list[str]]:
    """Word -> pieces of a `word piece piece ...` file; of a word given twice the last entry counts.

    Raises ConfigError if the file does not exist, DataError (with the line) for a word without pieces.
    """
    if not Path(path).is_file():
        raise ConfigError(f"seg_dict {path} does not exist or is not a file")
    entries: dict[str, list[str]] = {}
    for number, line in read_lines(path):
        fields = line.split()
        if len(fields) == 1:
            raise DataError(f"{path}:{number}: '{fields[0]}' has no pieces; a line is `word piece piece ...`")
        if fields:
            entries[fields[0]] = fields[1:]
    return entries

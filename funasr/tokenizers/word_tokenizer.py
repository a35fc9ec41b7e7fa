"""Words as tokens."""

from __future__ import annotations

from collections.abc import Sequence

from funasr.register import tables
from funasr.tokenizers.abs_tokenizer import AbsTokenizer, TokenListSource, read_symbols
from funasr.tokenizers.token_list import UNK
from funasr.utils.errors import ConfigError


@tables.register("tokenizer_classes", "WordTokenizer", aliases=("word",))
class WordTokenizer(AbsTokenizer):
    """Tokens are what stands between the `delimiter`s (None: any white space).

    `non_linguistic_symbols` (list, or file with one per line) are left out with `remove_non_linguistic_symbols`.
    """

    def __init__(
        self,
        token_list: TokenListSource | None = None,
        unk_symbol: str = UNK,
        delimiter: str | None = None,
        non_linguistic_symbols: TokenListSource | None = None,
        remove_non_linguistic_symbols: bool = False,
    ) -> None:
        super().__init__(token_list, unk_symbol)
        if delimiter == "":
            raise ConfigError("delimiter must not be empty; leave it out to split at white space")
        if remove_non_linguistic_symbols and non_linguistic_symbols is None:
            raise ConfigError("remove_non_linguistic_symbols needs non_linguistic_symbols, the symbols to remove")
        self.delimiter = delimiter
        self._removed = set(read_symbols(non_linguistic_symbols)) if remove_non_linguistic_symbols else set()

    def text2tokens(self, text: str) -> list[str]:
        return [word for word in text.split(self.delimiter) if word and word not in self._removed]

    def tokens2text(self, tokens: Sequence[str]) -> str:
        return (" " if self.delimiter is None else self.delimiter).join(tokens)

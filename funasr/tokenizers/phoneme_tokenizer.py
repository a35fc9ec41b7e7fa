"""Phonemes as tokens, given in the text or found by a grapheme-to-phoneme package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from funasr.register import nearest_names, tables
from funasr.tokenizers.abs_tokenizer import AbsTokenizer, TokenListSource, read_symbols, symbol_pattern
from funasr.tokenizers.token_list import SPACE, UNK
from funasr.utils.errors import ConfigError

_INSTALL = "pip install funasr[g2p]"


def _space_separated(text: str) -> list[str]:
    return text.split()


def _english_g2p() -> Callable[[str], list[str]]:
    try:
        from g2p_en import G2p
    except ImportError:
        raise ConfigError(f"g2p_type g2p_en needs the g2p_en package: {_INSTALL}") from None
    convert = G2p()
    return lambda text: [phone for phone in convert(text) if phone.strip() or phone == " "]


def _pinyin_g2p() -> Callable[[str], list[str]]:
    """One token per syllable with its tone: `ni3 hao3`."""
    pinyin, style, _ = _pypinyin("pypinyin_g2p")
    return lambda text: [syllable[0] for syllable in pinyin(text, style=style.TONE3)]


def _pinyin_phone_g2p() -> Callable[[str], list[str]]:
    """Initial and final of each syllable: `n i3 h ao3`."""
    pinyin, style, contrib = _pypinyin("pypinyin_g2p_phone")

    def convert(text: str) -> list[str]:
        phones = []
        for (syllable,) in pinyin(text, style=style.TONE3):
            parts = (contrib.to_initials(syllable, strict=True), contrib.to_finals_tone3(syllable, strict=True))
            phones.extend([part for part in parts if part] or [syllable])
        return phones

    return convert


def _pypinyin(g2p_type: str) -> tuple[Any, Any, Any]:
    try:
        import pypinyin
        from pypinyin.contrib import tone_convert
    except ImportError:
        raise ConfigError(f"g2p_type {g2p_type} needs the pypinyin package: {_INSTALL}") from None
    return pypinyin.pinyin, pypinyin.Style, tone_convert


_G2P: dict[str, Callable[[], Callable[[str], list[str]]]] = {
    "none": lambda: _space_separated,
    "g2p_en": _english_g2p,
    "pypinyin_g2p": _pinyin_g2p,
    "pypinyin_g2p_phone": _pinyin_phone_g2p,
}

G2P_TYPES = tuple(_G2P)


@tables.register("tokenizer_classes", "PhonemeTokenizer", aliases=("phn",))
class PhonemeTokenizer(AbsTokenizer):
    """Phonemes of a text.

    `g2p_type`: None or "none" for text that is phonemes already, separated by spaces; "g2p_en" (English, ARPAbet, gaps
    between words as `space_symbol`); "pypinyin_g2p" (Mandarin syllables with tone), "pypinyin_g2p_phone" (their
    initials and finals).  A package that is missing is a ConfigError with the install line.

    `non_linguistic_symbols` (list, or file with one per line) are kept whole, or left out with
    `remove_non_linguistic_symbols`.  The package is loaded at the first use and never pickled.
    """

    def __init__(
        self,
        token_list: TokenListSource | None = None,
        unk_symbol: str = UNK,
        *,
        g2p_type: str | None = None,
        space_symbol: str | None = SPACE,
        non_linguistic_symbols: TokenListSource | None = None,
        remove_non_linguistic_symbols: bool = False,
    ) -> None:
        super().__init__(token_list, unk_symbol)
        self.g2p_type = g2p_type or "none"
        if self.g2p_type not in _G2P:
            near = nearest_names(self.g2p_type, list(_G2P))
            hint = f" Did you mean {near[0]}?" if near else ""
            raise ConfigError(f"unknown g2p_type '{g2p_type}'.{hint} Known: {', '.join(_G2P)}.")
        self.space_symbol = space_symbol
        self.remove_non_linguistic_symbols = remove_non_linguistic_symbols
        self._pattern = symbol_pattern(read_symbols(non_linguistic_symbols))
        self._g2p: Callable[[str], list[str]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_g2p": None}

    def text2tokens(self, text: str) -> list[str]:
        if self._g2p is None:
            self._g2p = _G2P[self.g2p_type]()
        tokens: list[str] = []
        for index, part in enumerate(self._pattern.split(text)):
            if index % 2 == 0 and part.strip():
                tokens.extend(self._g2p(part))
            elif index % 2 == 1 and not self.remove_non_linguistic_symbols:
                tokens.append(part)
        named = [token if token.strip() else self.space_symbol for token in tokens]
        return [token for token in named if token is not None]

    def tokens2text(self, tokens: Sequence[str]) -> str:
        """Phonemes separated by spaces; the letters they came from cannot be had back."""
        return " ".join(tokens)

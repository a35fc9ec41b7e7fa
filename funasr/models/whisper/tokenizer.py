"""Byte-pair tokens of Whisper, from a `.tiktoken` file (base64 of the bytes and a rank in each line)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from funasr.models.whisper.tokens import SpecialIds
from funasr.register import tables
from funasr.tokenizers.abs_tokenizer import AbsTokenizer
from funasr.utils.errors import ConfigError, DataError

# Where text is cut before byte pairs are merged (Radford et al., "Language Models are Unsupervised Multitask
# Learners", 2019).
_WORDS = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
# Signs that stand in subtitles for what is not speech.
_NON_SPEECH = '"#()*+/:;<=>@[\\]^_`{|}~「」『』'
_NON_SPEECH_RUNS = "<< >> <<< >>> -- --- -( -[ (' (\" (( )) ((( ))) [[ ]] {{ }} ♪♪ ♪♪♪"
_MUSIC = "♩♪♫♬♭♮♯"


@tables.register("tokenizer_classes", "WhisperTokenizer")
class WhisperTokenizer(AbsTokenizer):
    """Text tokens of `vocab_path`, then the special tokens of funasr.models.whisper.tokens.

    A token's string has one character for each byte (Latin-1), because many tokens are parts of a character.

    Args:
        vocab_path: `multilingual.tiktoken` or `gpt2.tiktoken`.
        num_languages: 99, or 100 for large-v3 and its kin.
    """

    def __init__(self, vocab_path: str | Path, num_languages: int = 99) -> None:
        super().__init__(None)
        self.vocab_path = Path(vocab_path)
        self.num_languages = num_languages
        self.ranks = read_ranks(self.vocab_path)

    @cached_property
    def special(self) -> SpecialIds:
        """Where the special tokens lie."""
        return SpecialIds(len(self.ranks), self.num_languages, multilingual=len(self.ranks) != 50256)

    @cached_property
    def _strings(self) -> list[str]:
        return [*(token.decode("latin-1") for token in self.ranks), *self.special.names()]

    @property
    def token_list(self) -> list[str]:
        return self._strings

    @cached_property
    def _encoding(self) -> Any:
        try:
            import tiktoken
        except ImportError:
            raise ImportError("to turn text into Whisper tokens: pip install 'funasr[whisper]'") from None
        return tiktoken.Encoding(self.vocab_path.stem, pat_str=_WORDS, mergeable_ranks=self.ranks, special_tokens={})

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_encoding"}

    def text2tokens(self, text: str) -> list[str]:
        """The tokens of a text, which holds no special ones.  Needs the tiktoken package."""
        return self.ids2tokens(self._encoding.encode_ordinary(text))

    def tokens2ids(self, tokens: Iterable[str]) -> list[int]:
        """Ids of tokens.  Raises DataError for a string that is no token."""
        try:
            return [self.token_ids[token] for token in tokens]
        except KeyError as error:
            raise DataError(f"{error} is no token of {self.vocab_path}") from None

    def tokens2text(self, tokens: Sequence[str]) -> str:
        """The text; special tokens are left out, a broken character becomes U+FFFD."""
        text = b"".join(token.encode("latin-1") for token in tokens if not self._is_special(token))
        return text.decode("utf-8", errors="replace")

    def _is_special(self, token: str) -> bool:
        return self.token_ids[token] >= self.special.eot

    @cached_property
    def blank_id(self) -> int | None:
        """A space alone."""
        return self.ranks.get(b" ")

    @cached_property
    def non_speech_ids(self) -> tuple[int, ...]:
        """Tokens of signs that are not spoken (brackets, notes, ...), alone or after a space."""
        signs = [sign.encode() for sign in (*_NON_SPEECH, *_NON_SPEECH_RUNS.split())]
        signs += [sign.encode()[:length] for sign in _MUSIC for length in (2, 3)]
        signs += [b" " + sign for sign in signs] + [b" -", b" '"]
        return tuple(sorted({self.ranks[sign] for sign in signs if sign in self.ranks}))


def read_ranks(path: Path) -> dict[bytes, int]:
    """Token bytes -> rank, in order of rank.  Raises ConfigError for a missing file, DataError for a wrong one."""
    if not path.is_file():
        raise ConfigError(f"vocab_path {path} does not exist or is not a file")
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error):
            raise DataError(f"{path}:{number}: a line is `<token in base64> <rank>`") from None
    if sorted(ranks.values()) != list(range(len(ranks))):
        raise DataError(f"{path}: ranks must be 0, 1, ... without a gap, each with a token of its own")
    return dict(sorted(ranks.items(), key=lambda item: item[1]))

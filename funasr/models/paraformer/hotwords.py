"""Hotwords: from what the caller gives to ids, and from ids to one vector per hotword."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from funasr.tokenizers.char_tokenizer import CharTokenizer
from funasr.utils.data_dir import read_lines
from funasr.utils.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

Hotwords = str | Path | Sequence[str] | None
"""Text with white space between the hotwords, the path of a .txt file with one on each line, or a list."""

_SPELLABLE = re.compile(r"[\u4e00-\u9fa50-9]+")


def read_hotwords(hotwords: Hotwords) -> list[str] | None:
    """The hotwords one by one; None if there are none to bias with.

    Hotwords of several words are possible in lists and files.  A .txt file that does not exist counts as None, with
    a warning, as in released FunASR.  Raises DataError for a URL.
    """
    if hotwords is None:
        return None
    if not isinstance(hotwords, (str, Path)):
        return [word.strip() for word in hotwords if word.strip()]
    if str(hotwords).startswith(("http://", "https://")):
        raise DataError(f"hotword: '{hotwords}' is a URL; download the list and give its path")
    if not str(hotwords).endswith(".txt"):
        return str(hotwords).split()
    if not Path(hotwords).is_file():
        logger.warning("hotword: %s does not exist; nothing is biased", hotwords)
        return None
    return [line.strip() for _, line in read_lines(hotwords) if line.strip()]


def hotword_tokens(hotword: str, tokenizer: Any) -> list[str]:
    """Tokens of one hotword.

    With the dictionary of a CharTokenizer each word is lower-cased and looked up; one that is not there is looked up
    character by character if all of them are CJK or digits, and is the unknown symbol otherwise.  Without dictionary
    a word is one token if it is in the token list, else its characters.  Other tokenizers cut as they always do.
    """
    if not isinstance(tokenizer, CharTokenizer):
        return list(tokenizer.text2tokens(hotword))
    words, known = hotword.split(), tokenizer.seg_dict
    if known is None:
        return [part for word in words for part in ([word] if word in tokenizer.token_ids else word)]
    tokens: list[str] = []
    for word in (word.lower() for word in words):
        parts = [word] if word in known or not _SPELLABLE.fullmatch(word) else list(word)
        tokens += [token for part in parts for token in known.get(part, (tokenizer.unk_symbol,))]
    return tokens


def encode_hotwords(hotwords: Hotwords, tokenizer: Any, sos: int) -> list[list[int]] | None:
    """Ids of each hotword and, last, `[sos]`, which stands for no hotword; None if there is nothing to bias with."""
    words = read_hotwords(hotwords)
    if words is None:
        return None
    if words and tokenizer is None:
        raise ConfigError("hotword needs the model's tokenizer to turn hotwords into tokens")
    ids = [list(tokenizer.tokens2ids(hotword_tokens(word, tokenizer))) for word in words]
    return [*(entry for entry in ids if entry), [sos]]


def pad_hotwords(ids: Sequence[Sequence[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids (hotwords, tokens) padded with 0, and lengths (hotwords,)."""
    rows = [torch.tensor(entry, dtype=torch.long) for entry in ids]
    lengths = torch.tensor([len(row) for row in rows])
    return nn.utils.rnn.pad_sequence(rows, batch_first=True).to(device), lengths.to(device)


def last_outputs(lstm: nn.LSTM, embedded: Tensor, lengths: Tensor) -> Tensor:
    """Output of the LSTM at each hotword's last token.

    Args:
        embedded: (hotwords, tokens, dim); lengths: (hotwords,), at least 1.

    Returns:
        (hotwords, width); of a bidirectional LSTM the backward half has seen only the last token.
    """
    if lstm.bidirectional:  # padding must not come before the words of the backward direction
        packed = nn.utils.rnn.pack_padded_sequence(embedded, lengths.cpu(), batch_first=True, enforce_sorted=False)
        outputs = nn.utils.rnn.pad_packed_sequence(lstm(packed)[0], batch_first=True)[0]
    else:
        outputs = lstm(embedded)[0]
    return outputs[torch.arange(outputs.size(0), device=outputs.device), lengths - 1]


def check_bias_encoder(model: nn.Module, kind: str) -> None:
    """Raise ConfigError unless `bias_encoder_type` is "lstm"; released FunASR fails at run time with any other."""
    if kind != "lstm":
        raise ConfigError(f"model_conf: bias_encoder_type of {type(model).__name__} must be lstm, not {kind}")


def check_hotword_batch(hotword_pad: Tensor | None, hotword_lengths: Tensor | None) -> tuple[Tensor, Tensor]:
    """The hotwords (hotwords, tokens), (hotwords,) of a training batch, or DataError if it has none."""
    if hotword_pad is None or hotword_lengths is None:
        raise DataError("a hotword model is trained on batches with `hotword_pad` and `hotword_lengths`")
    return hotword_pad, hotword_lengths

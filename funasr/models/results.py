"""From token ids to the dict that `inference` returns, the same for all recognisers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

BLANK, SOS, EOS = 0, 1, 2


def make_result(
    key: str, ids: Sequence[int], tokenizer: Any = None, drop: Collection[int] = (BLANK, SOS, EOS)
) -> dict[str, Any]:
    """`{"key", "token", "text"}` of one hypothesis; without a tokenizer `{"key", "token_int"}`.

    Args:
        key: name of the utterance.
        ids: token ids; those in `drop` are taken out wherever they stand.
        tokenizer: gives `ids2tokens` and `tokens2text`.
    """
    kept = [int(i) for i in ids if int(i) not in drop]
    if tokenizer is None:
        return {"key": key, "token_int": kept}
    tokens = tokenizer.ids2tokens(kept)
    return {"key": key, "token": tokens, "text": tokenizer.tokens2text(tokens) if tokens else ""}

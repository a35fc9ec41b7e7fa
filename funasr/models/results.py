"""From token ids to the dict that `inference` returns, the same for all recognisers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

BLANK, SOS, EOS = 0, 1, 2


def make_result(
    key: str,
    ids: Sequence[int],
    tokenizer: Any = None,
    drop: Collection[int] = (BLANK, SOS, EOS),
    score: float | None = None,
) -> dict[str, Any]:
    """`{"key", "token", "text"}` of one hypothesis; without a tokenizer `{"key", "token_int"}`.

    Args:
        key: name of the utterance.
        ids: token ids; those in `drop` are taken out wherever they stand.
        tokenizer: gives `ids2tokens` and `tokens2text`.
        score: log-probability of the hypothesis.  If given, the result has `score` and always `token_int`.
    """
    kept = [int(i) for i in ids if int(i) not in drop]
    result: dict[str, Any] = {"key": key}
    if tokenizer is not None:
        tokens = tokenizer.ids2tokens(kept)
        result |= {"token": tokens, "text": tokenizer.tokens2text(tokens) if tokens else ""}
    if tokenizer is None or score is not None:
        result["token_int"] = kept
    return result if score is None else {**result, "score": score}

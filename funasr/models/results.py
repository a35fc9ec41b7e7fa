"""From token ids to the dict that `inference` returns, the same for all recognisers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from funasr.text.postprocess import SPECIAL_TOKENS, sentence_postprocess
from funasr.tokenizers.char_tokenizer import CharTokenizer

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


def add_timestamps(result: dict[str, Any], spans: Sequence[Sequence[int]], tokenizer: Any) -> dict[str, Any]:
    """A new result with `timestamp`.

    Where the text is assembled from characters and `@@` pieces, sub-words and abbreviations become one unit, the units
    of `text` are separated by spaces, and unknown tokens take their times with them.  With any other tokenizer there is
    one time per token.

    Args:
        result: of `make_result`.
        spans: [start_ms, end_ms] of each of its tokens.
    """
    times = [list(span) for span in spans]
    if "token" not in result or not isinstance(tokenizer, CharTokenizer) or tokenizer.spaces_are_tokens:
        return {**result, "timestamp": times}
    spoken = [time for token, time in zip(result["token"], times) if token not in SPECIAL_TOKENS]
    text, merged, _ = sentence_postprocess(result["token"], spoken)
    return {**result, "text": text, "timestamp": merged}

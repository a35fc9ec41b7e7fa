"""Token times into results: the text's units get one [start_ms, end_ms] each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from funasr.models.abs_model import Result
from funasr.text.postprocess import SPECIAL_TOKENS, sentence_postprocess
from funasr.tokenizers.char_tokenizer import CharTokenizer


def add_timestamps(result: Result, spans: Sequence[Sequence[int]], tokenizer: Any) -> Result:
    """A new result with `timestamp`.

    Where the text is assembled from characters and `@@` pieces, sub-words and abbreviations become one unit and the
    units of `text` are separated by spaces.  With any other tokenizer there is one time per token.

    Args:
        result: of funasr.models.results.make_result.
        spans: [start_ms, end_ms] of each of its tokens.
    """
    times = [list(span) for span in spans]
    if "token" not in result or not isinstance(tokenizer, CharTokenizer) or tokenizer.spaces_are_tokens:
        return {**result, "timestamp": times}
    spoken = [time for token, time in zip(result["token"], times) if token not in SPECIAL_TOKENS]
    text, merged, _ = sentence_postprocess(result["token"], spoken)
    return {**result, "text": text, "timestamp": merged}

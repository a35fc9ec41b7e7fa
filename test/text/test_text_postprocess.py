"""Tokens become the sentences that released FunASR wrote for them, with and without times."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from funasr.text.postprocess import join_sentencepieces, sentence_postprocess

RECORDED = json.loads(
    (Path(__file__).parents[1] / "parity/text-postprocess/expected/expected.json").read_text(encoding="utf-8")
)


@pytest.mark.parametrize("case", RECORDED["sentence_postprocess"], ids=lambda c: " ".join(c["tokens"]))
def test_recorded_sentences(case: dict) -> None:
    if "error" in case:
        pytest.skip("a fact about the reference, no goal")
    assert sentence_postprocess(case["tokens"]) == (case["text"], None, case["words"])
    timed = sentence_postprocess(case["tokens"], case["ts_in"])
    assert timed == (case["ts_text"], case["ts_out"], case["ts_words"])


@pytest.mark.parametrize("case", RECORDED["sentence_postprocess_sentencepiece"], ids=lambda c: " ".join(c["tokens"]))
def test_recorded_sentencepieces(case: dict) -> None:
    assert join_sentencepieces(case["tokens"]) == (case["text"], case["words"])


def test_chinese_does_not_close_a_pending_word() -> None:
    _, times, words = sentence_postprocess(["cog@@", "夏", "and"], [[0, 10], [10, 20], [20, 30]])
    assert (words, times) == (["夏", "cogand"], [[10, 20], [0, 30]])
    assert sentence_postprocess(["cog@@", "夏", "and"])[0] == "夏cogand"


def test_a_lone_letter_before_chinese_is_no_abbreviation() -> None:
    assert sentence_postprocess(["a", "你", "b", "c"])[0] == "a你BC"


def test_arguments_are_left_alone() -> None:
    tokens, times = ["a", "b"], [[0, 10], [10, 20]]
    sentence_postprocess(tokens, times)
    assert (tokens, times) == (["a", "b"], [[0, 10], [10, 20]])


def test_wrong_number_of_timestamps_is_named() -> None:
    with pytest.raises(ValueError, match="1 timestamps for 2 tokens"):
        sentence_postprocess(["你", "好"], [[0, 10]])

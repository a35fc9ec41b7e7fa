"""Words of a result, and the views on them."""

from __future__ import annotations

from typing import Any

import pytest

from funasr.text.words import (
    Word,
    clauses,
    raw_text,
    result_words,
    surface_clauses,
    timestamps,
    with_marks,
    with_written_text,
    written_text,
)


def words_of(text: str, **fields: Any) -> list[Word]:
    return result_words({"text": text, **fields})[1]


@pytest.mark.parametrize(
    "result",
    [
        {"text": "下 is 好", "timestamp": [[0, 100], [100, 250], [250, 300]]},
        {"text": "下 is 好", "timestamp": [["下", 0, 100], ["is", 100, 250], ["好", 250, 300]]},
        {"text": "下is好", "timestamp": [["下", 0.0, 0.1], ["is", 0.1, 0.25], ["好", 0.25, 0.3]]},
        {"text": "下 is好", "words": ["下", "is", "好"], "timestamp": [[0, 100], [100, 250], [250, 300]]},
        {
            "text": "下is 好",
            "timestamps": [
                {"token": "下", "start_time": 0.0, "end_time": 0.1},
                {"token": "is", "start_time": 0.1, "end_time": 0.25},
                {"token": "好", "start_time": 0.25, "end_time": 0.3},
            ],
        },
    ],
)
def test_every_form_of_times(result: dict[str, Any]) -> None:
    _, words = result_words(result, offset_ms=1000)
    assert [word.text for word in words] == ["下", "is", "好"]
    assert timestamps(words) == [[1000, 1100], [1100, 1250], [1250, 1300]]
    assert raw_text(words) == result["text"]


def test_scores() -> None:
    assert [word.score for word in words_of("a b", timestamp=[[0, 1, 0.5], [1, 2, 0.25]])] == [0.5, 0.25]


def test_text_without_times() -> None:
    words = words_of("下is 好 x")
    assert [word.text for word in words] == ["下", "is", "好", "x"]
    assert raw_text(words) == "下is 好 x"
    assert timestamps(words) == [] and clauses(words) == []
    assert not any(word.timed for word in words)


def test_tags_in_front() -> None:
    tags, words = result_words({"text": "<|zh|><|NEUTRAL|><|Speech|><|woitn|>你好"})
    assert tags == "<|zh|><|NEUTRAL|><|Speech|><|woitn|>"
    assert raw_text(words) == "你好"
    assert result_words({"text": "<|nospeech|>"}) == ("<|nospeech|>", [])


def test_digits_and_sub_words_are_one_word() -> None:
    words = words_of("in 2019年", words=["in", "20", "19", "年"], timestamp=[[0, 1], [1, 2], [2, 3], [3, 4]])
    assert [(word.text, word.start_ms, word.end_ms) for word in words] == [("in", 0, 1), ("2019", 1, 3), ("年", 3, 4)]


def test_fewer_times_than_words_and_times_that_go_back() -> None:
    assert timestamps(words_of("a b c", timestamp=[[0, 5], [5, 9]])) == [[0, 5], [5, 9], [9, 9]]
    assert timestamps(words_of("a b", timestamp=[[5, 8], [3, 10]])) == [[5, 8], [5, 10]]


@pytest.mark.parametrize("result", [{}, {"text": ""}, {"text": "  "}, {"text": "", "timestamp": []}])
def test_nothing(result: dict[str, Any]) -> None:
    assert result_words(result) == ("", [])


def test_punctuated_text_is_shared_out_to_the_words() -> None:
    words = with_written_text(
        words_of("will 下 好 i am", timestamp=[[i, i + 1] for i in range(5)]), " Will下，好。 I am."
    )
    assert [word.punc for word in words] == ["", "，", "。", "", "。"]
    assert [word.written for word in words] == [" Will", "下，", "好。", " I", " am."]
    assert written_text(words) == " Will下，好。 I am."
    assert raw_text(words) == "will 下 好 i am"
    assert [clause["text"] for clause in clauses(words)] == [" will 下，", "好。", " i am。"]
    english = clauses(words, english=True, return_raw_text=True)
    assert [clause["raw_text"] for clause in english] == ["will 下", "好", "i am"]


def test_marks_that_were_spoken() -> None:
    words = with_written_text(words_of("好 , a ，"), "好，,a，。")
    assert written_text(words) == "好，,a，。"
    assert words[-1].text == "，" and words[-1].punc == "。"


def test_another_text_is_refused() -> None:
    with pytest.raises(ValueError, match="下"):
        with_written_text(words_of("下 好"), "上好。")


def test_marks_on_the_surface() -> None:
    words = words_of("你好 Hello world", words=["你", "好", "Hello", "world"], timestamp=[[i, i + 1] for i in range(4)])
    marked = with_marks(words, ["", "，", "", "。"])
    assert written_text(marked) == "你好， Hello world."
    assert surface_clauses(marked) == [
        {"text": "你好，", "start": 0, "end": 2, "timestamp": [[0, 1], [1, 2]], "raw_text": "你好"},
        {"text": "Hello world.", "start": 2, "end": 4, "timestamp": [[2, 3], [3, 4]], "raw_text": "Hello world"},
    ]

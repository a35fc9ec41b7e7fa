"""Words, marks and times become the clauses that released FunASR wrote, except where its lists are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from funasr.text import sentences as s

CASES = json.loads((Path(__file__).parents[1] / "parity/PipelineUtils/expected/expected.json").read_text())["cases"]


def cases(*kinds: str) -> list[Any]:
    return [pytest.param(case, id=case["name"]) for case in CASES if case["name"].split("/")[0] in kinds]


@pytest.mark.parametrize("case", cases("sentence", "sentence_en"))
def test_recorded_clauses(case: dict) -> None:
    tokens = case["text"].split()
    found = s.marked_sentences(
        tokens,
        case["punc_ids"],
        case["timestamps"],
        return_raw_text=case["return_raw_text"],
        english=case["name"].startswith("sentence_en"),
    )
    wanted = case["value"]
    for clause in wanted:
        # The recording has null for a missing time and, without marks, a list where the text belongs.
        clause["timestamp"] = [span for span in clause["timestamp"] if span is not None]
        if isinstance(clause["text"], list):
            assert clause["text"] == tokens
            assert found[0]["text"].replace(" ", "") == "".join(tokens)
            clause["text"] = found[0]["text"]
    assert found == wanted


@pytest.mark.parametrize("case", cases("join"))
def test_recorded_joins(case: dict) -> None:
    assert s.join_segments(case["texts"]) == case["joined"]


@pytest.mark.parametrize("case", cases("surface"))
def test_recorded_surfaces(case: dict) -> None:
    text, marks = case["text"], case["punc_array"]
    assert s.mark_surface(text, marks) == case["punctuated"]
    tokens = s.split_tokens(text)
    times = s.regroup_times(case["words"], case["timestamps"], tokens)
    assert [" ".join(tokens), times] == case["merged"]
    assert times is not None
    wanted = case["sentences"]
    if case["words"] != tokens:
        # The recording takes the times before they were merged, so they belong to other words.
        for clause, span in zip(wanted, times, strict=True):
            clause |= {"start": span[0], "end": span[1], "timestamp": [span]}
    assert s.surface_sentences(text, marks, times) == wanted


def test_times_of_sub_words_are_shared_out_by_characters() -> None:
    assert s.regroup_times(["ab", "c你好"], [[0, 100], [100, 400]], ["abc", "你", "好"]) == [
        [0, 200],
        [200, 300],
        [300, 400],
    ]
    assert s.regroup_times(["▁ab"], [[0, 100]], ["ab"]) is None
    assert s.regroup_times(["ab", "c"], [[0, 100]], ["abc"]) is None


def test_segments_without_marks() -> None:
    found = s.segment_sentences([[0, 900], [1000, 2000], [2500, 3000]], ["你好", " ", "再见"], [[[10, 400]], [], []])
    assert found == [
        {"start": 10, "end": 400, "text": "你好", "sentence": "你好", "timestamp": [[10, 400]]},
        {"start": 2500, "end": 3000, "text": "再见", "sentence": "再见", "timestamp": []},
    ]


def test_wrong_counts_are_named() -> None:
    with pytest.raises(ValueError, match="2 punctuation ids for 1 tokens"):
        s.mark_surface("hello", [1, 1])
    with pytest.raises(ValueError, match="0 timestamps for 1 tokens"):
        s.surface_sentences("hello", [1], [])


def test_arguments_are_left_alone() -> None:
    tokens, marks, times = ["a", "你"], [1, 3], [[0, 10], [10, 20]]
    found = s.marked_sentences(tokens, marks, times, return_raw_text=True)
    found[0]["timestamp"][0][0] = 99
    assert (tokens, marks, times) == (["a", "你"], [1, 3], [[0, 10], [10, 20]])

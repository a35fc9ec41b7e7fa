"""RTTM in and out, and what is wrong with a line is said with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from funasr.utils.errors import DataError
from funasr.utils.rttm import Turn, merge_spans, read_rttm, speech_spans, write_rttm

GOOD = """;; comment
SPKR-INFO rec1 1 <NA> <NA> <NA> unknown ann <NA> <NA>
SPEAKER rec1 1 5.500 1.000 <NA> <NA> bob <NA> <NA>

SPEAKER rec1 1 1.000 2.500 <NA> <NA> ann <NA>
SPEAKER rec2 1 0 0.25 <NA> <NA> ann
SPEAKER rec2 1 3.0 0.0 <NA> <NA> ann <NA> <NA>
# another one
"""


def test_turns_are_sorted_and_other_records_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.rttm").write_text(GOOD)
    assert read_rttm(tmp_path / "a.rttm") == {
        "rec1": [Turn(1.0, 3.5, "ann"), Turn(5.5, 6.5, "bob")],
        "rec2": [Turn(0.0, 0.25, "ann")],
    }


def test_written_turns_are_read_again(tmp_path: Path) -> None:
    turns = {"a b".replace(" ", "_"): [Turn(0.123, 4.567, "x"), Turn(2.0, 3.0, "y")], "c": [Turn(1.0, 2.0, "x")]}
    write_rttm(tmp_path / "b.rttm", turns)
    assert read_rttm(tmp_path / "b.rttm") == turns


@pytest.mark.parametrize(
    "line, message",
    [
        ("SPEAKER rec1 1 1.0", "4 fields"),
        ("SPEAKER rec1 1 one 2.0 <NA> <NA> ann", "must be numbers"),
        ("SPEAKER rec1 1 1.0 -2.0 <NA> <NA> ann", "negative"),
        ("SPEAKER rec1 1 nan 2.0 <NA> <NA> ann", "negative"),
        ("rec1-0001 rec1 1.0 2.0", "no RTTM record type"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "c.rttm").write_text(GOOD + line + "\n")
    with pytest.raises(DataError, match=message) as caught:
        read_rttm(tmp_path / "c.rttm")
    assert "c.rttm:9" in str(caught.value)


def test_speech_is_the_union_of_turns() -> None:
    turns = [Turn(3.0, 5.0, "b"), Turn(1.0, 2.0, "a"), Turn(4.0, 4.5, "a"), Turn(5.0, 6.0, "a")]
    assert speech_spans(turns) == [(1.0, 2.0), (3.0, 6.0)]
    assert merge_spans([]) == []

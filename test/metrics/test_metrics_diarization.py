"""Diarization error rate on cases worked by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from funasr.metrics.diarization import (
    Condition,
    DiarizationErrors,
    read_uem,
    score_diarization,
    score_recording,
    scored_recordings,
)
from funasr.utils.errors import DataError
from funasr.utils.rttm import Turn

ALL = [(0.0, 20.0)]
# A speaks 0-10, B 8-16: 2 s of both.  The system has one speaker at a time and says B until 17.
REF = [Turn(0, 10, "A"), Turn(8, 16, "B")]
HYP = [Turn(0, 9, "x"), Turn(9, 17, "y")]


def errors(ref: list[Turn], hyp: list[Turn], collar: float = 0.0, overlap: bool = True, scored=None) -> tuple:
    found = score_recording(ref, hyp, ALL if scored is None else scored, Condition(collar, overlap))
    return tuple(round(value, 6) for value in (found.speech, found.miss, found.false_alarm, found.confusion))


@pytest.mark.parametrize(
    "collar, overlap, wanted",
    [
        (0.0, True, (18.0, 2.0, 1.0, 0.0)),  # 18 s of speakers; in 8-10 one of two is missed; 16-17 is nobody's
        (0.0, False, (16.0 - 2.0, 0.0, 1.0, 0.0)),
        # left out: 0-0.25, 7.75-8.25, 9.75-10.25, 15.75-16.25
        (0.25, True, (18.0 - 0.25 - 0.75 - 0.75 - 0.25, 1.5, 0.75, 0.0)),
        (0.25, False, (13.0, 0.0, 0.75, 0.0)),
    ],
)
def test_conditions(collar: float, overlap: bool, wanted: tuple[float, ...]) -> None:
    assert errors(REF, HYP, collar, overlap) == wanted


def test_names_do_not_matter_and_a_perfect_answer_has_no_error() -> None:
    swapped = [Turn(turn.start, turn.end, {"A": "B", "B": "A"}[turn.speaker]) for turn in REF]
    assert errors(REF, swapped) == (18.0, 0.0, 0.0, 0.0)


def test_the_best_assignment_of_speakers_is_found() -> None:
    """A greedy choice pairs A with x (6 s) and leaves B 0 s right; the best pairs A-y and B-x: 5 + 5 s right."""
    ref = [Turn(0, 11, "A"), Turn(11, 16, "B")]
    hyp = [Turn(0, 6, "x"), Turn(6, 11, "y"), Turn(11, 16, "x")]
    assert errors(ref, hyp) == (16.0, 0.0, 0.0, 6.0)


def test_more_system_speakers_than_there_are_are_confusion() -> None:
    assert errors([Turn(0, 10, "A")], [Turn(0, 7, "x"), Turn(7, 10, "y")]) == (10.0, 0.0, 0.0, 3.0)


def test_one_system_speaker_for_two_is_confusion_and_silence_is_missed() -> None:
    ref = [Turn(0, 4, "A"), Turn(4, 10, "B")]
    assert errors(ref, [Turn(0, 10, "x")]) == (10.0, 0.0, 0.0, 4.0)
    assert errors(ref, []) == (10.0, 10.0, 0.0, 0.0)


def test_two_system_speakers_where_one_speaks_are_a_false_alarm() -> None:
    assert errors([Turn(0, 10, "A")], [Turn(0, 10, "x"), Turn(2, 5, "y")]) == (10.0, 0.0, 3.0, 0.0)


def test_turns_of_one_speaker_that_touch_have_no_boundary_between_them() -> None:
    ref = [Turn(0, 5, "A"), Turn(5, 10, "A"), Turn(4, 6, "A")]
    assert errors(ref, [Turn(0, 10, "x")], collar=0.25) == (9.5, 0.0, 0.0, 0.0)


def test_nothing_outside_of_the_scored_spans_counts() -> None:
    assert errors(REF, HYP, scored=[(1, 3), (15, 16.5)]) == (3.0, 0.0, 0.5, 0.0)
    assert errors(REF, HYP, scored=[(18, 19)]) == (0.0, 0.0, 0.0, 0.0)
    assert errors([], [], scored=[]) == (0.0, 0.0, 0.0, 0.0)


def test_rates_are_of_all_recordings_together() -> None:
    total = DiarizationErrors(10, 1, 1, 0) + DiarizationErrors(30, 0, 0, 2)
    assert total.rate == pytest.approx(4 / 40) and total.share(total.confusion) == pytest.approx(2 / 40)
    assert math.isnan(DiarizationErrors().rate)
    by_recording = score_diarization({"a": REF, "b": [Turn(0, 1, "A")]}, {"a": HYP}, None, Condition())
    assert by_recording["b"].miss == 1.0 and by_recording["a"].false_alarm == 1.0


def test_without_uem_all_that_any_turn_touches_is_scored() -> None:
    assert scored_recordings({"a": [Turn(2, 3, "A")]}, {"a": [Turn(1, 2.5, "x")]}, None) == {"a": [(1, 3)]}


def test_recordings_that_do_not_fit_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"system output has 1 recording\(s\) that the reference does not: typo"):
        scored_recordings({"a": REF}, {"typo": HYP}, None)
    with pytest.raises(DataError, match=r"reference has 1 recording\(s\) that the UEM does not: b"):
        scored_recordings({"a": REF, "b": REF}, {}, {"a": ALL})
    with pytest.raises(DataError, match="the UEM does not: c"):
        scored_recordings({"a": REF}, {"c": HYP}, {"a": ALL})
    # a recording in which nobody speaks is scored: what a system says there is a false alarm
    silent = score_diarization({}, {"a": HYP}, {"a": ALL}, Condition())
    assert silent["a"].false_alarm == 17.0


def test_uem(tmp_path: Path) -> None:
    path = tmp_path / "all.uem"
    path.write_text(";; comment\na NA 0.000 30.000\na 1 29 40\n\nb 1 1.5 2\n")
    assert read_uem(path) == {"a": [(0.0, 40.0)], "b": [(1.5, 2.0)]}
    for line, message in (("a 1 5 3", "must ascend"), ("a 1 x 3", "a line reads"), ("a 1", "a line reads")):
        path.write_text(f"b 1 0 1\n{line}\n")
        with pytest.raises(DataError, match=rf"all\.uem:2: .*{message}"):
            read_uem(path)

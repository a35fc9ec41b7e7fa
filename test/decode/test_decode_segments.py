"""Joining speech segments: the pieces that released FunASR recorded, and what must stay in memory meanwhile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from funasr.decode.segments import SegmentMerger, merge_segments

RECORDED = json.loads((Path(__file__).parents[1] / "parity/PipelineUtils/expected/expected.json").read_text())["cases"]


@pytest.mark.parametrize("case", [case for case in RECORDED if case["name"].startswith("merge_vad")])
def test_recorded_pieces(case: dict[str, Any]) -> None:
    found = merge_segments(case["segments"], case["max_length"])
    assert [[piece.start_ms, piece.end_ms] for piece in found] == case["merged"]
    inside = [any(a >= piece.start_ms and b <= piece.end_ms for a, b in case["segments"]) for piece in found]
    assert [piece.speech for piece in found] == inside


def test_nothing_and_one_segment() -> None:
    assert merge_segments([], 1000) == []
    assert [(piece.start_ms, piece.end_ms) for piece in merge_segments([[500, 700]], 1000)] == [(500, 700)]


def test_what_is_held_covers_every_piece_to_come() -> None:
    segments = [[500, 900], [1200, 4000], [4100, 4900], [3_600_000, 3_600_500], [3_600_600, 3_700_000]]
    merger = SegmentMerger(1000)
    for segment in segments:
        held = merger.held
        for piece in merger.push(segment):
            known = piece.end_ms <= segment[0] and piece.speech
            assert (
                not known
                or (held is not None and held[0] <= piece.start_ms and held[1] >= piece.end_ms)
                or (piece.end_ms == segment[0])
            )
        assert merger.held is None or merger.held[1] - merger.held[0] <= max(1000, segment[1] - segment[0])

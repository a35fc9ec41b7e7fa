"""Batches of segments: bounded in cost, alike, with little padding."""

from __future__ import annotations

import numpy as np
import pytest

from funasr.auto.batching import BUSY_S, cost, plan_batches


@pytest.mark.parametrize("budget", [0.0, 5.0, 60.0, 300.0])
def test_every_utterance_once_and_no_batch_too_costly(budget: float) -> None:
    seconds = list(np.random.default_rng(0).gamma(2.0, 4.0, 200))
    plan = plan_batches(seconds, budget)
    assert sorted(position for batch in plan for position in batch) == list(range(200))
    for batch in plan:
        longest = max(seconds[position] for position in batch)
        assert len(batch) == 1 or len(batch) * cost(longest) <= budget + 1e-6
        spoken = sum(seconds[position] for position in batch)
        assert spoken < 2 * BUSY_S or len(batch) * longest < 1.3 * spoken
    if budget == 0.0:
        assert len(plan) == 200


def test_batches_are_balanced() -> None:
    plan = plan_batches([1.0] * 65, 60)
    assert [len(batch) for batch in plan] == [33, 32]


def test_long_utterances_run_alone() -> None:
    assert plan_batches([70.0, 65.0, 50.0, 50.0], 300, threshold_s=60) == [[0], [1], [2, 3]]
    assert cost(360) > 2 * cost(180)


def test_nothing() -> None:
    assert plan_batches([], 60) == []

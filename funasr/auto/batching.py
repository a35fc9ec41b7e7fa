"""Which stretches of audio are recognised together: batches of like cost, with little padding."""

from __future__ import annotations

from collections.abc import Sequence

ATTENTION_AS_COSTLY_S = 180.0  # length at which attention costs a large encoder as much as everything else
BUSY_S = 20.0  # with this much audio a batch keeps matrix products busy, and padding costs more than a new batch
PADDING_SHARE = 0.15
ROUNDS = 24


def cost(seconds: float) -> float:
    """Work of recognising one utterance, in seconds of short utterances: linear plus the square of attention."""
    return seconds * (1.0 + seconds / ATTENTION_AS_COSTLY_S)


def plan_batches(seconds: Sequence[float], batch_size_s: float, threshold_s: float = 60.0) -> list[list[int]]:
    """Positions of utterances in batches, longest first.

    No batch costs more than `batch_size_s` unless it is a single utterance; among plans with as many batches the one
    whose costliest batch is cheapest is taken.

    Args:
        seconds: durations.
        batch_size_s: audio in a batch, padding included; 0 for one utterance at a time.
        threshold_s: longer utterances run alone.
    """
    order = sorted(range(len(seconds)), key=lambda position: (-seconds[position], position))
    plan = _greedy(seconds, order, batch_size_s, threshold_s)
    low, high = 0.0, batch_size_s
    for _ in range(ROUNDS if len(plan) > 1 else 0):
        middle = (low + high) / 2
        tighter = _greedy(seconds, order, middle, threshold_s)
        if len(tighter) == len(plan):
            plan, high = tighter, middle
        else:
            low = middle
    return plan


def _greedy(seconds: Sequence[float], order: Sequence[int], budget: float, threshold_s: float) -> list[list[int]]:
    plan: list[list[int]] = []
    longest = spoken = 0.0
    for position in order:
        length = seconds[position]
        padded = (len(plan[-1]) + 1) * longest if plan else 0.0
        wasteful = spoken >= BUSY_S and padded - spoken - length > PADDING_SHARE * padded
        full = not plan or (len(plan[-1]) + 1) * cost(longest) > budget
        if full or wasteful or longest > threshold_s:
            plan.append([position])
            longest, spoken = length, length
        else:
            plan[-1].append(position)
            spoken += length
    return plan

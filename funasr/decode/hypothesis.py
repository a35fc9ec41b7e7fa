"""One result of a search, shared by every decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Hypothesis:
    """A token sequence and how good the search found it.

    ids: token ids; the label-synchronous searches include <s> and </s>, the CTC prefix search has neither.
    score: total (weighted) log score, the larger the better.
    scores: unweighted sum per scorer, e.g. {"decoder": -3.1, "ctc": -5.0}.
    """

    ids: tuple[int, ...]
    score: float
    scores: Mapping[str, float] = field(default_factory=dict)

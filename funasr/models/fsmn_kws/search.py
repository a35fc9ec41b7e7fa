"""CTC prefix beam search that only knows the tokens of the keywords."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from funasr.models.fsmn_kws.keywords import BLANK, Keywords

TOP_TOKENS = 3  # looked at in each frame
MIN_PROBABILITY = 0.05
MAX_PREFIXES = 20
NEARLY_ZERO = 1e-6

Prefix = tuple[int, ...]


@dataclass
class Node:
    """One token of a prefix with its highest probability; prefixes with a common past share its nodes."""

    probability: float

    def raise_to(self, probability: float) -> None:
        self.probability = max(self.probability, probability)


@dataclass
class Paths:
    """All alignments of one prefix: probability of those that end in blank and of the others, and its nodes."""

    blank: float = 0.0
    token: float = 0.0
    nodes: list[Node] = field(default_factory=list)

    @property
    def total(self) -> float:
        return self.blank + self.token


def find_keyword(probs: Tensor, keywords: Keywords) -> tuple[str, float] | None:
    """The first of the keywords in the likeliest prefix that holds one.

    Args:
        probs: (frames, tokens); keywords: keyword -> token ids.

    Returns:
        The keyword and its score: the square root of the product of its tokens' probabilities.
    """
    for prefix, paths in prefix_search(probs, {token for ids in keywords.values() for token in ids}):
        for keyword, ids in keywords.items():
            for begin in range(len(prefix) - len(ids) + 1) if ids else ():
                if prefix[begin : begin + len(ids)] == ids:
                    nodes = paths.nodes[begin : begin + len(ids)]
                    return keyword, math.sqrt(math.prod(node.probability for node in nodes))
    return None


def prefix_search(probs: Tensor, allowed: set[int]) -> list[tuple[Prefix, Paths]]:
    """The likeliest prefixes of `allowed` tokens, best first; frames with nothing but other tokens are left out."""
    beam: list[tuple[Prefix, Paths]] = [((), Paths(blank=1.0))]
    if not probs.size(0):
        return beam
    top = probs.topk(min(TOP_TOKENS, probs.size(1)), dim=1)
    for values, ids in zip(top.values.tolist(), top.indices.tolist()):
        seen = [(i, p) for i, p in zip(ids, values) if p > MIN_PROBABILITY and (i == BLANK or i in allowed)]
        if seen:
            beam = _extend(beam, seen)
    return beam


def _extend(beam: list[tuple[Prefix, Paths]], seen: list[tuple[int, float]]) -> list[tuple[Prefix, Paths]]:
    """The prefixes after one more frame, which holds `seen` tokens with their probabilities."""
    extended: dict[Prefix, Paths] = {}
    for token, probability in seen:
        for prefix, paths in beam:
            if token == BLANK:
                same = extended.setdefault(prefix, Paths())
                same.blank += paths.total * probability
                same.nodes = list(paths.nodes)
                continue
            longer = (*prefix, token)
            if prefix and prefix[-1] == token:
                if paths.token > NEARLY_ZERO:
                    same = extended.setdefault(prefix, Paths())
                    same.token += paths.token * probability
                    same.nodes = list(paths.nodes)
                    same.nodes[-1].raise_to(probability)
                if paths.blank > NEARLY_ZERO:
                    new = extended.setdefault(longer, Paths())
                    new.token += paths.blank * probability
                    new.nodes = [*paths.nodes, Node(probability)]
                continue
            new = extended.setdefault(longer, Paths())
            new.token += paths.total * probability
            if new.nodes:
                new.nodes[-1].raise_to(probability)
            else:
                new.nodes = [*paths.nodes, Node(probability)]
    return sorted(extended.items(), key=lambda item: item[1].total, reverse=True)[:MAX_PREFIXES]

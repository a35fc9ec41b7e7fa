"""What passes between the steps of recognition, the same for all Paraformers: network output, search."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from funasr.decode.hypothesis import Hypothesis


@dataclass(frozen=True)
class Recognition:
    """What the network says of a batch, before any search.

    encoder_out: (batch, frames, dim), zero beyond encoder_lengths (batch,).
    logits: (batch, tokens, vocab), or log-probabilities; token_lengths: (batch,) rows of each utterance.
    alphas, peaks: (batch, frames + 1) curves of the predictor, see funasr.layers.cif.
    """

    encoder_out: Tensor
    encoder_lengths: Tensor
    logits: Tensor
    token_lengths: Tensor
    alphas: Tensor
    peaks: Tensor

    @property
    def log_probs(self) -> Tensor:
        """(batch, tokens, vocab) log-probabilities, float32."""
        return F.log_softmax(self.logits.float(), dim=-1)


@dataclass(frozen=True)
class SearchOptions:
    """How tokens are chosen: `ctc_weight` 0 takes the best everywhere; the others are those of the CTC beam search."""

    ctc_weight: float = 0.0
    beam_size: int = 2
    nbest: int = 1
    penalty: float = 0.0


def greedy_search(output: Recognition, with_scores: bool) -> list[list[Hypothesis]]:
    """The likeliest token everywhere; scores cost a soft-max over the vocabulary and are 0 unless asked for."""
    if output.logits.size(1) == 0:
        return [[Hypothesis((), 0.0, {})] for _ in range(output.logits.size(0))]
    best = torch.max(output.log_probs if with_scores else output.logits, dim=-1)
    rows = zip(best.indices.tolist(), best.values.tolist(), output.token_lengths.tolist())
    return [
        [Hypothesis(tuple(ids[:count]), float(sum(values[:count])) if with_scores else 0.0, {})]
        for ids, values, count in rows
    ]

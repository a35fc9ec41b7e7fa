"""What passes between the steps of recognition, the same for all Paraformers: inputs, network output, search."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.decode.hypothesis import Hypothesis
from funasr.layers.timestamps import feature_frame_ms
from funasr.models.abs_model import prepare_features


@dataclass(frozen=True)
class Inputs:
    """A batch of features and where it came from.

    feats: (batch, frames, dim) in the type of the model; lengths: (batch,).
    keys: names of the utterances.
    feature_ms: duration of a feature frame.
    durations: of the waveforms in ms; None if features were given.
    started, extracted: clock before and after the features were computed, s.
    """

    feats: Tensor
    lengths: Tensor
    keys: list[str]
    feature_ms: float
    durations: list[float] | None
    started: float
    extracted: float


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


def read_inputs(
    data_in: Sequence[Tensor] | Tensor,
    data_lengths: Tensor | None,
    key: Sequence[str] | None,
    frontend: Any,
    data_type: str,
    parameter: nn.Parameter,
) -> Inputs:
    """Features of what `inference` was given, on the device and in the type of `parameter`.

    `data_type` "fbank" says that data_in holds features although there is a front end.
    """
    started = time.perf_counter()
    with_frontend = frontend is not None and data_type != "fbank"
    feats, lengths = prepare_features(data_in, data_lengths, frontend if with_frontend else None, parameter.device)
    durations = None
    if with_frontend:
        samples = [len(x) for x in data_in] if data_lengths is None else [int(n) for n in data_lengths]
        durations = [1000.0 * count / frontend.fs for count in samples]
    feature_ms = feature_frame_ms(frontend)
    keys = list(key) if key is not None else [f"utt_{i}" for i in range(feats.size(0))]
    feats = feats.to(parameter.dtype)
    return Inputs(feats, lengths, keys, feature_ms, durations, started, time.perf_counter())


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

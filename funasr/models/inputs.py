"""What `inference` of a recogniser was given, as a batch of features."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from funasr.layers.timestamps import feature_frame_ms
from funasr.models.abs_model import prepare_features


@dataclass(frozen=True)
class Inputs:
    """A batch of features and where it came from.

    feats: (batch, frames, dim) in the type of the model; lengths: (batch,).
    keys: names of the utterances.
    frontend: what makes such features, even if these were given.
    durations: of the waveforms in ms; None if features were given.
    started, extracted: clock before and after the features were computed, s.
    """

    feats: Tensor
    lengths: Tensor
    keys: list[str]
    frontend: Any
    durations: list[float] | None
    started: float
    extracted: float

    @property
    def feature_ms(self) -> float:
        """Duration of a feature frame, ms."""
        return feature_frame_ms(self.frontend)

    def timings(self) -> dict[str, Any]:
        """How long the features took (`extract_feat`) and all since (`decode`), s."""
        return {"extract_feat": self.extracted - self.started, "decode": time.perf_counter() - self.extracted}


def read_inputs(
    data_in: Sequence[Tensor] | Tensor,
    data_lengths: Tensor | None,
    key: Sequence[str] | None,
    frontend: Any,
    parameter: Tensor,
    data_type: str = "sound",
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
    keys = list(key) if key is not None else [f"utt_{i}" for i in range(feats.size(0))]
    feats = feats.to(parameter.dtype)
    return Inputs(feats, lengths, keys, frontend, durations, started, time.perf_counter())

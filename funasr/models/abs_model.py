"""The contract between a model, the trainer, decoding and AutoModel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

Result = dict[str, Any]
Stats = dict[str, "Tensor | None"]


class FunASRModel(nn.Module):
    """Base class of all models.

    A constructor takes built parts by name (`encoder`, `decoder`, `predictor`, `ctc`, `specaug`, `normalize`), then
    `vocab_size`, then its own options (`model_conf`).  `funasr.models.build` finds out from the signature which parts
    the model wants and builds them.
    """

    own_options: ClassVar[frozenset[str]] = frozenset()
    """Constructor arguments that `model_conf` gives although the builder has a part of that name."""

    training_only_options: ClassVar[frozenset[str]] = frozenset()
    """Keys of official `model_conf` that change nothing here; dropped without a word."""

    training_only_parts: ClassVar[tuple[str, ...]] = ()
    """Submodules that only training has: in its full state, and left out of the weights of its epochs."""

    one_pass: ClassVar[bool] = False
    """Whether `inference` is little else than one pass through large layers, without a search token by token: several
    batches are then best worked on side by side on a CPU, see funasr.utils.lanes."""

    @classmethod
    def adapt_weights(cls, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Names in a weight file as this class has them."""
        return dict(weights)

    @classmethod
    def unused_parts(cls, model_conf: Mapping[str, Any]) -> tuple[str, ...]:
        """Parts of the signature that `model_conf` switches off, e.g. ("ctc",) when `ctc_weight` is 0."""
        return ()

    @abstractmethod
    def forward(
        self, speech: Tensor, speech_lengths: Tensor, text: Tensor, text_lengths: Tensor, **kwargs: Any
    ) -> tuple[Tensor, Stats, Tensor]:
        """Training loss of one batch.

        Args:
            speech: features (batch, frames, dim); speech_lengths: (batch,) frames.
            text: token ids (batch, tokens) padded with -1; text_lengths: (batch,).

        Returns:
            loss (scalar), stats (name -> detached scalar, or None if absent), weight (scalar: over how many units
            the loss was averaged).
        """

    def collect_feats(self, speech: Tensor, speech_lengths: Tensor, **_: Any) -> dict[str, Tensor]:
        """Features for the statistics pass (collect-stats)."""
        return {"feats": speech, "feats_lengths": speech_lengths}

    @abstractmethod
    def inference(
        self,
        data_in: Sequence[Tensor] | Tensor,
        data_lengths: Tensor | None = None,
        key: Sequence[str] | None = None,
        tokenizer: Any = None,
        frontend: nn.Module | None = None,
        **kwargs: Any,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Recognise a batch; one result (`key`, `text`, ...) per input, whatever else is in the batch, plus timings.

        Args:
            data_in: list of waveforms (samples,) in [-1, 1] at `frontend.fs`, or features (batch, frames, dim) with
                `data_lengths` when `frontend` is None.
        """

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device


def prepare_features(
    data_in: Sequence[Tensor] | Tensor,
    data_lengths: Tensor | None,
    frontend: nn.Module | None,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Features (batch, frames, dim) and lengths (batch,) from what `inference` was given, which stays as it is.

    Waveforms are zero-padded to the longest and go through the front end on `device`; an utterance shorter than one
    frame has length 0.
    """
    if frontend is None:
        if not isinstance(data_in, Tensor):
            data_lengths = torch.tensor([len(x) for x in data_in])
            data_in = nn.utils.rnn.pad_sequence([torch.as_tensor(x) for x in data_in], batch_first=True)
        if data_lengths is None:
            data_lengths = torch.full((data_in.size(0),), data_in.size(1))
        return data_in.to(device), data_lengths.to(device)
    waves = [torch.as_tensor(x, dtype=torch.float32).reshape(-1) for x in data_in]
    lengths = torch.tensor([len(x) for x in waves], device=device) if data_lengths is None else data_lengths.to(device)
    padded = nn.utils.rnn.pad_sequence(waves, batch_first=True).to(device)
    feats, feats_lengths = frontend(padded, lengths)
    return feats, feats_lengths

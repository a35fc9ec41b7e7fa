"""What every speaker-embedding model needs around its network: features, batches of equal lengths, results, a loss."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from funasr.frontends.speaker_fbank import FS, speaker_features
from funasr.layers.margin_softmax import AAMSoftmax
from funasr.models.abs_model import FunASRModel, Result, Stats
from funasr.utils.errors import ConfigError

__all__ = ["FS", "SpeakerEmbeddingModel", "speaker_features"]

WINDOW, SHIFT = 400, 160  # samples of a frame and between frames
DEVICE_PASS_FRAMES = 38400  # that share a pass: 256 windows of 1.5 s fill an accelerator (1 GiB in CAM++)


class SpeakerEmbeddingModel(FunASRModel):
    """A network from features to one vector per utterance.

    A batch is split by length: utterances of one length share a pass, so no padding ever reaches the statistics
    pooling and each embedding is what the utterance gives alone.

    In training a classifier stands behind the embedding (`train_with`).  It is no part of the model: weight files
    without it and configurations that do not know of it are complete.

    Subclasses set `feat_dim`, `embedding_size` and `min_frames` and define `embed`.
    """

    one_pass = True

    training_only_parts: ClassVar[tuple[str, ...]] = ("classifier",)

    feat_dim: int
    embedding_size: int
    min_frames: int
    """Frames below which the deviation over time is not defined."""
    cpu_pass_frames: ClassVar[int] = 600
    """Frames of utterances that share a pass on a CPU: so many that its maps fit the caches."""

    classifier: AAMSoftmax | None

    def __init__(self) -> None:
        super().__init__()
        self.register_module("classifier", None)

    def embed(self, feats: Tensor) -> Tensor:
        """Embeddings (batch, embedding_size) of features (batch, frames, feat_dim), all of the same length."""
        raise NotImplementedError

    def train_with(self, num_classes: int, **options: Any) -> None:
        """Add a classifier of `num_classes` speakers for training; `options` are those of `AAMSoftmax`."""
        if getattr(self, "output_level", "segment") != "segment":
            raise ConfigError("model_conf: output_level must be 'segment' in training: a speaker has whole utterances")
        self.classifier = AAMSoftmax(self.embedding_size, num_classes, **options)

    @classmethod
    def adapt_weights(cls, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights without the classifier, which the state of a training run has."""
        parts = tuple(f"{part}." for part in cls.training_only_parts)
        return {name: value for name, value in weights.items() if not name.startswith(parts)}

    def forward(  # type: ignore[override]
        self, speech: Tensor, speech_lengths: Tensor, speaker: Tensor
    ) -> tuple[Tensor, Stats, Tensor]:
        """Classification loss of one batch; see FunASRModel.

        Args:
            speech: features (batch, frames, feat_dim) of utterances of one length.
            speaker: class of each utterance (batch, 1).

        Stats: loss; acc, the share of utterances nearest to their own speaker; margin, in radians.

        Raises RuntimeError without a classifier (`train_with`).
        """
        if self.classifier is None:
            raise RuntimeError(f"{type(self).__name__} has no speaker classes; SVTask adds them (train_with)")
        loss, stats = self.classifier(self.embed(speech), speaker[:, 0])
        weight = torch.tensor(len(speech), device=loss.device)
        return loss, {"loss": loss.detach(), **stats}, weight

    @torch.no_grad()
    def inference(  # type: ignore[override]
        self,
        data_in: Sequence[Tensor] | Tensor,
        data_lengths: Tensor | None = None,
        key: Sequence[str] | None = None,
        tokenizer: Any = None,
        frontend: nn.Module | None = None,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Embed a batch; see FunASRModel.

        Args:
            data_in: waveforms (samples,) at 16 kHz, as a list or padded (batch, samples); or features from
                `speaker_features`, as a list of (frames, feat_dim) or padded (batch, frames, feat_dim).
            data_lengths: valid samples or frames of what is padded.
            frontend: not used (the features are the model's own), but audio at another rate than 16 kHz is refused.

        Returns:
            `key` and `spk_embedding` (1, embedding_size) float32 on the CPU.  An utterance that is too short or not
            finite has an `error` that says so and an empty embedding (0, embedding_size).
        """
        if getattr(frontend, "fs", FS) != FS:
            raise ConfigError(f"{type(self).__name__} takes 16 kHz audio; frontend_conf.fs is {frontend.fs}")  # type: ignore[union-attr]
        started = time.perf_counter()
        inputs = [torch.as_tensor(x, dtype=torch.float32) for x in data_in]
        if data_lengths is not None:
            inputs = [x[: int(n)] for x, n in zip(inputs, data_lengths)]
        keys = list(key) if key is not None else [f"utt_{i}" for i in range(len(inputs))]
        results: list[Result] = [{"key": name} for name in keys]
        usable = []
        for position, item in enumerate(inputs):
            reason = self._unusable(item)
            if reason:
                results[position] |= {"spk_embedding": torch.zeros(0, self.embedding_size), "error": reason}
            else:
                usable.append(position)
        limit = self.cpu_pass_frames if self.device.type == "cpu" else DEVICE_PASS_FRAMES
        for positions in _equal_lengths(inputs, usable, limit):
            batch = torch.stack([inputs[position] for position in positions]).to(self.device)
            feats = speaker_features(batch, self.feat_dim) if batch.dim() == 2 else batch
            embeddings = self.embed(feats.to(next(self.parameters()).dtype)).float().cpu()
            for row, position in enumerate(positions):
                results[position]["spk_embedding"] = embeddings[row : row + 1].clone()
        return results, {"decode": time.perf_counter() - started}

    def _unusable(self, item: Tensor) -> str:
        """Why there is no embedding of an input; "" if there is one."""
        if item.dim() == 2:
            needed, unit = self.min_frames, "frames"
        else:
            needed, unit = WINDOW + SHIFT * (self.min_frames - 1), "samples"
        if len(item) < needed:
            return f"too short for a speaker embedding: {len(item)} {unit}, at least {needed} are needed"
        return "" if bool(torch.isfinite(item).all()) else "holds NaN or infinite values"


def _equal_lengths(inputs: Sequence[Tensor], positions: Sequence[int], limit: int) -> Iterator[list[int]]:
    """Positions of inputs that share a pass: one length, at most `limit` frames unless a single input has more."""
    by_shape: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for position in positions:
        by_shape[tuple(inputs[position].shape)].append(position)
    for shape, members in by_shape.items():
        frames = shape[0] if len(shape) == 2 else shape[0] // SHIFT
        step = max(1, limit // frames)
        for start in range(0, len(members), step):
            yield members[start : start + step]

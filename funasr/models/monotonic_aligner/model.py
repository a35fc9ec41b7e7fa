"""Forced alignment: when each token of a known text was spoken, from the weights of a CIF predictor.

Shi et al., "Achieving Timestamp Prediction While Recognizing with Non-Autoregressive End-to-End ASR Model", 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from funasr.layers.cif import CifPredictorV3, cif_length_loss
from funasr.layers.mask import length_mask
from funasr.layers.timestamps import cif_timestamps, frames_per_output
from funasr.models.abs_model import FunASRModel, Result, Stats
from funasr.models.inputs import read_inputs
from funasr.models.results import add_timestamps
from funasr.register import tables
from funasr.utils.errors import ConfigError, DataError


@tables.register("model_classes", "MonotonicAligner", aliases=("timestamp_prediction",))
class MonotonicAligner(FunASRModel):
    """Encoder and CifPredictorV3, without a decoder.

    Args:
        encoder, predictor, specaug, normalize: built parts.
        predictor_bias: 1 if the predictor was trained to count a closing </s>, else 0.
        length_normalized_loss: loss per token instead of per utterance.
    """

    one_pass = True

    def __init__(
        self,
        encoder: nn.Module,
        predictor: nn.Module,
        specaug: nn.Module | None = None,
        normalize: nn.Module | None = None,
        predictor_bias: int = 0,
        length_normalized_loss: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(predictor, CifPredictorV3):
            kind = type(predictor).__name__
            raise ConfigError(f"MonotonicAligner needs `predictor: CifPredictorV3`, not {kind}")
        if predictor_bias not in (0, 1):
            raise ConfigError(f"model_conf: predictor_bias must be 0 or 1, not {predictor_bias}")
        self.specaug = specaug
        self.normalize = normalize
        self.encoder = encoder
        self.predictor = predictor
        self.predictor_bias = predictor_bias
        self.length_normalized_loss = length_normalized_loss

    def forward(
        self, speech: Tensor, speech_lengths: Tensor, text: Tensor, text_lengths: Tensor, **kwargs: Any
    ) -> tuple[Tensor, Stats, Tensor]:
        """Training loss, the length loss of the second branch; see FunASRModel.  Stats: loss, loss_pre."""
        memory, lengths = self.encode(speech, speech_lengths)
        token_num = self.predictor.upsampled_weights(memory, length_mask(lengths, memory.size(1)), isolate=False).sum(
            dim=1
        )
        label_lengths = text_lengths + self.predictor_bias
        loss = cif_length_loss(token_num, label_lengths, self.length_normalized_loss)
        weight = label_lengths.sum() if self.length_normalized_loss else label_lengths.new_tensor(len(label_lengths))
        return loss, {"loss_pre": loss.detach(), "loss": loss.detach()}, weight

    def encode(self, speech: Tensor, speech_lengths: Tensor, isolate: bool = False) -> tuple[Tensor, Tensor]:
        """Features (batch, frames, dim) to encoder output (batch, frames', width) and its lengths (batch,)."""
        if self.specaug is not None and self.training:
            speech, speech_lengths = self.specaug(speech, speech_lengths)
        if self.normalize is not None:
            speech, speech_lengths = self.normalize(speech, speech_lengths)
        memory, lengths, _ = self.encoder(speech, speech_lengths, isolate=isolate)
        return memory, lengths

    def align(
        self, speech: Tensor, speech_lengths: Tensor, token_counts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Curves to read times from, each utterance as if it were alone.

        Args:
            speech: features (batch, frames, dim); speech_lengths: (batch,).
            token_counts: tokens of each utterance, without </s> (batch,).

        Returns:
            encoder output (batch, frames, width), its lengths (batch,), alphas and peaks (batch, frames *
            upsample_times); see funasr.layers.timestamps.cif_timestamps.
        """
        memory, lengths = self.encode(speech, speech_lengths, isolate=True)
        mask = length_mask(lengths, memory.size(1))
        return memory, lengths, *self.predictor.timestamp_curves(memory, mask, token_counts + 1)

    @torch.no_grad()
    def inference(
        self,
        data_in: Sequence[Any] | Tensor,
        data_lengths: Tensor | None = None,
        key: Sequence[str] | None = None,
        tokenizer: Any = None,
        frontend: Any = None,
        *,
        text: Sequence[str] | None = None,
        begin_time: float = 0.0,
        **kwargs: Any,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Align a batch; see FunASRModel.

        Args:
            data_in: pairs (waveform, text), or waveforms or features as of FunASRModel with their texts in `text`.
            text: what is said in each, as the tokenizer reads it.
            begin_time: where the audio begins in its recording, ms; added to the times.

        Returns:
            `key`, `text` (its units stand apart; unknown tokens are left out) and `timestamp`, [start_ms, end_ms] of
            each unit.  With a tokenizer other than CharTokenizer `timestamp` has one entry per token.
        """
        if len(data_in) == 0:
            return [], {}
        if tokenizer is None:
            raise ConfigError("MonotonicAligner needs a tokenizer; its model directory names none")
        audio, texts = _split_pairs(data_in) if text is None else (data_in, list(text))
        if len(texts) != len(audio):
            raise DataError(f"{len(audio)} recordings cannot be aligned with {len(texts)} texts")
        tokens = [list(tokenizer.text2tokens(line)) if line.strip() else [] for line in texts]
        inputs = read_inputs(audio, data_lengths, key, frontend, next(self.parameters()))
        counts = torch.tensor([len(row) for row in tokens], device=inputs.feats.device)
        _, frames, alphas, peaks = self.align(inputs.feats, inputs.lengths, counts)
        alphas, peaks = alphas.cpu(), peaks.cpu()
        frame_ms = inputs.feature_ms * frames_per_output(self.encoder)
        results = []
        for row, (name, spoken) in enumerate(zip(inputs.keys, tokens)):
            fine = int(frames[row]) * self.predictor.upsample_times
            duration = float(frames[row]) * frame_ms if inputs.durations is None else inputs.durations[row]
            curves = (alphas[row, :fine], peaks[row, :fine])
            spans = cif_timestamps(*curves, len(spoken), frame_ms / self.predictor.upsample_times, begin_time, duration)
            said = {"key": name, "token": spoken, "text": tokenizer.tokens2text(spoken) if spoken else ""}
            timed = add_timestamps(said, spans, tokenizer)
            timed.pop("token")
            results.append(timed)
        return results, inputs.timings()


def _split_pairs(data_in: Sequence[Any] | Tensor) -> tuple[list[Any], list[str]]:
    """Waveforms and texts of (waveform, text) pairs."""
    pairs = [
        item for item in data_in if isinstance(item, (tuple, list)) and len(item) == 2 and isinstance(item[1], str)
    ]
    if len(pairs) != len(data_in):
        raise DataError("alignment needs audio and text: give pairs (audio, text)")
    return [audio for audio, _ in pairs], [text for _, text in pairs]

"""Whisper: multilingual recognition and translation of up to 30 s of audio at a time.

Radford et al., "Robust Speech Recognition via Large-Scale Weak Supervision", 2022.
"""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from funasr.layers.label_smoothing import LabelSmoothingLoss
from funasr.layers.text_targets import token_accuracy
from funasr.models.abs_model import FunASRModel, Result, Stats, prepare_features
from funasr.models.whisper.decoding import Answer, SearchOptions, detect_languages, search
from funasr.models.whisper.network import RELEASED_DIMS, AudioEncoder, Dims, TextDecoder
from funasr.models.whisper.tokens import LANGUAGES, TIMESTAMP_MS, SpecialIds
from funasr.register import nearest_names, tables
from funasr.utils.errors import ConfigError

logger = logging.getLogger(__name__)


@tables.register(
    "model_classes",
    "Whisper",
    aliases=(
        "WhisperWarp",
        "Whisper-tiny.en",
        "Whisper-tiny",
        "Whisper-base.en",
        "Whisper-base",
        "Whisper-small.en",
        "Whisper-small",
        "Whisper-medium.en",
        "Whisper-medium",
        "Whisper-large-v1",
        "Whisper-large-v2",
        "Whisper-large-v3",
        "Whisper-large",
        "Whisper-large-v3-turbo",
    ),
)
class Whisper(FunASRModel):
    """Encoder and decoder of Whisper; loads the released checkpoints key for key.

    Args:
        dims: the sizes (see funasr.models.whisper.network.Dims), or the name of a released model, such as "large-v3".
        num_languages: of the vocabulary; needed for sizes that were not released.
        lsm_weight: label smoothing of the training loss.
        length_normalized_loss: training loss per token instead of per utterance.
        ignore_id: padding of labels.
    """

    def __init__(
        self,
        dims: Mapping[str, int] | str,
        num_languages: int | None = None,
        lsm_weight: float = 0.0,
        length_normalized_loss: bool = True,
        ignore_id: int = -1,
    ) -> None:
        super().__init__()
        self.dims = _resolve_dims(dims)
        self.special = SpecialIds.of_vocab(self.dims.n_vocab, num_languages)
        self.encoder = AudioEncoder(self.dims)
        self.decoder = TextDecoder(self.dims)
        self.ignore_id = ignore_id
        self.length_normalized_loss = length_normalized_loss
        self.loss = LabelSmoothingLoss(self.dims.n_vocab, ignore_id, lsm_weight, length_normalized_loss)

    def forward(
        self, speech: Tensor, speech_lengths: Tensor, text: Tensor, text_lengths: Tensor, **kwargs: Any
    ) -> tuple[Tensor, Stats, Tensor]:
        """Training loss of the next token; see FunASRModel.  Stats: loss, acc.

        `text` holds whole sequences, from <|startoftranscript|> to <|endoftext|>; no loss is taken for the start.
        """
        text = text[:, : int(text_lengths.max())]
        memory = self.decoder.project_memory(self.encode(speech))
        logits, _ = self.decoder(text[:, :-1].clamp(min=0), memory)
        targets = text[:, 1:]
        loss = self.loss(logits, targets)
        stats: Stats = {"loss": loss.detach(), "acc": token_accuracy(logits, targets, self.ignore_id)}
        weight = (text_lengths - 1).sum() if self.length_normalized_loss else text_lengths.new_tensor(len(text))
        return loss, stats, weight

    def encode(self, speech: Tensor) -> Tensor:
        """Log-mel frames (batch, 2 * n_audio_ctx, n_mels) -> (batch, n_audio_ctx, width).

        Raises ConfigError for features of another shape.
        """
        wanted = (2 * self.dims.n_audio_ctx, self.dims.n_mels)
        if tuple(speech.shape[1:]) != wanted:
            raise ConfigError(
                f"this Whisper model hears {wanted[0]} frames of {wanted[1]} mel bins, not {tuple(speech.shape[1:])}; "
                f"use `frontend: WhisperFrontend` with do_pad_trim: true, n_mels: {wanted[1]}"
            )
        return self.encoder(speech)

    @torch.no_grad()
    def inference(
        self,
        data_in: Sequence[Tensor] | Tensor,
        data_lengths: Tensor | None = None,
        key: Sequence[str] | None = None,
        tokenizer: Any = None,
        frontend: Any = None,
        *,
        data_type: str = "sound",
        language: str = "auto",
        task: str = "transcribe",
        beam_size: int = 1,
        max_tokens: int | None = None,
        output_timestamp: bool = False,
        **kwargs: Any,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Recognise a batch; see FunASRModel.  Only the first 30 s of an utterance are heard; a warning tells of more.

        Args:
            data_type: "fbank" if data_in holds features (batch, frames, n_mels) although there is a front end.
            language: code such as "zh" for the whole batch, or "auto" to detect it for each utterance.
            task: "transcribe", or "translate" into English.
            beam_size: hypotheses of the search, 1 for greedy search.
            max_tokens: longest answer; default half of the decoder's context.
            output_timestamp: add `timestamp`, [[start_ms, end_ms], ...] of segments, and `sentence_info`, which adds
                their text.

        Returns:
            `key`, `text` (`token_int` without a tokenizer) and `language` of each utterance.
        """
        if len(data_in) == 0:
            return [], {}
        started = time.perf_counter()
        with_frontend = frontend is not None and data_type != "fbank"
        feats, lengths = prepare_features(data_in, data_lengths, frontend if with_frontend else None, self.device)
        feats = feats.transpose(1, 2) if with_frontend and not frontend.permute else feats
        keys = list(key) if key is not None else [f"utt_{i}" for i in range(len(feats))]
        if with_frontend:
            self._warn_of_long_audio(keys, data_in, frontend.fs)
        extracted = time.perf_counter()
        memory = self.decoder.project_memory(self.encode(feats.to(self.encoder.conv1.weight.dtype)))
        prompts, languages = self._prompts(memory, language, task, output_timestamp)
        longest = self.dims.n_text_ctx - prompts.size(1)
        options = SearchOptions(
            beam_size,
            min(max_tokens or self.dims.n_text_ctx // 2, longest),
            output_timestamp,
            () if tokenizer is None else tokenizer.non_speech_ids,
            () if tokenizer is None or tokenizer.blank_id is None else (tokenizer.blank_id,),
        )
        answers = search(self.decoder, memory, prompts, self.special, options)
        results = []
        for name, answer, code, frames in zip(keys, answers, languages, lengths.tolist()):
            said = answer if frames > 0 else Answer((), 0.0)
            results.append({**self._result(name, said, tokenizer, output_timestamp), "language": code})
        meta = {"extract_feat": extracted - started, "decode": time.perf_counter() - extracted}
        return results, meta

    def _prompts(self, memory: list[Tensor], language: str, task: str, timestamps: bool) -> tuple[Tensor, list[str]]:
        """Start of the decoder's input (batch, length), and the language of each utterance."""
        if task not in ("transcribe", "translate"):
            raise ConfigError(f"task must be transcribe or translate, not '{task}'")
        special, batch, device = self.special, memory[0].size(0), memory[0].device
        columns = [torch.full((batch,), special.sot, device=device)]
        languages = ["en"] * batch
        if special.multilingual:
            if language == "auto":
                ids = detect_languages(self.decoder, memory, special)
            else:
                ids = torch.full((batch,), special.language_id(language), device=device)
            columns += [ids, torch.full_like(ids, getattr(special, task))]
            languages = [LANGUAGES[index - special.languages.start] for index in ids.tolist()]
        elif language not in ("auto", "en") or task != "transcribe":
            raise ConfigError(f"this Whisper model can only transcribe English, not {task} '{language}'")
        if not timestamps:
            columns.append(torch.full_like(columns[0], special.no_timestamps))
        return torch.stack(columns, dim=1), languages

    def _result(self, key: str, answer: Answer, tokenizer: Any, timestamps: bool) -> Result:
        spoken = [i for i in answer.ids if i < self.special.eot]
        result: Result = {"key": key}
        result |= {"token_int": spoken} if tokenizer is None else {"text": tokenizer.decode(spoken).strip()}
        if timestamps:
            segments = split_segments(answer.ids, self.special, self.dims.n_audio_ctx)
            result["timestamp"] = [[start, end] for start, end, _ in segments]
            if tokenizer is not None:
                result["sentence_info"] = [
                    {"text": tokenizer.decode(ids).strip(), "start": start, "end": end} for start, end, ids in segments
                ]
        return result

    def _warn_of_long_audio(self, keys: Sequence[str], waves: Sequence[Tensor] | Tensor, fs: int) -> None:
        limit = 2 * self.dims.n_audio_ctx * fs // 100
        for name, wave in zip(keys, waves):
            if len(wave) > limit:
                seconds, heard = len(wave) / fs, limit / fs
                logger.warning("%s: only the first %.0f of %.1f s are heard; cut it with a VAD", name, heard, seconds)


def split_segments(ids: Sequence[int], special: SpecialIds, frames: int) -> list[tuple[int, int, list[int]]]:
    """(start_ms, end_ms, text ids) of each segment between time stamps; an open one ends with the audio.

    Args:
        frames: encoder frames (20 ms each) of the audio.
    """
    segments: list[tuple[int, int, list[int]]] = []
    start, text = 0, []
    for token in ids:
        if token < special.eot:
            text.append(token)
        elif token >= special.first_timestamp:
            now = (token - special.first_timestamp) * TIMESTAMP_MS
            if text:
                segments.append((start, now, text))
            start, text = now, []
    return [*segments, (start, frames * TIMESTAMP_MS, text)] if text else segments


def _resolve_dims(dims: Mapping[str, int] | str) -> Dims:
    if isinstance(dims, str):
        if dims not in RELEASED_DIMS:
            near = nearest_names(dims, list(RELEASED_DIMS)) or list(RELEASED_DIMS)
            raise ConfigError(f"model_conf: no released Whisper model is called '{dims}'; nearest: {', '.join(near)}")
        return RELEASED_DIMS[dims]
    names = [field.name for field in dataclasses.fields(Dims)]
    if set(dims) != set(names):
        raise ConfigError(f"model_conf: dims must give {', '.join(names)}, not {', '.join(map(str, dims))}")
    return Dims(**dims)

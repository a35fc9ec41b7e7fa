"""SenseVoiceSmall: CTC recognition that also names language, emotion, sound event and text normalisation.

An et al., "FunAudioLLM: Voice Understanding and Generation Foundation Models for Natural Interaction Between Humans and
LLMs", 2024.  Four learned query frames stand before the features and ask for language, emotion, event and text
normalisation; at these frames the CTC head answers with tags such as `<|zh|>` or `<|HAPPY|>`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from funasr.layers.ctc import CTC
from funasr.layers.label_smoothing import LabelSmoothingLoss
from funasr.layers.text_targets import token_accuracy
from funasr.models.abs_model import FunASRModel, Result, Stats
from funasr.models.inputs import read_inputs
from funasr.models.results import make_result
from funasr.models.sense_voice.timing import Run, join_pieces, label_runs, run_times
from funasr.register import tables
from funasr.utils.errors import ConfigError, DataError

logger = logging.getLogger(__name__)

QUERIES = 4  # frames before the speech: language, emotion, event, text normalisation
QUERY_ROWS = 16
LANGUAGES = {"auto": 0, "zh": 3, "en": 4, "yue": 7, "ja": 11, "ko": 12, "nospeech": 13}
"""Language -> row of the query embedding."""
TEXT_NORMS = {"withitn": 14, "woitn": 15}
"""Text normalisation -> row; with inverse text normalisation (digits, punctuation) or without."""
_EVENT_EMOTION_ROWS = (1, 2)

# Ids of the released vocabulary (25055 pieces).  Labels of training data begin with four of them.
LANGUAGE_OF_ID = {24884: "zh", 24885: "en", 24888: "yue", 24892: "ja", 24896: "ko", 24992: "nospeech"}
TEXT_NORM_OF_ID = {25016: "withitn", 25017: "woitn"}
EMO_UNKNOWN, EMO_UNKNOWN_ID = "<|EMO_UNKNOWN|>", 25009

KEEP_LANGUAGE_ABOVE = 0.2


@tables.register("model_classes", "SenseVoiceSmall")
class SenseVoiceSmall(FunASRModel):
    """Encoder and CTC head over query frames and speech frames.

    Args:
        encoder, ctc, specaug, normalize: built parts.
        vocab_size: number of tokens; training needs the released vocabulary, whose tag ids are fixed.
        input_size: feature dimension.
        lsm_weight: label smoothing of the loss of the four tags.
        length_normalized_loss: that loss per tag instead of per utterance.
        ignore_id, sos, eos: reserved ids; sos and eos never enter a text.
    """

    one_pass = True

    def __init__(
        self,
        encoder: nn.Module,
        ctc: CTC,
        specaug: nn.Module | None = None,
        normalize: nn.Module | None = None,
        vocab_size: int = 0,
        input_size: int | None = None,
        lsm_weight: float = 0.0,
        length_normalized_loss: bool = False,
        ignore_id: int = -1,
        sos: int = 1,
        eos: int = 2,
    ) -> None:
        super().__init__()
        if encoder is None or not input_size:
            raise ConfigError("SenseVoiceSmall needs an encoder and a front end (or input_size)")
        self.specaug = specaug
        self.normalize = normalize
        self.encoder = encoder
        self.ctc = ctc
        self.embed = nn.Embedding(QUERY_ROWS, input_size)
        self.length_normalized_loss = length_normalized_loss
        self.ignore_id = ignore_id
        self.sos = sos
        self.eos = eos
        self.rich_loss = LabelSmoothingLoss(vocab_size, ignore_id, lsm_weight, length_normalized_loss)

    def forward(
        self, speech: Tensor, speech_lengths: Tensor, text: Tensor, text_lengths: Tensor, **kwargs: Any
    ) -> tuple[Tensor, Stats, Tensor]:
        """Training loss; see FunASRModel.  Stats: loss, loss_ctc, loss_rich (of the tags), acc_rich.

        `text` begins with the ids of four tags: language, emotion, event, text normalisation.  Raises DataError if
        labels are shorter or have no text-normalisation tag in the fourth place.
        """
        text = text[:, : int(text_lengths.max())]
        languages, norms = query_rows_of_labels(text, text_lengths)
        known = languages.masked_fill(~self.keep_language(len(text)).to(languages.device), LANGUAGES["auto"])
        memory, lengths = self.encode(speech, speech_lengths, known, norms)
        tags = text[:, :QUERIES]
        tag_logits = self.ctc.ctc_lo(memory[:, :QUERIES])
        loss_ctc = self.ctc(memory[:, QUERIES:], lengths - QUERIES, text[:, QUERIES:], text_lengths - QUERIES)
        loss_rich = self.rich_loss(tag_logits, tags)
        loss = loss_ctc + loss_rich
        stats: Stats = {
            "loss_ctc": loss_ctc.detach(),
            "loss_rich": loss_rich.detach(),
            "acc_rich": token_accuracy(tag_logits, tags, self.ignore_id),
            "loss": loss.detach(),
        }
        weight = (text_lengths + 1).sum() if self.length_normalized_loss else text_lengths.new_tensor(len(text))
        return loss, stats, weight

    def keep_language(self, batch: int) -> Tensor:
        """(batch,) bool: whose language the network is told; one in five must find it out.  In eval mode all are."""
        if not self.training:
            return torch.ones(batch, dtype=torch.bool)
        return torch.rand(batch) > KEEP_LANGUAGE_ABOVE

    def encode(
        self, speech: Tensor, speech_lengths: Tensor, languages: Tensor, norms: Tensor, isolate: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Encoder output (batch, 4 + frames, width) and its lengths (batch,), both with the query frames.

        Args:
            speech: features (batch, frames, dim); speech_lengths: (batch,).
            languages, norms: (batch,) rows of the query embedding, see LANGUAGES and TEXT_NORMS.
        """
        if self.specaug is not None and self.training:
            speech, speech_lengths = self.specaug(speech, speech_lengths)
        if self.normalize is not None:
            speech, speech_lengths = self.normalize(speech, speech_lengths)
        fixed = [torch.full_like(languages, row) for row in _EVENT_EMOTION_ROWS]
        queries = self.embed(torch.stack([languages, *fixed, norms], dim=1))
        speech = torch.cat([queries.to(speech.dtype), speech], dim=1)
        memory, lengths, _ = self.encoder(speech, speech_lengths + QUERIES, isolate=isolate)
        return memory, lengths

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
        use_itn: bool = False,
        text_norm: str | None = None,
        ban_emo_unk: bool = False,
        output_timestamp: bool = False,
        **kwargs: Any,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Recognise a batch; see FunASRModel.

        Args:
            data_type: "fbank" if data_in holds features although there is a front end.
            language: one of LANGUAGES for the whole batch; another name is taken for "auto", with a warning.
            use_itn: write digits and punctuation.
            text_norm: "withitn" or "woitn"; overrides use_itn.
            ban_emo_unk: never answer that the emotion is unknown.
            output_timestamp: add `timestamp`, [[start_ms, end_ms], ...], and `words`, the units timed.

        Returns:
            `key` and `text` (tags first, see funasr.text.rich_transcription) of each utterance, `token_int` instead of
            `text` without a tokenizer; an utterance without a frame has the text "".
        """
        if len(data_in) == 0:
            return [], {}
        inputs = read_inputs(data_in, data_lengths, key, frontend, self.embed.weight, data_type)
        languages = inputs.lengths.new_full((len(inputs.keys),), _language_row(language))
        norms = torch.full_like(languages, _text_norm_row(text_norm, use_itn))
        banned = self._emo_unknown_id(tokenizer) if ban_emo_unk else None
        paths = self.best_paths(inputs.feats, inputs.lengths, languages, norms, banned)
        results = []
        for name, path in zip(inputs.keys, paths):
            runs = label_runs(path)
            result = make_result(name, [run.label for run in runs], tokenizer, (self.sos, self.eos))
            result.pop("token", None)
            if output_timestamp:
                result |= self._timed_words(runs, tokenizer, inputs.feature_ms)
            results.append(result)
        return results, inputs.timings()

    def best_paths(
        self, speech: Tensor, speech_lengths: Tensor, languages: Tensor, norms: Tensor, banned: int | None = None
    ) -> list[list[int]]:
        """The likeliest label of each frame, query frames first; no frame at all for an utterance without speech.

        Args:
            speech, speech_lengths, languages, norms: see `encode`.
            banned: an id that must not be chosen.
        """
        memory, lengths = self.encode(speech, speech_lengths, languages, norms, isolate=True)
        logits = self.ctc.ctc_lo(memory)
        if banned is not None:
            logits[..., banned] = -torch.inf
        heard = lengths.masked_fill(speech_lengths == 0, 0).tolist()
        return [labels[:count] for labels, count in zip(logits.argmax(dim=-1).tolist(), heard)]

    def _timed_words(self, runs: Sequence[Run], tokenizer: Any, frame_ms: float) -> Result:
        """`timestamp` and `words` of the speech frames.

        Released FunASR cuts the text into pieces again and aligns those; the best path is the best alignment of its
        own ids already, so their times are at hand and cannot get out of step with the text.
        """
        spoken = [run for run in runs if run.start >= QUERIES and run.label not in (self.sos, self.eos)]
        times = run_times(spoken, QUERIES, frame_ms)
        if tokenizer is None:
            return {"timestamp": times}
        words, spans = join_pieces(tokenizer.ids2tokens([run.label for run in spoken]), times)
        return {"timestamp": spans, "words": words}

    def _emo_unknown_id(self, tokenizer: Any) -> int:
        if tokenizer is not None and EMO_UNKNOWN in tokenizer.token_list:
            return int(tokenizer.token_list.index(EMO_UNKNOWN))
        if self.ctc.odim <= EMO_UNKNOWN_ID:
            raise ConfigError(f"ban_emo_unk: the vocabulary of this model has no {EMO_UNKNOWN}; leave the option out")
        return EMO_UNKNOWN_ID


def query_rows_of_labels(text: Tensor, text_lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Language rows and text-normalisation rows (batch,) that the tags of labels `text` (batch, tokens) name.

    A language without a row of its own is "auto".  Raises DataError for labels that are too short or whose fourth tag
    is not a text normalisation.
    """
    if int(text_lengths.min()) < QUERIES:
        raise DataError(
            f"labels of SenseVoiceSmall begin with {QUERIES} tags (language, emotion, event, text normalisation); "
            f"one utterance of the batch has {int(text_lengths.min())} labels"
        )
    languages = torch.full_like(text[:, 0], LANGUAGES["auto"])
    for number, name in LANGUAGE_OF_ID.items():
        languages = languages.masked_fill(text[:, 0] == number, LANGUAGES[name])
    norms = torch.full_like(text[:, 3], -1)
    for number, name in TEXT_NORM_OF_ID.items():
        norms = norms.masked_fill(text[:, 3] == number, TEXT_NORMS[name])
    if bool((norms < 0).any()):
        wrong = int(text[:, 3][norms < 0][0])
        raise DataError(f"the fourth label must be the id of a text normalisation {TEXT_NORM_OF_ID}, not {wrong}")
    return languages, norms


def _language_row(language: str) -> int:
    if language not in LANGUAGES:
        logger.warning("language '%s' is none of %s; it is taken for auto", language, ", ".join(LANGUAGES))
    return LANGUAGES.get(language, LANGUAGES["auto"])


def _text_norm_row(text_norm: str | None, use_itn: bool) -> int:
    if text_norm is None:
        return TEXT_NORMS["withitn" if use_itn else "woitn"]
    if text_norm not in TEXT_NORMS:
        raise ConfigError(f"text_norm must be {' or '.join(TEXT_NORMS)}, not '{text_norm}'")
    return TEXT_NORMS[text_norm]

"""Keyword spotting: an FSMN with CTC, and a prefix beam search over the tokens of the keywords alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from funasr.decode.ctc import ctc_greedy_search
from funasr.layers.ctc import CTC
from funasr.models.abs_model import FunASRModel, Result, Stats, prepare_features
from funasr.models.fsmn_kws.keywords import BLANK, parse_keywords
from funasr.models.fsmn_kws.search import find_keyword
from funasr.register import tables
from funasr.utils.errors import ConfigError


@tables.register("model_classes", "FsmnKWS")
class FsmnKWS(FunASRModel):
    """Does one of a few keywords occur in an utterance?  The keywords are given with each call.

    Args:
        encoder: FSMN without softmax.
        ctc: the CTC head; None if the encoder's units are the tokens.
        specaug, normalize: optional parts, see FunASRModel.
    """

    training_only_options = frozenset({"ctc_weight"})
    """Options that configurations of released models name and that have never changed anything."""

    def __init__(
        self,
        encoder: nn.Module,
        ctc: CTC | None,
        vocab_size: int,
        specaug: nn.Module | None = None,
        normalize: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if getattr(encoder, "use_softmax", False):
            raise ConfigError("encoder_conf: FsmnKWS needs `use_softmax: false`; its softmax comes after the CTC head")
        if ctc is None and encoder.output_size() != vocab_size:  # type: ignore[operator]
            raise ConfigError(
                f"the encoder has {encoder.output_size()} units and no CTC head "  # type: ignore[operator]
                f"follows it, but there are {vocab_size} tokens"
            )
        self.specaug = specaug
        self.normalize = normalize
        self.encoder = encoder
        self.ctc = ctc

    def forward(
        self, speech: Tensor, speech_lengths: Tensor, text: Tensor, text_lengths: Tensor, **kwargs: Any
    ) -> tuple[Tensor, Stats, Tensor]:
        """CTC loss over all tokens; see FunASRModel.

        An utterance without keywords is one without text: its loss is that of blanks alone.  `acc` in the statistics is
        the share of utterances whose likeliest path gives just their text.
        """
        if self.ctc is None:
            raise ConfigError("training FsmnKWS needs a CTC part")
        if self.specaug is not None and self.training:
            speech, speech_lengths = self.specaug(speech, speech_lengths)
        if self.normalize is not None:
            speech, speech_lengths = self.normalize(speech, speech_lengths)
        out, lengths, _ = self.encoder(speech, speech_lengths)
        loss = self.ctc(out, lengths, text, text_lengths)
        found = ctc_greedy_search(self.ctc.log_softmax(out.detach()), lengths, BLANK)
        right = [ids == row[:count].tolist() for ids, row, count in zip(found, text, text_lengths.tolist())]
        accuracy = loss.new_tensor(sum(right) / len(right))
        return loss, {"loss": loss.detach(), "acc": accuracy}, text_lengths.new_tensor(text.size(0))

    def posteriors(self, speech: Tensor, speech_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (batch, frames, tokens), float32, and lengths (batch,) of features (batch, frames, dim)."""
        if self.normalize is not None:
            speech, speech_lengths = self.normalize(speech, speech_lengths)
        out, lengths, _ = self.encoder(speech, speech_lengths, isolate=True)
        return (out.float().softmax(dim=-1) if self.ctc is None else self.ctc.log_softmax(out).exp()), lengths

    @torch.no_grad()
    def inference(
        self,
        data_in: Sequence[Tensor] | Tensor,
        data_lengths: Tensor | None = None,
        key: Sequence[str] | None = None,
        tokenizer: Any = None,
        frontend: Any = None,
        *,
        keywords: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Look for keywords; see FunASRModel.

        Args:
            tokenizer: with `token_ids` and, if the model has a lexicon, `seg_dict`.
            keywords: as a list, or in one string with commas between them.

        Returns:
            `key` and `text` of each utterance: "detected KEYWORD SCORE" or "rejected".

        Raises:
            ConfigError: no keyword, or no tokenizer.
        """
        if tokenizer is None:
            raise ConfigError("keyword spotting needs the model's tokenizer")
        wanted = parse_keywords(keywords, tokenizer)
        if len(data_in) == 0:
            return [], {}
        started = time.perf_counter()
        feats, feats_lengths = prepare_features(data_in, data_lengths, frontend, self.device)
        extracted = time.perf_counter()
        probs, lengths = self.posteriors(feats.to(next(self.parameters()).dtype), feats_lengths)
        keys = list(key) if key is not None else [f"utt_{i}" for i in range(len(data_in))]
        results: list[Result] = []
        for name, matrix, count in zip(keys, probs.cpu(), lengths.tolist()):
            found = find_keyword(matrix[:count], wanted)
            results.append({"key": name, "text": f"detected {found[0]} {found[1]}" if found else "rejected"})
        return results, {"extract_feat": extracted - started, "decode": time.perf_counter() - extracted}

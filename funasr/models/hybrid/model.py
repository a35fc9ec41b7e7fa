"""The hybrid CTC / attention encoder-decoder (Watanabe et al., 2017), whatever its encoder and decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from rapidfuzz.distance import Levenshtein
from torch import Tensor, nn

from funasr.decode.beam_search import BeamSearchOptions, StepDecoder, joint_beam_search
from funasr.decode.ctc import ctc_greedy_search, ctc_prefix_beam_search
from funasr.decode.hypothesis import Hypothesis
from funasr.layers.ctc import CTC
from funasr.layers.label_smoothing import LabelSmoothingLoss
from funasr.layers.mask import length_mask
from funasr.layers.text_targets import add_sos_eos, token_accuracy
from funasr.models.abs_model import FunASRModel, Result, Stats
from funasr.models.inputs import read_inputs
from funasr.models.results import make_result
from funasr.register import tables
from funasr.utils.errors import ConfigError

DECODINGS = ("beam", "ctc_greedy", "ctc_prefix")


@tables.register("model_classes", "Transformer", aliases=("asr",))
@tables.register("model_classes", "Conformer")
@tables.register("model_classes", "Branchformer")
@tables.register("model_classes", "EBranchformer")
@tables.register("model_classes", "SANM")
class HybridCTCAttention(FunASRModel):
    """Encoder with a CTC head and an attention decoder, trained on a weighted sum of both losses.

    Args:
        encoder, decoder, ctc, specaug, normalize: built parts; the decoder or the CTC head may be None if its loss has
            no weight.
        vocab_size: number of tokens.
        ctc_weight: weight of the CTC loss; 1 - ctc_weight goes to the attention loss.
        interctc_weight: share of the CTC loss that comes from the encoder's `interctc_layer_idx` (Lee and Watanabe,
            2021).
        lsm_weight: label smoothing of the attention loss.
        length_normalized_loss: attention loss per token instead of per utterance.
        ignore_id, blank_id, sos, eos: reserved ids; CTC takes 0 for blank.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module | None,
        ctc: CTC | None,
        vocab_size: int,
        specaug: nn.Module | None = None,
        normalize: nn.Module | None = None,
        ctc_weight: float = 0.5,
        interctc_weight: float = 0.0,
        lsm_weight: float = 0.0,
        length_normalized_loss: bool = False,
        ignore_id: int = -1,
        blank_id: int = 0,
        sos: int = 1,
        eos: int = 2,
    ) -> None:
        super().__init__()
        _check_weights(ctc_weight, interctc_weight, encoder, decoder, ctc)
        self.specaug = specaug
        self.normalize = normalize
        self.encoder = encoder
        self.decoder = decoder
        self.ctc = ctc
        self.ctc_weight = ctc_weight
        self.interctc_weight = interctc_weight
        self.length_normalized_loss = length_normalized_loss
        self.ignore_id = ignore_id
        self.blank_id = blank_id
        self.sos = sos
        self.eos = eos
        self.attention_loss = LabelSmoothingLoss(vocab_size, ignore_id, lsm_weight, length_normalized_loss)

    @classmethod
    def unused_parts(cls, model_conf: Mapping[str, Any]) -> tuple[str, ...]:
        """The decoder if `ctc_weight` is 1, the CTC head if it is 0."""
        ctc_weight = float(model_conf.get("ctc_weight", 0.5))
        return ("decoder",) if ctc_weight == 1.0 else ("ctc",) if ctc_weight == 0.0 else ()

    def forward(
        self, speech: Tensor, speech_lengths: Tensor, text: Tensor, text_lengths: Tensor, **kwargs: Any
    ) -> tuple[Tensor, Stats, Tensor]:
        """Training loss; see FunASRModel.  Stats: loss, loss_ctc, loss_att, acc, cer_ctc (in eval mode only)."""
        text = text[:, : int(text_lengths.max())]
        memory, lengths, intermediate = self.encode(speech, speech_lengths)
        stats: Stats = {"loss_ctc": None, "cer_ctc": None, "loss_att": None, "acc": None}
        loss = memory.new_zeros((), dtype=torch.float32)
        if self.ctc is not None:
            loss_ctc = self.ctc(memory, lengths, text, text_lengths)
            stats["loss_ctc"] = loss_ctc.detach()
            if not self.training:
                stats["cer_ctc"] = self._ctc_error_rate(memory, lengths, text, text_lengths)
            if self.interctc_weight > 0.0:
                inner = torch.stack([self.ctc(hidden, lengths, text, text_lengths) for hidden in intermediate]).mean()
                stats["loss_interctc"] = inner.detach()
                loss_ctc = (1.0 - self.interctc_weight) * loss_ctc + self.interctc_weight * inner
            loss = loss + self.ctc_weight * loss_ctc
        if self.decoder is not None:
            ys_in, ys_out = add_sos_eos(text, text_lengths, self.sos, self.eos, self.ignore_id)
            logits, _ = self.decoder(memory, lengths, ys_in, text_lengths + 1)
            loss_att = self.attention_loss(logits, ys_out)
            stats["loss_att"] = loss_att.detach()
            stats["acc"] = token_accuracy(logits, ys_out, self.ignore_id)
            loss = loss + (1.0 - self.ctc_weight) * loss_att
        stats["loss"] = loss.detach()
        weight = (text_lengths + 1).sum() if self.length_normalized_loss else text_lengths.new_tensor(text.size(0))
        return loss, stats, weight

    def encode(
        self, speech: Tensor, speech_lengths: Tensor, isolate: bool = False
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Features (batch, frames, dim) to encoder output (batch, frames', width), lengths, intermediate outputs."""
        if self.specaug is not None and self.training:
            speech, speech_lengths = self.specaug(speech, speech_lengths)
        if self.normalize is not None:
            speech, speech_lengths = self.normalize(speech, speech_lengths)
        return self.encoder(speech, speech_lengths, isolate=isolate)

    @torch.no_grad()
    def inference(
        self,
        data_in: Sequence[Tensor] | Tensor,
        data_lengths: Tensor | None = None,
        key: Sequence[str] | None = None,
        tokenizer: Any = None,
        frontend: nn.Module | None = None,
        *,
        decoding: str = "beam",
        beam_size: int = 10,
        decoding_ctc_weight: float = 0.5,
        penalty: float = 0.0,
        maxlenratio: float = 0.0,
        minlenratio: float = 0.0,
        nbest: int = 1,
        with_scores: bool = False,
        **kwargs: Any,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Recognise a batch; see FunASRModel.

        Args:
            decoding: beam (joint CTC / attention search), ctc_greedy or ctc_prefix (without the decoder).  A model
                without decoder takes ctc_greedy for beam.
            decoding_ctc_weight: weight of the CTC prefix score in the joint search.
            penalty: added to the score for each token.
            maxlenratio, minlenratio: bounds of the output length, relative to the encoder frames; 0 = no bound.
            nbest: results per utterance, best first, under the same key.
            with_scores: add `token_int` and `score` (log-probability) to each result.

        Returns:
            Per hypothesis `key`, `token`, `text`; `token_int` instead of the last two without a tokenizer.
        """
        if len(data_in) == 0:
            return [], {}
        decoding = self._checked_decoding(decoding)
        inputs = read_inputs(data_in, data_lengths, key, frontend, next(self.parameters()))
        memory, lengths, _ = self.encode(inputs.feats, inputs.lengths, isolate=True)
        if decoding == "beam":
            ctc_weight = decoding_ctc_weight if self.ctc is not None else 0.0
            options = BeamSearchOptions(beam_size, ctc_weight, penalty, maxlenratio, minlenratio, nbest)
            hypotheses = self._beam_search(memory, lengths, options)
        else:
            hypotheses = self._ctc_search(memory, lengths, decoding, beam_size, nbest)
        drop = (self.blank_id, self.sos, self.eos)
        results = [
            make_result(name, found.ids, tokenizer, drop, found.score if with_scores else None)
            for name, best in zip(inputs.keys, hypotheses)
            for found in best or [Hypothesis((), 0.0, {})]
        ]
        return results, inputs.timings()

    def _beam_search(self, memory: Tensor, lengths: Tensor, options: BeamSearchOptions) -> list[list[Hypothesis]]:
        log_probs = self.ctc.log_softmax(memory) if self.ctc is not None and options.ctc_weight > 0.0 else None
        decoder = cast("StepDecoder | None", self.decoder)
        return joint_beam_search(memory, lengths, decoder, log_probs, options, self.sos, self.eos)

    def _ctc_search(
        self, memory: Tensor, lengths: Tensor, decoding: str, beam_size: int, nbest: int
    ) -> list[list[Hypothesis]]:
        log_probs = self._ctc_head().log_softmax(memory)
        if decoding == "ctc_prefix":
            return ctc_prefix_beam_search(log_probs, lengths, beam_size, nbest, self.blank_id)
        best_path = log_probs.amax(dim=-1).masked_fill(~length_mask(lengths, log_probs.size(1)), 0.0).sum(dim=1)
        decoded = ctc_greedy_search(log_probs, lengths, self.blank_id)
        return [[Hypothesis(tuple(ids), score, {})] for ids, score in zip(decoded, best_path.tolist())]

    def _checked_decoding(self, decoding: str) -> str:
        if decoding not in DECODINGS:
            raise ConfigError(f"unknown decoding '{decoding}'; choose one of {', '.join(DECODINGS)}")
        if decoding == "beam" and self.decoder is None:
            return "ctc_greedy"
        if decoding != "beam" and self.ctc is None:
            raise ConfigError(f"decoding '{decoding}' needs a CTC head, and this model has none; use beam")
        return decoding

    def _ctc_head(self) -> CTC:
        if self.ctc is None:
            raise ConfigError("this model has no CTC head (ctc_weight 0)")
        return self.ctc

    @torch.no_grad()
    def _ctc_error_rate(self, memory: Tensor, lengths: Tensor, text: Tensor, text_lengths: Tensor) -> Tensor:
        """Token error rate of greedy CTC, a scalar."""
        decoded = ctc_greedy_search(self._ctc_head().log_softmax(memory), lengths, self.blank_id)
        references = [row[:n] for row, n in zip(text.tolist(), text_lengths.tolist())]
        errors = sum(Levenshtein.distance(reference, ids) for reference, ids in zip(references, decoded))
        return memory.new_tensor(errors / max(sum(map(len, references)), 1), dtype=torch.float32)


def _check_weights(
    ctc_weight: float, interctc_weight: float, encoder: nn.Module, decoder: nn.Module | None, ctc: nn.Module | None
) -> None:
    for name, value in (("ctc_weight", ctc_weight), ("interctc_weight", interctc_weight)):
        if not 0.0 <= value <= 1.0:
            raise ConfigError(f"model_conf: {name} must lie between 0 and 1, not {value}")
    if ctc_weight < 1.0 and decoder is None:
        raise ConfigError("model_conf: without a decoder ctc_weight must be 1")
    if ctc_weight > 0.0 and ctc is None:
        raise ConfigError("model_conf: without a CTC head ctc_weight must be 0")
    if interctc_weight > 0.0 and not getattr(encoder, "interctc_layer_idx", ()):
        raise ConfigError("model_conf: interctc_weight needs encoder_conf interctc_layer_idx, e.g. [6]")

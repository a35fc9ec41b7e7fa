"""Paraformer: all tokens at once from acoustic embeddings that a CIF predictor cuts out of the encoder output.

Gao et al., "Paraformer: Fast and Accurate Parallel Transformer for Non-autoregressive End-to-End Speech Recognition",
2022.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.decode.hypothesis import Hypothesis
from funasr.decode.paraformer_beam import paraformer_beam_search
from funasr.layers.cif import cif_length_loss
from funasr.layers.ctc import CTC
from funasr.layers.label_smoothing import LabelSmoothingLoss
from funasr.layers.mask import length_mask
from funasr.layers.text_targets import add_sos_eos, token_accuracy
from funasr.layers.timestamps import cif_timestamps
from funasr.models.abs_model import FunASRModel, Result, Stats, prepare_features
from funasr.models.paraformer.timing import add_timestamps
from funasr.models.results import make_result
from funasr.register import tables
from funasr.utils.errors import ConfigError

LFR_FRAME_MS = 60.0  # of released models: 10 ms frames, every sixth


@dataclass(frozen=True)
class Recognition:
    """What the network says of a batch, before any search.

    encoder_out: (batch, frames, dim), zero beyond encoder_lengths (batch,).
    logits: (batch, tokens, vocab); token_lengths: (batch,) rows of each utterance.
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


@tables.register("model_classes", "Paraformer", aliases=("paraformer",))
class Paraformer(FunASRModel):
    """Encoder, CIF predictor and a parallel decoder, with an optional CTC head.

    Args:
        encoder, decoder, predictor, ctc, specaug, normalize: built parts; ctc is None if `ctc_weight` is 0.
        vocab_size: number of tokens.
        ctc_weight: weight of the CTC loss; 1 - ctc_weight goes to the decoder's loss.
        lsm_weight: label smoothing of the decoder's loss.
        length_normalized_loss: losses per token instead of per utterance.
        predictor_weight: weight of the length loss.
        predictor_bias: 1 if the predictor counts a closing </s>, else 0.
        sampling_ratio: how many of the tokens that a first pass gets wrong are shown to the second (glancing).
        share_embedding: take the token embeddings from the output layer.
        ignore_id, blank_id, sos, eos: reserved ids; CTC takes 0 for blank.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        predictor: nn.Module,
        ctc: CTC | None,
        vocab_size: int,
        specaug: nn.Module | None = None,
        normalize: nn.Module | None = None,
        ctc_weight: float = 0.5,
        lsm_weight: float = 0.0,
        length_normalized_loss: bool = False,
        predictor_weight: float = 0.0,
        predictor_bias: int = 0,
        sampling_ratio: float = 0.2,
        share_embedding: bool = False,
        ignore_id: int = -1,
        blank_id: int = 0,
        sos: int = 1,
        eos: int = 2,
    ) -> None:
        super().__init__()
        _check_options(ctc_weight, predictor_bias, sampling_ratio, decoder, predictor, ctc)
        self.specaug = specaug
        self.normalize = normalize
        self.encoder = encoder
        self.decoder: Any = decoder
        self.predictor = predictor
        self.ctc = ctc
        self.ctc_weight = ctc_weight
        self.length_normalized_loss = length_normalized_loss
        self.predictor_weight = predictor_weight
        self.predictor_bias = predictor_bias
        self.sampling_ratio = sampling_ratio
        self.share_embedding = share_embedding
        self.ignore_id = ignore_id
        self.blank_id = blank_id
        self.sos = sos
        self.eos = eos
        self.attention_loss = LabelSmoothingLoss(vocab_size, ignore_id, lsm_weight, length_normalized_loss)
        if share_embedding:
            decoder.embed = None  # type: ignore[assignment]

    @classmethod
    def unused_parts(cls, model_conf: Mapping[str, Any]) -> tuple[str, ...]:
        """The CTC head if `ctc_weight` is 0."""
        return ("ctc",) if float(model_conf.get("ctc_weight", 0.5)) == 0.0 else ()

    def forward(
        self, speech: Tensor, speech_lengths: Tensor, text: Tensor, text_lengths: Tensor, **kwargs: Any
    ) -> tuple[Tensor, Stats, Tensor]:
        """Training loss; see FunASRModel.  Stats: loss, loss_att, loss_pre, acc (of the first pass), loss_ctc."""
        text = text[:, : int(text_lengths.max())]
        memory, lengths = self.encode(speech, speech_lengths)
        labels, label_lengths = text, text_lengths
        if self.predictor_bias:
            labels = add_sos_eos(text, text_lengths, self.sos, self.eos, self.ignore_id)[1]
            label_lengths = text_lengths + 1
        cif = self.predictor(memory, label_lengths, length_mask(lengths, memory.size(1)))
        embeds, first_pass = cif.embeds, None
        if self.sampling_ratio > 0.0:
            first_pass = self._first_pass(memory, lengths, embeds, label_lengths)
            embeds = self.glance(embeds, labels, label_lengths, first_pass.argmax(dim=-1))
        logits, _ = self.decoder(memory, lengths, embeds, label_lengths)
        loss_att = self.attention_loss(logits, labels)
        loss_pre = cif_length_loss(cif.token_num, label_lengths, self.length_normalized_loss)
        loss = (1.0 - self.ctc_weight) * loss_att + self.predictor_weight * loss_pre
        stats: Stats = {
            "loss_att": loss_att.detach(),
            "acc": token_accuracy(logits if first_pass is None else first_pass, labels, self.ignore_id),
            "loss_pre": loss_pre.detach(),
        }
        if self.ctc is not None:
            loss_ctc = self.ctc(memory, lengths, text, text_lengths)
            loss = loss + self.ctc_weight * loss_ctc
            stats["loss_ctc"] = loss_ctc.detach()
        stats["loss"] = loss.detach()
        weight = label_lengths.sum() if self.length_normalized_loss else text_lengths.new_tensor(text.size(0))
        return loss, stats, weight

    def encode(self, speech: Tensor, speech_lengths: Tensor, isolate: bool = False) -> tuple[Tensor, Tensor]:
        """Features (batch, frames, dim) to encoder output (batch, frames', width) and its lengths (batch,)."""
        if self.specaug is not None and self.training:
            speech, speech_lengths = self.specaug(speech, speech_lengths)
        if self.normalize is not None:
            speech, speech_lengths = self.normalize(speech, speech_lengths)
        memory, lengths, _ = self.encoder(speech, speech_lengths, isolate=isolate)
        return memory, lengths

    @torch.no_grad()
    def _first_pass(self, memory: Tensor, lengths: Tensor, embeds: Tensor, label_lengths: Tensor) -> Tensor:
        logits, _ = self.decoder(memory, lengths, embeds, label_lengths)
        # Autocast keeps the low-precision weights it made here, without gradient, and would use them in the next pass.
        torch.clear_autocast_cache()
        return logits

    def glance(self, embeds: Tensor, labels: Tensor, label_lengths: Tensor, predicted: Tensor) -> Tensor:
        """Replace some acoustic embeddings by those of the labels, more of them the more tokens were wrong.

        Args:
            embeds: (batch, tokens, dim); labels, predicted: ids (batch, tokens); label_lengths: (batch,).

        Returns:
            (batch, tokens, dim), zero beyond label_lengths.
        """
        valid = length_mask(label_lengths, labels.size(1))
        wrong = ((predicted != labels) & valid).sum(dim=1)
        count = (wrong.float() * self.sampling_ratio).long()
        replaced = self.sampling_ranks(valid) < count[:, None]
        known = self._embed_labels(labels.masked_fill(~valid, 0)).to(embeds.dtype)
        return torch.where(replaced[..., None], known, embeds).masked_fill(~valid[..., None], 0.0)

    def sampling_ranks(self, valid: Tensor) -> Tensor:
        """A random order of each utterance's valid tokens: ranks (batch, tokens); the first are replaced first."""
        order = torch.rand(valid.shape, device=valid.device).masked_fill(~valid, 2.0).argsort(dim=1)
        return order.argsort(dim=1)

    def _embed_labels(self, labels: Tensor) -> Tensor:
        if self.share_embedding:
            return F.embedding(labels, self.decoder.output_layer.weight)
        return self.decoder.embed(labels)

    def recognise(self, speech: Tensor, speech_lengths: Tensor) -> Recognition:
        """Token scores of features (batch, frames, dim), each utterance as if it were alone."""
        memory, lengths = self.encode(speech, speech_lengths, isolate=True)
        mask = length_mask(lengths, memory.size(1))
        memory = memory.masked_fill(~mask[..., None], 0.0)
        cif = self.predictor(memory, mask=mask)
        # An utterance without a frame has no token, whatever the predictor's tail weighs.
        token_lengths = cif.token_num.round().long().masked_fill(lengths == 0, 0)
        rows = int(token_lengths.max()) if token_lengths.numel() else 0
        if rows:
            logits, _ = self.decoder(memory, lengths, cif.embeds[:, :rows], token_lengths)
        else:
            logits = memory.new_zeros(memory.size(0), 0, 1)
        return Recognition(memory, lengths, logits, token_lengths, cif.alphas, cif.peaks)

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
        output_timestamp: bool = False,
        pred_timestamp: bool = False,
        begin_time: float = 0.0,
        decoding_ctc_weight: float = 0.0,
        beam_size: int = 2,
        nbest: int = 1,
        penalty: float = 0.0,
        with_scores: bool = False,
        **kwargs: Any,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Recognise a batch; see FunASRModel.

        Args:
            data_type: "fbank" if data_in holds features although there is a front end.
            output_timestamp, pred_timestamp: either adds `timestamp`, [[start_ms, end_ms], ...] of the units of `text`,
                which then stand apart.
            begin_time: where the audio begins in its recording, ms; added to the times.
            decoding_ctc_weight: above 0, search with the CTC head instead of taking the best token everywhere.
            beam_size, nbest, penalty: of that search; nbest > 1 gives several results under the same key.
            with_scores: add `token`, `token_int` and `score` (log-probability) to each result.

        Returns:
            `key` and `text` of each utterance (`token_int` without a tokenizer); an utterance in which no token is
            found has the text "".
        """
        if len(data_in) == 0:
            return [], {}
        if decoding_ctc_weight > 0.0 and self.ctc is None:
            raise ConfigError("decoding_ctc_weight needs a CTC head, and this model has none; leave the option out")
        started = time.perf_counter()
        with_frontend = frontend is not None and data_type != "fbank"
        feats, feats_lengths = prepare_features(data_in, data_lengths, frontend if with_frontend else None, self.device)
        feats = feats.to(next(self.parameters()).dtype)
        extracted = time.perf_counter()
        keys = list(key) if key is not None else [f"utt_{i}" for i in range(feats.size(0))]
        output = self.recognise(feats, feats_lengths)
        if decoding_ctc_weight > 0.0:
            hypotheses = self._beam_search(output, decoding_ctc_weight, beam_size, nbest, penalty)
        else:
            hypotheses = _greedy(output, with_scores)
        results = [
            (row, make_result(name, best.ids, tokenizer, (self.blank_id, self.sos, self.eos), best.score))
            for row, (name, found) in enumerate(zip(keys, hypotheses))
            for best in found
        ]
        if output_timestamp or pred_timestamp:
            durations = None
            if with_frontend:
                samples = [len(x) for x in data_in] if data_lengths is None else [int(n) for n in data_lengths]
                durations = [1000.0 * count / frontend.fs for count in samples]
            spans = self._token_times(output, results, self.frame_ms(frontend), begin_time, durations)
            results = [(row, add_timestamps(found, times, tokenizer)) for (row, found), times in zip(results, spans)]
        meta = {"extract_feat": extracted - started, "decode": time.perf_counter() - extracted}
        hidden = () if with_scores else ("token", "score", "token_int") if tokenizer is not None else ("score",)
        return [{k: v for k, v in found.items() if k not in hidden} for _, found in results], meta

    def _beam_search(
        self, output: Recognition, ctc_weight: float, beam_size: int, nbest: int, penalty: float
    ) -> list[list[Hypothesis]]:
        assert self.ctc is not None
        am_log_probs, ctc_log_probs = output.log_probs, self.ctc.log_softmax(output.encoder_out)
        found: list[list[Hypothesis]] = []
        for row, (tokens, frames) in enumerate(zip(output.token_lengths.tolist(), output.encoder_lengths.tolist())):
            best = paraformer_beam_search(
                am_log_probs[row, :tokens],
                ctc_log_probs[row, :frames],
                ctc_weight,
                beam_size,
                nbest,
                penalty,
                self.sos,
                self.eos,
                self.blank_id,
            )
            found.append(best)
        return found

    def frame_ms(self, frontend: Any) -> float:
        """Duration of one encoder frame; without a front end features are taken to come every 60 ms."""
        feature_ms = LFR_FRAME_MS if frontend is None else float(frontend.frame_shift) * int(frontend.lfr_n)
        stages = getattr(getattr(self.encoder, "embed", None), "stages", ())
        return feature_ms * math.prod(stage.stride for stage in stages)

    def _token_times(
        self,
        output: Recognition,
        results: Sequence[tuple[int, Result]],
        frame_ms: float,
        begin_time: float,
        durations: Sequence[float] | None,
    ) -> list[list[list[int]]]:
        """[start_ms, end_ms] of each token of each (row of the batch, result)."""
        alphas, peaks, lengths = output.alphas.cpu(), output.peaks.cpu(), output.encoder_lengths.tolist()
        spans = []
        for row, result in results:
            count = len(result["token"] if "token" in result else result["token_int"])
            frames = lengths[row] + (1 if alphas.size(1) > output.encoder_out.size(1) else 0)  # the tail counts
            duration = lengths[row] * frame_ms if durations is None else durations[row]
            spans.append(
                cif_timestamps(alphas[row, :frames], peaks[row, :frames], count, frame_ms, begin_time, duration)
            )
        return spans


def _greedy(output: Recognition, with_scores: bool) -> list[list[Hypothesis]]:
    """The likeliest token everywhere; scores cost a soft-max over the vocabulary and are 0 unless asked for."""
    best = output.log_probs.max(dim=-1) if with_scores else output.logits.max(dim=-1)
    rows = zip(best.indices.tolist(), best.values.tolist(), output.token_lengths.tolist())
    return [
        [Hypothesis(tuple(ids[:count]), float(sum(values[:count])) if with_scores else 0.0, {})]
        for ids, values, count in rows
    ]


def _check_options(
    ctc_weight: float,
    predictor_bias: int,
    sampling_ratio: float,
    decoder: nn.Module | None,
    predictor: nn.Module | None,
    ctc: nn.Module | None,
) -> None:
    if decoder is None or predictor is None:
        raise ConfigError("Paraformer needs a decoder and a predictor, e.g. `predictor: CifPredictorV2`")
    if not 0.0 <= ctc_weight < 1.0:
        raise ConfigError(f"model_conf: ctc_weight of Paraformer must be at least 0 and below 1, not {ctc_weight}")
    if (ctc_weight > 0.0) != (ctc is not None):
        raise ConfigError(f"model_conf: ctc_weight {ctc_weight} does not fit the CTC head, which is {ctc}")
    if predictor_bias not in (0, 1):
        raise ConfigError(f"model_conf: predictor_bias must be 0 or 1, not {predictor_bias}")
    if not 0.0 <= sampling_ratio <= 1.0:
        raise ConfigError(f"model_conf: sampling_ratio must lie between 0 and 1, not {sampling_ratio}")

"""Paraformer: all tokens at once from acoustic embeddings that a CIF predictor cuts out of the encoder output.

Gao et al., "Paraformer: Fast and Accurate Parallel Transformer for Non-autoregressive End-to-End Speech Recognition",
2022.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.decode.hypothesis import Hypothesis
from funasr.decode.paraformer_beam import paraformer_beam_search
from funasr.layers.cif import CifOutput, cif_length_loss
from funasr.layers.ctc import CTC
from funasr.layers.label_smoothing import LabelSmoothingLoss
from funasr.layers.mask import length_mask
from funasr.layers.text_targets import add_sos_eos, token_accuracy
from funasr.layers.timestamps import cif_timestamps, frames_per_output
from funasr.models.abs_model import FunASRModel, Result, Stats
from funasr.models.inputs import Inputs, read_inputs
from funasr.models.paraformer.recognition import Recognition, SearchOptions, greedy_search
from funasr.models.results import add_timestamps, make_result
from funasr.register import tables
from funasr.utils.errors import ConfigError

Scorer = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""Encoder output (batch, frames, dim) and its lengths, acoustic embeddings (batch, tokens, dim) and their lengths to
token scores (batch, tokens, vocab)."""


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

    one_pass = True

    predictor_type: ClassVar[type[nn.Module]] = nn.Module

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
        if not isinstance(predictor, self.predictor_type):
            kind = type(predictor).__name__
            raise ConfigError(f"{type(self).__name__} needs `predictor: {self.predictor_type.__name__}`, not {kind}")
        self.specaug = specaug
        self.normalize = normalize
        self.encoder = encoder
        self.decoder: Any = decoder
        self.predictor: Any = predictor
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
        return self._loss(speech, speech_lengths, text, text_lengths, self._scores)

    def _loss(
        self, speech: Tensor, speech_lengths: Tensor, text: Tensor, text_lengths: Tensor, scorer: Scorer
    ) -> tuple[Tensor, Stats, Tensor]:
        text = text[:, : int(text_lengths.max())]
        memory, lengths = self.encode(speech, speech_lengths)
        labels, label_lengths = self._targets(text, text_lengths)
        mask = length_mask(lengths, memory.size(1))
        cif = self.predictor(memory, label_lengths, mask)
        loss_att, acc = self._attention_loss(memory, lengths, cif.embeds, labels, label_lengths, scorer)
        loss_length, length_stats = self._length_loss(cif, label_lengths, memory, mask)
        loss = (1.0 - self.ctc_weight) * loss_att + self.predictor_weight * loss_length
        stats: Stats = {"loss_att": loss_att.detach(), "acc": acc, **length_stats}
        if self.ctc is not None:
            loss_ctc = self.ctc(memory, lengths, text, text_lengths)
            loss = loss + self.ctc_weight * loss_ctc
            stats["loss_ctc"] = loss_ctc.detach()
        stats["loss"] = loss.detach()
        return loss, stats, self._weight(label_lengths)

    def _targets(self, text: Tensor, text_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Labels of the decoder, padded with `ignore_id`, and their lengths: with </s> if the predictor counts it."""
        if not self.predictor_bias:
            return text, text_lengths
        return add_sos_eos(text, text_lengths, self.sos, self.eos, self.ignore_id)[1], text_lengths + 1

    def _weight(self, label_lengths: Tensor) -> Tensor:
        """Over how many units the loss was averaged."""
        return label_lengths.sum() if self.length_normalized_loss else label_lengths.new_tensor(len(label_lengths))

    def _attention_loss(
        self,
        memory: Tensor,
        lengths: Tensor,
        embeds: Tensor,
        labels: Tensor,
        label_lengths: Tensor,
        scorer: Scorer,
    ) -> tuple[Tensor, Tensor]:
        """Loss of the decoder, after glancing, and its accuracy before."""
        first_pass = None
        if self.sampling_ratio > 0.0:
            first_pass = self._first_pass(memory, lengths, embeds, label_lengths, scorer)
            embeds = self.glance(embeds, labels, label_lengths, first_pass.argmax(dim=-1))
        logits = scorer(memory, lengths, embeds, label_lengths)
        acc = token_accuracy(logits if first_pass is None else first_pass, labels, self.ignore_id)
        return self.attention_loss(logits, labels), acc

    def _length_loss(self, cif: CifOutput, label_lengths: Tensor, memory: Tensor, mask: Tensor) -> tuple[Tensor, Stats]:
        """What `predictor_weight` weighs."""
        loss_pre = cif_length_loss(cif.token_num, label_lengths, self.length_normalized_loss)
        return loss_pre, {"loss_pre": loss_pre.detach()}

    def _scores(self, memory: Tensor, lengths: Tensor, embeds: Tensor, token_lengths: Tensor) -> Tensor:
        """The decoder as a Scorer."""
        return self.decoder(memory, lengths, embeds, token_lengths)[0]

    def encode(self, speech: Tensor, speech_lengths: Tensor, isolate: bool = False) -> tuple[Tensor, Tensor]:
        """Features (batch, frames, dim) to encoder output (batch, frames', width) and its lengths (batch,)."""
        if self.specaug is not None and self.training:
            speech, speech_lengths = self.specaug(speech, speech_lengths)
        if self.normalize is not None:
            speech, speech_lengths = self.normalize(speech, speech_lengths)
        memory, lengths, _ = self.encoder(speech, speech_lengths, isolate=isolate)
        return memory, lengths

    @torch.no_grad()
    def _first_pass(
        self, memory: Tensor, lengths: Tensor, embeds: Tensor, label_lengths: Tensor, scorer: Scorer
    ) -> Tensor:
        logits = scorer(memory, lengths, embeds, label_lengths)
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

    def recognise(self, speech: Tensor, speech_lengths: Tensor, scorer: Scorer | None = None) -> Recognition:
        """Token scores of features (batch, frames, dim), each utterance as if it were alone.

        Args:
            scorer: what scores the tokens instead of the decoder alone.
        """
        memory, lengths = self.encode(speech, speech_lengths, isolate=True)
        mask = length_mask(lengths, memory.size(1))
        memory = memory.masked_fill(~mask[..., None], 0.0)
        cif = self.predictor(memory, mask=mask)
        # An utterance without a frame has no token, whatever the predictor's tail weighs.
        token_lengths = cif.token_num.round().long().masked_fill(lengths == 0, 0)
        rows = int(token_lengths.max()) if token_lengths.numel() else 0
        if rows:
            logits = (scorer or self._scores)(memory, lengths, cif.embeds[:, :rows], token_lengths)
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
        output_timestamp: bool | None = None,
        pred_timestamp: bool = False,
        begin_time: float = 0.0,
        decoding_ctc_weight: float = 0.0,
        beam_size: int = 2,
        nbest: int = 1,
        penalty: float = 0.0,
        with_scores: bool = False,
        scorer: Scorer | None = None,
        **kwargs: Any,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Recognise a batch; see FunASRModel.

        Args:
            data_type: "fbank" if data_in holds features although there is a front end.
            output_timestamp, pred_timestamp: either adds `timestamp`, [[start_ms, end_ms], ...] of the units of `text`,
                which then stand apart.  Default: if the model was made for it (BiCifParaformer).
            begin_time: where the audio begins in its recording, ms; added to the times.
            decoding_ctc_weight: above 0, search with the CTC head instead of taking the best token everywhere.
            beam_size, nbest, penalty: of that search; nbest > 1 gives several results under the same key.
            with_scores: add `token`, `token_int` and `score` (log-probability) to each result.
            scorer: what scores the tokens instead of the decoder alone.

        Returns:
            `key` and `text` of each utterance (`token_int` without a tokenizer); an utterance in which no token is
            found has the text "".
        """
        if len(data_in) == 0:
            return [], {}
        search = self._checked(SearchOptions(decoding_ctc_weight, beam_size, nbest, penalty))
        inputs = read_inputs(data_in, data_lengths, key, frontend, next(self.parameters()), data_type)
        output = self.recognise(inputs.feats, inputs.lengths, scorer)
        timed = self._gives_times(True if pred_timestamp else output_timestamp)
        return self._results(inputs, output, tokenizer, search, begin_time if timed else None, with_scores)

    def _gives_times(self, asked: bool | None) -> bool:
        """Whether results have times; `asked` is None if the call does not say."""
        return bool(asked)

    def _checked(self, search: SearchOptions) -> SearchOptions:
        if search.ctc_weight > 0.0 and self.ctc is None:
            raise ConfigError("decoding_ctc_weight needs a CTC head, and this model has none; leave the option out")
        return search

    def _results(
        self,
        inputs: Inputs,
        output: Recognition,
        tokenizer: Any,
        search: SearchOptions,
        begin_time: float | None,
        with_scores: bool,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Search and text; with times if `begin_time` (ms) is given."""
        if search.ctc_weight > 0.0:
            hypotheses = self._beam_search(output, search)
        else:
            hypotheses = greedy_search(output, with_scores)
        results = [
            (row, make_result(name, best.ids, tokenizer, (self.blank_id, self.sos, self.eos), best.score))
            for row, (name, found) in enumerate(zip(inputs.keys, hypotheses))
            for best in found
        ]
        if begin_time is not None:
            spans = self._token_times(inputs, output, results, begin_time)
            results = [(row, add_timestamps(found, times, tokenizer)) for (row, found), times in zip(results, spans)]
        meta = inputs.timings()
        hidden = () if with_scores else ("token", "score", "token_int") if tokenizer is not None else ("score",)
        return [{k: v for k, v in found.items() if k not in hidden} for _, found in results], meta

    def _beam_search(self, output: Recognition, search: SearchOptions) -> list[list[Hypothesis]]:
        assert self.ctc is not None
        am_log_probs, ctc_log_probs = output.log_probs, self.ctc.log_softmax(output.encoder_out)
        found: list[list[Hypothesis]] = []
        for row, (tokens, frames) in enumerate(zip(output.token_lengths.tolist(), output.encoder_lengths.tolist())):
            best = paraformer_beam_search(
                am_log_probs[row, :tokens],
                ctc_log_probs[row, :frames],
                search.ctc_weight,
                search.beam_size,
                search.nbest,
                search.penalty,
                self.sos,
                self.eos,
                self.blank_id,
            )
            found.append(best)
        return found

    def _time_curves(self, output: Recognition) -> tuple[Tensor, Tensor, int, int]:
        """Weights and integrator (batch, frames), their frames per encoder frame and how many follow the last one."""
        tail = 1 if output.alphas.size(1) > output.encoder_out.size(1) else 0
        return output.alphas, output.peaks, 1, tail

    def _token_times(
        self, inputs: Inputs, output: Recognition, results: Sequence[tuple[int, Result]], begin_time: float
    ) -> list[list[list[int]]]:
        """[start_ms, end_ms] of each token of each (row of the batch, result)."""
        frame_ms = inputs.feature_ms * frames_per_output(self.encoder)
        alphas, peaks, fineness, tail = self._time_curves(output)
        alphas, peaks, lengths = alphas.cpu(), peaks.cpu(), output.encoder_lengths.tolist()
        spans = []
        for row, result in results:
            count = len(result["token"] if "token" in result else result["token_int"])
            duration = lengths[row] * frame_ms if inputs.durations is None else inputs.durations[row]
            end = lengths[row] * fineness + tail
            spans.append(
                cif_timestamps(alphas[row, :end], peaks[row, :end], count, frame_ms / fineness, begin_time, duration)
            )
        return spans


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

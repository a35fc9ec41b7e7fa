"""SeACo-Paraformer: recognition with times, and a decoder beside it that pulls tokens towards given hotwords.

Shi et al., "SeACo-Paraformer: A Non-Autoregressive ASR System with Flexible and Effective Hotword Customization
Ability", 2024.
"""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.layers.cif import CifPredictorV3
from funasr.layers.label_smoothing import LabelSmoothingLoss
from funasr.layers.mask import length_mask
from funasr.layers.sanm import SANMDecoderLayer, SANMDecoderStack
from funasr.models.abs_model import Result, Stats
from funasr.models.paraformer.bicif import BiCifParaformer
from funasr.models.paraformer.hotwords import (
    Hotwords,
    check_bias_encoder,
    check_hotword_batch,
    encode_hotwords,
    last_outputs,
    pad_hotwords,
)
from funasr.register import tables
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.signature import extends

MAX_HOTWORDS = 50  # more are reduced to those that an utterance attends to most


@tables.register("model_classes", "SeacoParaformer", aliases=("seaco_paraformer",))
class SeacoParaformer(BiCifParaformer):
    """BiCifParaformer with a hotword branch.

    Tokens are scored twice, by the decoder and by the hotword branch; where the branch says "no hotword here" (token
    `NO_BIAS`) the decoder's scores count, elsewhere those of the branch.

    Options of released configurations that change nothing (`seaco_length_normal`) are left out.

    Args:
        seaco_decoder: ParaformerSANMDecoder without input and output layer, whose memory are the hotwords.
        predictor: CifPredictorV3; with another there are no times.
        inner_dim: width of the hotword vectors, that of the decoder.
        bias_encoder_type: "lstm".
        bias_encoder_bid: whether that LSTM is bidirectional.
        bias_encoder_dropout_rate: between its two layers.
        seaco_lsm_weight: label smoothing of the branch's loss.
        seaco_length_normalized_loss: that loss per token instead of per utterance.
        seaco_weight: weight of the decoder's loss beside that of the branch.
        train_decoder: whether there is a decoder's loss.
        NO_BIAS: id of the token that says "no hotword here".

    The other arguments are those of Paraformer.
    """

    predictor_type: ClassVar[type[nn.Module]] = nn.Module

    @extends(BiCifParaformer.__init__)
    def __init__(
        self,
        *,
        seaco_decoder: nn.Module,
        vocab_size: int,
        ignore_id: int = -1,
        inner_dim: int = 256,
        bias_encoder_type: str = "lstm",
        bias_encoder_bid: bool = False,
        bias_encoder_dropout_rate: float = 0.0,
        seaco_lsm_weight: float = 0.0,
        seaco_length_normalized_loss: bool = True,
        seaco_weight: float = 0.01,
        train_decoder: bool = True,
        NO_BIAS: int = 8377,
        **options: Any,
    ) -> None:
        super().__init__(vocab_size=vocab_size, ignore_id=ignore_id, **options)
        check_bias_encoder(self, bias_encoder_type)
        if not isinstance(seaco_decoder, SANMDecoderStack) or not len(seaco_decoder.decoders):
            raise ConfigError("SeacoParaformer needs `seaco_decoder: ParaformerSANMDecoder` with cross attention")
        self.seaco_decoder: Any = seaco_decoder
        self.bias_encoder = nn.LSTM(
            inner_dim,
            inner_dim,
            2,
            batch_first=True,
            dropout=bias_encoder_dropout_rate,
            bidirectional=bias_encoder_bid,
        )
        self.lstm_proj = nn.Linear(2 * inner_dim, inner_dim) if bias_encoder_bid else None
        self.hotword_output_layer = nn.Linear(inner_dim, vocab_size)
        self.seaco_loss = LabelSmoothingLoss(vocab_size, ignore_id, seaco_lsm_weight, seaco_length_normalized_loss)
        self.seaco_weight = seaco_weight
        self.train_decoder = train_decoder
        self.no_bias = NO_BIAS

    def forward(
        self,
        speech: Tensor,
        speech_lengths: Tensor,
        text: Tensor,
        text_lengths: Tensor,
        *,
        hotword_pad: Tensor | None = None,
        hotword_lengths: Tensor | None = None,
        seaco_label_pad: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Stats, Tensor]:
        """Training loss; see FunASRModel.

        Args:
            hotword_pad: ids (hotwords, tokens) padded with 0, the last `[sos]`; hotword_lengths: (hotwords,).
            seaco_label_pad: (batch, tokens) the label where it is part of a hotword, NO_BIAS elsewhere, padded with -1.

        Returns:
            loss, stats (loss_seaco, loss; with `train_decoder` loss_att and acc_att, the accuracy of the first pass),
            weight.
        """
        hotword_pad, hotword_lengths = check_hotword_batch(hotword_pad, hotword_lengths)
        if seaco_label_pad is None:
            raise DataError("SeacoParaformer is trained on batches with `seaco_label_pad`")
        if not self.predictor_bias:
            raise ConfigError("model_conf: predictor_bias of SeacoParaformer must be 1 in training")
        tokens = int(text_lengths.max())
        memory, lengths = self.encode(speech, speech_lengths)
        labels, label_lengths = self._targets(text[:, :tokens], text_lengths)
        embeds = self.predictor(memory, label_lengths, length_mask(lengths, memory.size(1))).embeds
        hidden = self.decoder.hidden(memory, lengths, embeds, label_lengths)
        vectors = self.hotword_vectors(hotword_pad, hotword_lengths)
        logits = self.hotword_logits(vectors, embeds, hidden, label_lengths)
        loss = loss_seaco = self.seaco_loss(logits[:, :-1], seaco_label_pad[:, :tokens])
        stats: Stats = {"loss_seaco": loss_seaco.detach()}
        if self.train_decoder:
            loss_att, acc = self._attention_loss(memory, lengths, embeds, labels, label_lengths, self._scores)
            loss = loss + self.seaco_weight * loss_att
            stats |= {"loss_att": loss_att.detach(), "acc_att": acc}
        stats["loss"] = loss.detach()
        return loss, stats, self._weight(label_lengths)

    def hotword_vectors(self, hotword_pad: Tensor, hotword_lengths: Tensor) -> Tensor:
        """One vector per hotword, (hotwords, inner_dim), of ids (hotwords, tokens) and lengths (hotwords,)."""
        vectors = last_outputs(self.bias_encoder, self._embed_labels(hotword_pad), hotword_lengths)
        return vectors if self.lstm_proj is None else self.lstm_proj(vectors)

    def hotword_logits(self, vectors: Tensor, embeds: Tensor, hidden: Tensor, token_lengths: Tensor) -> Tensor:
        """Token scores of the hotword branch.

        Args:
            vectors: of hotwords, (hotwords, inner_dim), or (batch, hotwords, inner_dim).
            embeds: acoustic embeddings (batch, tokens, dim); hidden: decoder output before its output layer, same
                shape; token_lengths: (batch,).

        Returns:
            (batch, tokens, vocab_size).
        """
        batch = embeds.size(0)
        vectors = vectors.expand(batch, -1, -1).repeat(2, 1, 1)
        counts = token_lengths.new_full((2 * batch,), vectors.size(1))
        attended = self.seaco_decoder.hidden(vectors, counts, torch.cat([embeds, hidden]), token_lengths.repeat(2))
        return self.hotword_output_layer(attended[:batch] + attended[batch:])

    def select_hotwords(self, vectors: Tensor, hidden: Tensor, token_lengths: Tensor) -> Tensor:
        """The MAX_HOTWORDS hotwords that each utterance attends to most, and the last entry, "no hotword".

        Released FunASR lets the first utterance of a batch choose for all, and may choose the last entry twice.

        Args:
            vectors: (hotwords, inner_dim); hidden, token_lengths: as in `hotword_logits`.

        Returns:
            (batch, min(hotwords, MAX_HOTWORDS + 1), inner_dim).
        """
        memory = vectors.expand(hidden.size(0), -1, -1)
        if vectors.size(0) <= MAX_HOTWORDS + 1:
            return memory
        mask = length_mask(token_lengths, hidden.size(1))
        x = hidden
        *blocks, last = self.seaco_decoder.decoders
        for block in blocks:
            x = block(x, mask, memory, None)
        weights = _attention_weights(last, x, mask, memory).masked_fill(~mask[:, None, :, None], 0.0)
        chosen = weights.sum(dim=(1, 2))[:, :-1].topk(MAX_HOTWORDS, dim=1).indices
        return torch.cat([vectors[chosen], memory[:, -1:]], dim=1)

    def _biased_scores(
        self, memory: Tensor, lengths: Tensor, embeds: Tensor, token_lengths: Tensor, vectors: Tensor
    ) -> Tensor:
        """Log-probabilities of decoder and hotword branch together; a Scorer, given the hotword vectors."""
        hidden = self.decoder.hidden(memory, lengths, embeds, token_lengths)
        log_probs = F.log_softmax(self.decoder.output_layer(hidden).float(), dim=-1)
        selected = self.select_hotwords(vectors, hidden, token_lengths)
        biased = F.log_softmax(self.hotword_logits(selected, embeds, hidden, token_lengths).float(), dim=-1)
        unbiased = biased.argmax(dim=-1, keepdim=True) == self.no_bias
        return torch.where(unbiased, log_probs, biased)

    @torch.no_grad()
    @extends(BiCifParaformer.inference, without=("scorer",))
    def inference(
        self, *, tokenizer: Any = None, hotword: Hotwords = None, **options: Any
    ) -> tuple[list[Result], dict[str, Any]]:
        """Recognise a batch; see BiCifParaformer.

        Args:
            hotword: hotwords of this call: text with white space between them, a list, or the path of a .txt file with
                one on each line.  None: no biasing.  Any number; each utterance is biased with the 50 that fit it.
        """
        ids = encode_hotwords(hotword, tokenizer, self.sos)
        scorer = None
        if ids is not None:
            scorer = partial(self._biased_scores, vectors=self.hotword_vectors(*pad_hotwords(ids, self.device)))
        return super().inference(tokenizer=tokenizer, scorer=scorer, **options)

    def _gives_times(self, asked: bool | None) -> bool:
        return isinstance(self.predictor, CifPredictorV3) and super()._gives_times(asked)


def _attention_weights(block: SANMDecoderLayer, x: Tensor, mask: Tensor, memory: Tensor) -> Tensor:
    """With what weights the block would attend to memory, (batch, heads, tokens, entries)."""
    assert block.src_attn is not None
    x = x + block.self_attn(block.norm2(block.feed_forward(block.norm1(x))), mask)
    keys, _ = block.src_attn.keys_values(memory)
    query = block.src_attn.linear_q(block.norm3(x)).unflatten(-1, (block.src_attn.heads, -1)).transpose(1, 2)
    return (query @ keys.transpose(-2, -1) * keys.size(-1) ** -0.5).float().softmax(dim=-1)

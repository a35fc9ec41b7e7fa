"""Contextual Paraformer (CLAS): the last decoder block also attends to given hotwords."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from funasr.models.abs_model import Result, Stats
from funasr.models.paraformer.hotwords import (
    Hotwords,
    check_bias_encoder,
    check_hotword_batch,
    encode_hotwords,
    last_outputs,
    pad_hotwords,
)
from funasr.models.paraformer.model import Paraformer, Scorer
from funasr.register import tables
from funasr.utils.signature import extends


@tables.register(
    "model_classes", "ContextualParaformer", aliases=("contextual_paraformer", "neatcontextual_paraformer")
)
class ContextualParaformer(Paraformer):
    """Paraformer with hotword vectors for a ContextualParaformerDecoder.

    Options of released configurations that change nothing are left out: `crit_attn_weight` weighed a loss that is
    switched off, `bias_encoder_dropout_rate` stood between the layers of an LSTM that has one, `target_buffer_length`
    was not read.

    Args:
        inner_dim: width of the hotword vectors, that of the decoder.
        bias_encoder_type: "lstm".
        use_decoder_embedding: embed the tokens of hotwords as the decoder does instead of by `bias_embed`.

    The other arguments are those of Paraformer.
    """

    @extends(Paraformer.__init__)
    def __init__(
        self,
        *,
        vocab_size: int,
        inner_dim: int = 256,
        bias_encoder_type: str = "lstm",
        use_decoder_embedding: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(vocab_size=vocab_size, **options)
        check_bias_encoder(self, bias_encoder_type)
        self.bias_encoder = nn.LSTM(inner_dim, inner_dim, 1, batch_first=True)
        self.bias_embed = nn.Embedding(vocab_size, inner_dim)
        self.use_decoder_embedding = use_decoder_embedding

    def forward(
        self,
        speech: Tensor,
        speech_lengths: Tensor,
        text: Tensor,
        text_lengths: Tensor,
        *,
        hotword_pad: Tensor | None = None,
        hotword_lengths: Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, Stats, Tensor]:
        """Training loss; see Paraformer.

        Args:
            hotword_pad: ids (hotwords, tokens) padded with 0, the last `[sos]`; hotword_lengths: (hotwords,).
        """
        vectors = self.hotword_vectors(*check_hotword_batch(hotword_pad, hotword_lengths))
        return self._loss(speech, speech_lengths, text, text_lengths, self._scorer(vectors))

    def hotword_vectors(self, hotword_pad: Tensor, hotword_lengths: Tensor) -> Tensor:
        """One vector per hotword, (hotwords, inner_dim), of ids (hotwords, tokens) and lengths (hotwords,)."""
        embedded = self._embed_labels(hotword_pad) if self.use_decoder_embedding else self.bias_embed(hotword_pad)
        return last_outputs(self.bias_encoder, embedded, hotword_lengths)

    def _scorer(self, vectors: Tensor, clas_scale: float = 1.0) -> Scorer:
        return partial(self._biased_scores, vectors=vectors, clas_scale=clas_scale)

    def _biased_scores(
        self,
        memory: Tensor,
        lengths: Tensor,
        embeds: Tensor,
        token_lengths: Tensor,
        vectors: Tensor,
        clas_scale: float,
    ) -> Tensor:
        return self.decoder(memory, lengths, embeds, token_lengths, vectors, clas_scale)[0]

    @torch.no_grad()
    @extends(Paraformer.inference, without=("scorer",))
    def inference(
        self, *, tokenizer: Any = None, hotword: Hotwords = None, clas_scale: float = 1.0, **options: Any
    ) -> tuple[list[Result], dict[str, Any]]:
        """Recognise a batch; see Paraformer.

        Args:
            hotword: hotwords of this call: text with white space between them, a list, or the path of a .txt file with
                one on each line.  None: only the entry that stands for no hotword.
            clas_scale: factor of what the hotwords contribute.
        """
        ids = encode_hotwords(hotword, tokenizer, self.sos) or [[self.sos]]
        scorer = self._scorer(self.hotword_vectors(*pad_hotwords(ids, self.device)), clas_scale)
        return super().inference(tokenizer=tokenizer, scorer=scorer, **options)

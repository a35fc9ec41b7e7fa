"""Paraformer that also says when: a second, finer branch of the predictor gives the times of the tokens.

Shi et al., "Achieving Timestamp Prediction While Recognizing with Non-Autoregressive End-to-End ASR Model", 2023.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from funasr.layers.cif import CifOutput, CifPredictorV3, cif_length_loss
from funasr.layers.mask import length_mask
from funasr.models.abs_model import Result, Stats
from funasr.models.paraformer.model import Paraformer
from funasr.models.paraformer.recognition import Recognition, SearchOptions, read_inputs
from funasr.register import tables


@tables.register("model_classes", "BiCifParaformer", aliases=("bicif_paraformer",))
class BiCifParaformer(Paraformer):
    """Paraformer whose predictor is a CifPredictorV3; arguments and losses as of Paraformer.

    The length loss of the second branch is added with half the weight of the first (stats: `loss_pre2`).
    """

    predictor_type: ClassVar[type[nn.Module]] = CifPredictorV3

    def _length_loss(self, cif: CifOutput, label_lengths: Tensor, memory: Tensor, mask: Tensor) -> tuple[Tensor, Stats]:
        loss, stats = super()._length_loss(cif, label_lengths, memory, mask)
        token_num2 = self.predictor.upsampled_weights(memory, mask, isolate=False).sum(dim=1)
        loss_pre2 = cif_length_loss(token_num2, label_lengths, self.length_normalized_loss)
        return loss + 0.5 * loss_pre2, {**stats, "loss_pre2": loss_pre2.detach()}

    def _time_curves(self, output: Recognition) -> tuple[Tensor, Tensor, int, int]:
        if not isinstance(self.predictor, CifPredictorV3):
            return super()._time_curves(output)
        mask = length_mask(output.encoder_lengths, output.encoder_out.size(1))
        curves = self.predictor.timestamp_curves(output.encoder_out, mask, output.token_lengths)
        return *curves, self.predictor.upsample_times, 0

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
        output_timestamp: bool = True,
        begin_time: float = 0.0,
        decoding_ctc_weight: float = 0.0,
        beam_size: int = 2,
        nbest: int = 1,
        penalty: float = 0.0,
        with_scores: bool = False,
        **kwargs: Any,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Recognise a batch; see Paraformer.

        Args:
            output_timestamp: add `timestamp`, [[start_ms, end_ms], ...] of the units of `text`, which then stand apart.
                Without, no time is spent on the second branch.
        """
        if len(data_in) == 0:
            return [], {}
        search = self._checked(SearchOptions(decoding_ctc_weight, beam_size, nbest, penalty))
        inputs = read_inputs(data_in, data_lengths, key, frontend, data_type, next(self.parameters()))
        output = self.recognise(inputs.feats, inputs.lengths)
        offset = begin_time if output_timestamp else None
        return self._results(inputs, output, tokenizer, search, offset, with_scores)

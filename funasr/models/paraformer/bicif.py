"""Paraformer that also says when: a second, finer branch of the predictor gives the times of the tokens.

Shi et al., "Achieving Timestamp Prediction While Recognizing with Non-Autoregressive End-to-End ASR Model", 2023.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from funasr.layers.cif import CifOutput, CifPredictorV3, cif_length_loss
from funasr.layers.mask import length_mask
from funasr.models.abs_model import Stats
from funasr.models.paraformer.model import Paraformer
from funasr.models.paraformer.recognition import Recognition
from funasr.register import tables


@tables.register("model_classes", "BiCifParaformer", aliases=("bicif_paraformer",))
class BiCifParaformer(Paraformer):
    """Paraformer whose predictor is a CifPredictorV3; arguments and losses as of Paraformer.

    The length loss of the second branch is added with half the weight of the first (stats: `loss_pre2`).  Results have
    times unless `output_timestamp` is False; no time is spent on the second branch then.
    """

    predictor_type: ClassVar[type[nn.Module]] = CifPredictorV3

    def _length_loss(self, cif: CifOutput, label_lengths: Tensor, memory: Tensor, mask: Tensor) -> tuple[Tensor, Stats]:
        loss, stats = super()._length_loss(cif, label_lengths, memory, mask)
        token_num2 = self.predictor.upsampled_weights(memory, mask, isolate=False).sum(dim=1)
        loss_pre2 = cif_length_loss(token_num2, label_lengths, self.length_normalized_loss)
        return loss + 0.5 * loss_pre2, {**stats, "loss_pre2": loss_pre2.detach()}

    def _time_curves(self, output: Recognition) -> tuple[Tensor, Tensor, int, int]:
        mask = length_mask(output.encoder_lengths, output.encoder_out.size(1))
        curves = self.predictor.timestamp_curves(output.encoder_out, mask, output.token_lengths)
        return *curves, self.predictor.upsample_times, 0

    def _gives_times(self, asked: bool | None) -> bool:
        return asked is not False

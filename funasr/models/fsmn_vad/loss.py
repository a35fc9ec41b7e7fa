"""`FrameLoss`: what a voice activity detector is trained with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from funasr.models.abs_model import Stats
from funasr.utils.errors import ConfigError

TARGETS = ("pdf", "class")


class FrameLoss:
    """Weighted cross entropy of frames over output units, or over silence and speech, each the sum of its units.

    Args:
        units: number of output units; sil_pdf_ids: those that stand for silence.
        targets, class_weights, focal_gamma: see FsmnVADStreaming.
    """

    def __init__(
        self,
        units: int,
        sil_pdf_ids: Sequence[int],
        targets: str = "pdf",
        class_weights: Sequence[float] = (1.0, 1.0),
        focal_gamma: float = 0.0,
    ) -> None:
        if targets not in TARGETS:
            raise ConfigError(f"targets is one of {', '.join(TARGETS)}, not '{targets}'")
        if len(class_weights) != 2 or min(class_weights) <= 0:
            raise ConfigError(f"class_weights are two numbers above 0, of silence and speech, not {class_weights}")
        if focal_gamma < 0:
            raise ConfigError(f"focal_gamma must not be below 0, not {focal_gamma}")
        self.units = units
        self.silence = tuple(sil_pdf_ids)
        self.targets = targets
        self.class_weights = tuple(float(weight) for weight in class_weights)
        self.focal_gamma = focal_gamma

    def __call__(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Stats, Tensor]:
        """Loss of a batch.

        Args:
            logits: (batch, frames, units); labels: (batch, frames), negative for frames that do not count.

        Returns:
            mean loss of the frames by weight, stats, sum of the weights.  Stats: loss, acc (labels that are the most
            probable), acc_speech (speech or silence right), miss and false_alarm (shares of all frames).
        """
        log_probs = logits.float().log_softmax(dim=-1)
        is_silent = torch.zeros(self.units, dtype=torch.bool, device=logits.device)
        is_silent[list(self.silence)] = True
        if self.targets == "class":
            # With no unit of one kind, the log of an empty sum is minus infinity, as it should be.
            log_probs = torch.stack(
                [log_probs[..., is_silent].logsumexp(dim=-1), log_probs[..., ~is_silent].logsumexp(dim=-1)], dim=-1
            )
            is_silent = torch.tensor([True, False], device=logits.device)
        known, labels = labels >= 0, labels.clamp(min=0)
        right = log_probs.gather(-1, labels[..., None])[..., 0]
        speech = ~is_silent[labels]
        weights = torch.where(speech, self.class_weights[1], self.class_weights[0]) * known
        losses = -right if self.focal_gamma == 0 else -right * (1.0 - right.exp()).clamp(min=0) ** self.focal_gamma
        total = weights.sum()
        loss = (losses * weights).sum() / total.clamp(min=1e-6)
        best = log_probs.detach().argmax(dim=-1)
        found = ~is_silent[best]
        count = known.sum().clamp(min=1)

        def share(frames: Tensor) -> Tensor:
            return (frames & known).sum() / count

        stats: Stats = {"loss": loss.detach(), "acc": share(best == labels), "acc_speech": share(found == speech)}
        stats |= {"miss": share(speech & ~found), "false_alarm": share(~speech & found)}
        return loss, stats, total.detach()

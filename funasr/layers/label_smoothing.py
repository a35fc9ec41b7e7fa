"""Label-smoothed loss of attention decoders."""

from __future__ import annotations

import math

from torch import Tensor, nn
from torch.nn import functional as F

from funasr.utils.errors import ConfigError


class LabelSmoothingLoss(nn.Module):
    """KL divergence between smoothed labels and the model, summed, then divided by batch size or label count.

    The target distribution has 1 - smoothing on the label and smoothing / (size - 1) on every other class
    (Szegedy et al., 2016).  Its entropy is subtracted, so a perfect model has loss 0.

    Args:
        size: number of classes.
        padding_idx: label that is left out.
        smoothing: probability mass taken from the label, 0 <= smoothing < 1 - 1 / size.
        normalize_length: divide by the number of labels instead of the batch size.
    """

    def __init__(
        self, size: int, padding_idx: int = -1, smoothing: float = 0.0, normalize_length: bool = False
    ) -> None:
        super().__init__()
        if not 0.0 <= smoothing < 1.0 - 1.0 / size:
            raise ConfigError(f"label smoothing must be at least 0 and below 1 - 1 / {size} classes, not {smoothing}")
        self.size = size
        self.padding_idx = padding_idx
        self.smoothing = smoothing
        self.normalize_length = normalize_length
        # Torch spreads its mass over all classes, the label too; this share of it leaves 1 - smoothing on the label.
        self._torch_smoothing = smoothing * size / (size - 1)
        other = smoothing / (size - 1)
        label_entropy = -(1.0 - smoothing) * math.log(1.0 - smoothing)
        self._entropy = label_entropy - (smoothing * math.log(other) if other > 0.0 else 0.0)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Scalar loss of logits (batch, length, size) against target (batch, length)."""
        labels = target.reshape(-1)
        cross_entropy = F.cross_entropy(
            logits.reshape(-1, self.size).float(),
            labels,
            ignore_index=self.padding_idx,
            reduction="sum",
            label_smoothing=self._torch_smoothing,
        )
        count = (labels != self.padding_idx).sum()
        total = cross_entropy - self._entropy * count
        return total / (count.clamp(min=1) if self.normalize_length else max(target.size(0), 1))

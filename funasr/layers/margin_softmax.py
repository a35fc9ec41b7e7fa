"""Additive angular margin softmax: the classifier that a speaker network is trained with and that use does without.

Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", 2019; sub-centres: Deng et al.,
"Sub-center ArcFace: Boosting Face Recognition by Large-Scale Noisy Web Faces", 2020.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.utils.errors import ConfigError


class AAMSoftmax(nn.Module):
    """Cosines of an embedding with the centres of all classes, trained with a margin around the right one.

    The loss is the cross entropy of `scale * cos(angle + margin)` for the class of the utterance and of
    `scale * cos(angle)` for the others.  The margin grows from `initial_margin` to `margin` between the training
    batches number `margin_start` and `margin_end`: before classes are apart a margin only slows training.  In
    evaluation there is none, so that losses of different epochs can be compared.

    Args:
        embedding_size: size of the embeddings.
        num_classes: speakers.
        margin: radians; 0 is a softmax of cosines.
        scale: of the cosines.
        sub_centers: centres of each class; the nearest counts, so that a class may hold odd recordings.
        initial_margin, margin_start, margin_end: see above; with equal batches the margin is `margin` from there on.
    """

    weight: Tensor
    batches: Tensor

    def __init__(
        self,
        embedding_size: int,
        num_classes: int,
        margin: float = 0.2,
        scale: float = 32.0,
        sub_centers: int = 1,
        initial_margin: float = 0.0,
        margin_start: int = 0,
        margin_end: int = 0,
    ) -> None:
        super().__init__()
        if not 0.0 <= initial_margin <= margin < math.pi / 2:
            raise ConfigError(
                f"loss_conf: 0 <= initial_margin <= margin < pi / 2 must hold; they are {initial_margin} and {margin}"
            )
        if not 0 <= margin_start <= margin_end:
            raise ConfigError(
                f"loss_conf: margin_start {margin_start} and margin_end {margin_end} must be batches, in this order"
            )
        if scale <= 0 or sub_centers < 1:
            raise ConfigError(f"loss_conf: scale {scale} must be above 0 and sub_centers {sub_centers} at least 1")
        self.margin, self.initial_margin = margin, initial_margin
        self.margin_start, self.margin_end = margin_start, margin_end
        self.scale, self.sub_centers = scale, sub_centers
        self.weight = nn.Parameter(torch.empty(num_classes * sub_centers, embedding_size))
        nn.init.xavier_uniform_(self.weight)
        # Training batches so far: a buffer, so that a run that is resumed goes on with the schedule.
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))

    def margin_at(self, batch: Tensor) -> Tensor:
        """The margin, in radians, of training batch number `batch` (from 0), a scalar as it is."""
        done = (batch - self.margin_start) / max(1, self.margin_end - self.margin_start)
        done = torch.where(batch >= self.margin_end, 1.0, done.clamp(0.0, 1.0))
        return self.initial_margin + done * (self.margin - self.initial_margin)

    def cosines(self, embeddings: Tensor) -> Tensor:
        """(batch, embedding_size) -> (batch, num_classes) float32: the cosine with the nearest centre of each class."""
        with torch.autocast(embeddings.device.type, enabled=False):
            cosines = F.linear(F.normalize(embeddings.float()), F.normalize(self.weight.float()))
        return cosines.unflatten(1, (-1, self.sub_centers)).amax(dim=2)

    def forward(self, embeddings: Tensor, classes: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss of one batch.

        Args:
            embeddings: (batch, embedding_size); classes: (batch,) int64.

        Returns: mean loss (scalar float32), and `acc` (share of utterances nearest to their own class) and `margin`.
        """
        cosines = self.cosines(embeddings)
        margin = self.margin_at(self.batches) if self.training else torch.zeros_like(cosines[0, 0])
        if self.training:
            self.batches += 1
        own = cosines.gather(1, classes[:, None])
        logits = cosines.scatter(1, classes[:, None], _with_margin(own, margin)) * self.scale
        acc = (cosines.argmax(dim=1) == classes).float().mean().detach()
        return F.cross_entropy(logits, classes), {"acc": acc, "margin": margin}


def _with_margin(cosine: Tensor, margin: Tensor) -> Tensor:
    """cos(angle + margin); beyond angle + margin = pi, where that would rise again, on along a line.

    `margin` is a scalar tensor: reading its value would make the CPU wait for an accelerator.
    """
    sine = (1.0 - cosine.square()).clamp(min=1e-12).sqrt()  # its slope at 0 is infinite
    moved = cosine * margin.cos() - sine * margin.sin()
    return torch.where(cosine > -margin.cos(), moved, cosine - margin * margin.sin())

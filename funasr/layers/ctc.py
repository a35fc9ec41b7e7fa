"""Connectionist temporal classification head (Graves et al., 2006)."""

from __future__ import annotations

import logging

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.layers.mask import length_mask
from funasr.utils.errors import ConfigError

logger = logging.getLogger(__name__)

BLANK = 0


class CTC(nn.Module):
    """Linear layer, log-softmax and the CTC loss; blank has id 0.

    Args:
        odim: vocabulary size, blank included.
        encoder_output_size: width of the encoder output.
        dropout_rate: dropout before the linear layer, in training only.
        ctc_type: "builtin" (torch) is the only one.
        reduce: sum of the losses of the batch divided by its size; if False, one loss per utterance.
        ignore_nan_grad: an utterance whose labels do not fit its frames adds no loss and no gradient; they are
            counted in `ignored` and logged.
        extra_linear: False where the encoder's output is the scores already (`ctc_lo` then changes nothing).
    """

    def __init__(
        self,
        odim: int,
        encoder_output_size: int,
        dropout_rate: float = 0.0,
        ctc_type: str = "builtin",
        reduce: bool = True,
        ignore_nan_grad: bool = True,
        extra_linear: bool = True,
    ) -> None:
        super().__init__()
        if ctc_type != "builtin":
            raise ConfigError(f"ctc_conf: ctc_type '{ctc_type}' is not available; use 'builtin' for the same loss")
        self.ctc_lo: nn.Module = nn.Linear(encoder_output_size, odim) if extra_linear else nn.Identity()
        self.dropout = nn.Dropout(dropout_rate)
        self.odim = odim
        self.reduce = reduce
        self.ignore_nan_grad = ignore_nan_grad
        self.ignored = 0

    def forward(self, hs: Tensor, hlens: Tensor, ys: Tensor, ys_lens: Tensor) -> Tensor:
        """Loss of encoder output hs (batch, frames, dim) with hlens (batch,) for labels ys (batch, tokens).

        What lies in `ys` beyond `ys_lens` (batch,) does not matter.  A scalar, or (batch,) if `reduce` is False.
        """
        log_probs = self.log_softmax(self.dropout(hs)).transpose(0, 1)
        valid = length_mask(ys_lens, ys.size(1))
        # Labels in one row of all targets, and no cudnn: its kernel takes other inputs and is not deterministic.
        with torch.backends.cudnn.flags(enabled=False):
            losses = F.ctc_loss(
                log_probs, ys[valid], hlens, ys_lens, blank=BLANK, reduction="none", zero_infinity=self.ignore_nan_grad
            )
        if self.ignore_nan_grad and self.training:
            self._count_ignored(hlens, ys.detach(), ys_lens, valid)
        return losses.sum() / losses.size(0) if self.reduce else losses

    def log_softmax(self, hs: Tensor) -> Tensor:
        """Log probabilities (batch, frames, odim), float32, of hs (batch, frames, dim)."""
        return F.log_softmax(self.ctc_lo(hs).float(), dim=-1)

    def argmax(self, hs: Tensor) -> Tensor:
        """Best label of each frame (batch, frames) of hs (batch, frames, dim)."""
        return self.ctc_lo(hs).argmax(dim=-1)

    def _count_ignored(self, hlens: Tensor, ys: Tensor, ys_lens: Tensor, valid: Tensor) -> None:
        """Count utterances with fewer frames than labels plus the blanks that repeated labels need between them."""
        repeats = ((ys[:, 1:] == ys[:, :-1]) & valid[:, 1:]).sum(dim=1)
        impossible = int((hlens < ys_lens + repeats).sum())
        if impossible:
            self.ignored += impossible
            logger.warning(
                "CTC: %d of %d utterances have more labels than frames and are left out (%d so far)",
                impossible,
                hlens.numel(),
                self.ignored,
            )

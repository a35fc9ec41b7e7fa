"""CTC head, label smoothing, targets: what is counted, what is left out, and against the plain formula."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from funasr.layers.ctc import CTC
from funasr.layers.label_smoothing import LabelSmoothingLoss
from funasr.layers.text_targets import add_sos_eos, token_accuracy
from funasr.utils.errors import ConfigError


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_label_smoothing_is_the_kl_divergence(smoothing: float) -> None:
    logits, target = torch.randn(2, 3, 7), torch.tensor([[1, 2, -1], [3, -1, -1]])
    smoothed = torch.full((2, 3, 7), smoothing / 6).scatter(2, target.clamp(min=0)[..., None], 1 - smoothing)
    divergence = F.kl_div(logits.log_softmax(-1), smoothed, reduction="none").sum(-1)[target >= 0].sum()
    torch.testing.assert_close(LabelSmoothingLoss(7, -1, smoothing)(logits, target), divergence / 2)
    per_token = LabelSmoothingLoss(7, -1, smoothing, normalize_length=True)
    torch.testing.assert_close(per_token(logits, target), divergence / 3)


def test_label_smoothing_padding_has_no_gradient_and_bad_values_are_refused() -> None:
    logits = torch.randn(1, 2, 5, requires_grad=True)
    LabelSmoothingLoss(5, -1, 0.1, True)(logits, torch.tensor([[4, -1]])).backward()
    assert logits.grad is not None and logits.grad[0, 1].eq(0).all() and logits.grad[0, 0].ne(0).all()
    assert LabelSmoothingLoss(5, -1, 0.1, True)(logits, torch.full((1, 2), -1)) == 0.0
    with pytest.raises(ConfigError, match="smoothing"):
        LabelSmoothingLoss(5, smoothing=1.0)


def test_targets_and_accuracy() -> None:
    ys_in, ys_out = add_sos_eos(torch.tensor([[5, 6], [7, -1], [-1, -1]]), torch.tensor([2, 1, 0]), 1, 2, -1)
    assert ys_in.tolist() == [[1, 5, 6], [1, 7, 2], [1, 2, 2]]
    assert ys_out.tolist() == [[5, 6, 2], [7, 2, -1], [2, -1, -1]]
    logits = F.one_hot(torch.tensor([[5, 6, 3], [7, 2, 0], [0, 0, 0]]), 8).float()
    assert token_accuracy(logits, ys_out, -1).item() == pytest.approx(4 / 6)
    assert token_accuracy(logits, torch.full((3, 3), -1), -1) == 0.0


def test_ctc_is_the_sum_over_the_batch_by_its_size() -> None:
    ctc, hs = CTC(6, 4), torch.randn(2, 8, 4)
    hlens, ys, ys_lens = torch.tensor([8, 5]), torch.tensor([[1, 2, 2], [3, -1, -1]]), torch.tensor([3, 1])
    log_probs = ctc.log_softmax(hs)
    alone = [
        F.ctc_loss(
            log_probs[b : b + 1, : hlens[b]].transpose(0, 1),
            ys[b : b + 1, :n],
            hlens[b : b + 1],
            ys_lens[b : b + 1],
            reduction="sum",
        )
        for b, n in enumerate(ys_lens.tolist())
    ]
    torch.testing.assert_close(ctc(hs, hlens, ys, ys_lens), sum(alone) / 2)
    ctc.reduce = False
    torch.testing.assert_close(ctc(hs, hlens, ys, ys_lens), torch.stack(alone))
    assert ctc.argmax(hs).equal(log_probs.argmax(-1))


def test_ctc_leaves_out_and_counts_utterances_that_do_not_fit() -> None:
    ctc, hs = CTC(6, 4), torch.randn(4, 4, 4, requires_grad=True)
    hlens = torch.tensor([4, 0, 2, 2])
    ys, ys_lens = torch.tensor([[1, 2, -1], [1, -1, -1], [1, 2, 3], [4, 4, -1]]), torch.tensor([2, 1, 3, 2])
    loss = ctc(hs, hlens, ys, ys_lens)
    loss.backward()
    assert loss.isfinite() and ctc.ignored == 3
    assert hs.grad is not None and hs.grad[1:].eq(0).all() and hs.grad[0].ne(0).any()
    # Repeated labels need a blank between them: one frame more is enough.
    assert ctc(hs, torch.tensor([4, 1, 3, 3]), ys, ys_lens).isfinite() and ctc.ignored == 3


def test_ctc_runs_in_float32_under_autocast() -> None:
    ctc, hs = CTC(6, 4), torch.randn(1, 5, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert ctc.log_softmax(hs).dtype == torch.float32
        assert ctc(hs, torch.tensor([5]), torch.tensor([[1]]), torch.tensor([1])).dtype == torch.float32


def test_ctc_type_other_than_builtin_is_refused() -> None:
    with pytest.raises(ConfigError, match="warpctc"):
        CTC(6, 4, ctc_type="warpctc")

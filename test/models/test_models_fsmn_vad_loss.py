"""The training loss: units or classes, weights, focal; on the layout of released models and on two units."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from funasr.models.fsmn_vad.encoder import FSMN
from funasr.models.fsmn_vad.loss import FrameLoss
from funasr.models.fsmn_vad.model import FsmnVADStreaming
from funasr.utils.errors import ConfigError


def batch(units: int, labels: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 30, units, generator=generator, requires_grad=True)
    target = torch.randint(0, labels, (2, 30), generator=generator)
    target[1, 20:] = -1
    return logits, target


def test_two_units_are_plain_cross_entropy() -> None:
    logits, labels = batch(2, 2)
    wanted = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-1)
    for targets in ("pdf", "class"):
        loss, stats, weight = FrameLoss(2, (0,), targets)(logits, labels)
        torch.testing.assert_close(loss, wanted)
        assert float(weight) == 50 and stats["acc"] == stats["acc_speech"]
        wrong = stats["miss"] + stats["false_alarm"]
        torch.testing.assert_close(1 - stats["acc_speech"], wrong)


def test_classes_are_the_sums_of_their_units() -> None:
    logits, labels = batch(9, 2)
    probs = logits.softmax(-1)
    silence = probs[..., [0, 4]].sum(-1)
    known = labels >= 0
    wanted = -torch.where(labels == 0, silence, 1 - silence).log()[known].mean()
    loss, stats, _ = FrameLoss(9, (0, 4), "class")(logits, labels)
    torch.testing.assert_close(loss, wanted)
    right = ((silence < 0.5) == (labels == 1))[known].float().mean()
    torch.testing.assert_close(stats["acc"], right)
    loss.backward()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_class_weights_weigh_classes() -> None:
    logits, labels = batch(2, 2)
    wanted = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), torch.tensor([1.0, 3.0]), ignore_index=-1)
    loss, _, weight = FrameLoss(2, (0,), "pdf", (1.0, 3.0))(logits, labels)
    torch.testing.assert_close(loss, wanted)
    assert float(weight) == 50 + 2 * int((labels == 1).sum())


def test_focal_loss_lets_easy_frames_count_less() -> None:
    logits, labels = batch(2, 2)
    known = labels >= 0
    right = logits.softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0][known]
    wanted = (-((1 - right) ** 2) * right.log()).mean()
    loss, _, _ = FrameLoss(2, (0,), focal_gamma=2.0)(logits, labels)
    torch.testing.assert_close(loss, wanted)


def test_a_batch_without_known_frames_has_no_weight() -> None:
    logits, labels = batch(2, 2)
    loss, _, weight = FrameLoss(2, (0,))(logits, torch.full_like(labels, -1))
    loss.backward()
    assert float(loss.detach()) == 0.0 and float(weight) == 0.0


def test_wrong_options() -> None:
    for wrong in ({"targets": "phones"}, {"class_weights": (1.0,)}, {"class_weights": (0.0, 1.0)}, {"focal_gamma": -1}):
        with pytest.raises(ConfigError):
            FrameLoss(9, (0,), **wrong)
    with pytest.raises(ConfigError, match="encoder: FSMN"):
        FsmnVADStreaming(torch.nn.Linear(2, 2))  # type: ignore[arg-type]


def test_official_layout_learns_from_classes() -> None:
    torch.manual_seed(0)
    encoder = FSMN(40, 24, 2, 32, 16, lorder=5, output_affine_dim=24)
    assert encoder.output_size() == 248
    model = FsmnVADStreaming(encoder, targets="class")
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    feats, labels = torch.randn(4, 50, 40), torch.randint(0, 2, (4, 50))
    feats[..., 0] += 4.0 * (labels * 2 - 1)
    lengths = torch.full((4,), 50)
    losses = []
    for _ in range(30):
        loss, stats, _ = model(feats, lengths, labels, lengths)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.2 * losses[0] and float(stats["acc"]) > 0.95

"""Additive angular margin softmax: against the formula in angles, its schedule, its sub-centres."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from funasr.layers.margin_softmax import AAMSoftmax
from funasr.utils.errors import ConfigError


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(16, 6, generator=generator), torch.randint(0, 5, (16,), generator=generator)


def angles(head: AAMSoftmax, embeddings: torch.Tensor) -> torch.Tensor:
    return torch.acos(F.normalize(embeddings) @ F.normalize(head.weight).T)


def test_loss_is_cross_entropy_with_the_angle_of_the_own_class_widened(batch) -> None:
    embeddings, classes = batch
    head = AAMSoftmax(6, 5, margin=0.3, scale=20.0).train()
    widened = angles(head, embeddings) + 0.3 * F.one_hot(classes, 5)
    assert widened.max() < math.pi  # else the line takes over
    loss, stats = head(embeddings, classes)
    torch.testing.assert_close(loss, F.cross_entropy(20.0 * widened.cos(), classes))
    assert stats["acc"] == (angles(head, embeddings).argmin(1) == classes).float().mean()


def test_evaluation_has_no_margin(batch) -> None:
    embeddings, classes = batch
    head = AAMSoftmax(6, 5, margin=0.3, scale=20.0).eval()
    loss, stats = head(embeddings, classes)
    torch.testing.assert_close(loss, F.cross_entropy(20.0 * angles(head, embeddings).cos(), classes))
    assert float(stats["margin"]) == 0.0 and int(head.batches) == 0


def test_target_logit_falls_all_the_way_and_its_gradient_is_finite() -> None:
    """The further the angle, the lower the logit, up to pi: cos(angle + margin) alone would rise again at the end."""
    head = AAMSoftmax(2, 2, margin=0.4, scale=1.0).train()
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    losses = []
    for angle in torch.linspace(0.0, math.pi, 50):
        embedding = torch.stack([angle.cos(), -angle.sin()])[None].requires_grad_()
        cosine = head.cosines(embedding)
        loss, _ = head(embedding, torch.tensor([0]))
        loss.backward()
        assert torch.isfinite(embedding.grad).all()
        losses.append(float((loss - torch.logsumexp(cosine, 1)).detach()))
    # below pi - margin the cosine itself falls; what is tested is the part behind it
    assert all(b > a - 1e-6 for a, b in pairwise(losses[44:]))


def test_margin_grows_between_two_batches_and_goes_on_after_a_restart(batch) -> None:
    options = {"margin": 0.2, "initial_margin": 0.1, "margin_start": 2, "margin_end": 6}
    head = AAMSoftmax(6, 5, **options).train()
    margins = [float(head(*batch)[1]["margin"]) for _ in range(4)]
    again = AAMSoftmax(6, 5, **options).train()
    again.load_state_dict(head.state_dict())
    margins += [float(again(*batch)[1]["margin"]) for _ in range(4)]
    assert margins == pytest.approx([0.1, 0.1, 0.1, 0.125, 0.15, 0.175, 0.2, 0.2])
    assert float(AAMSoftmax(6, 5, margin=0.2).train()(*batch)[1]["margin"]) == pytest.approx(0.2)


def test_the_nearest_sub_centre_counts() -> None:
    head = AAMSoftmax(2, 2, sub_centers=2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [-1.0, -1.0]]))
    cosines = head.cosines(torch.tensor([[0.0, 2.0], [-3.0, 0.0]]))
    torch.testing.assert_close(cosines, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"margin": 2.0}, "pi / 2"),
        ({"margin": 0.1, "initial_margin": 0.2}, "initial_margin"),
        ({"margin_start": 5, "margin_end": 2}, "in this order"),
        ({"sub_centers": 0}, "sub_centers"),
    ],
)
def test_wrong_options(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AAMSoftmax(4, 3, **options)

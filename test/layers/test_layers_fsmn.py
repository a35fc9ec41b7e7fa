"""Sequential memory: the same by its definition, with and without gradients, cut into pieces, in any number type."""

from __future__ import annotations

import pytest
import torch

from funasr.layers import fsmn
from funasr.layers.fsmn import SequentialMemory


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsmn, "MANY_FRAMES", 10)


def by_definition(memory: SequentialMemory, x: torch.Tensor) -> torch.Tensor:
    """x plus its weighted past and coming frames, tap by tap."""
    out, taps = x.clone(), memory.conv_left.weight.detach()[:, 0, :, 0].flip(1).T
    ahead = [] if memory.conv_right is None else memory.conv_right.weight.detach()[:, 0, :, 0].T
    offsets = [(-i * memory.lstride, tap) for i, tap in enumerate(taps)]
    offsets += [((i + 1) * memory.rstride, tap) for i, tap in enumerate(ahead)]
    for frame in range(x.size(1)):
        for offset, tap in offsets:
            if 0 <= frame + offset < x.size(1):
                out[:, frame] += tap * x[:, frame + offset]
    return out


@pytest.mark.parametrize(("lorder", "rorder", "lstride", "rstride"), [(20, 0, 1, 1), (5, 3, 2, 2), (1, 2, 1, 1)])
def test_memory_is_its_definition(lorder: int, rorder: int, lstride: int, rstride: int) -> None:
    torch.manual_seed(0)
    memory, x = SequentialMemory(24, lorder, rorder, lstride, rstride), torch.randn(2, 50, 24)
    expected = by_definition(memory, x)
    with_gradients, _ = memory(x)
    assert with_gradients.requires_grad
    with torch.no_grad():
        without, _ = memory(x)
        rounded, _ = memory.to(torch.bfloat16)(x.bfloat16())
    for found, tolerance in ((with_gradients, 1e-5), (without, 1e-5), (rounded.float(), 0.1)):
        torch.testing.assert_close(found.detach(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("cuts", [(50,), (1, 2, 17, 30), (19, 31), (25, 25)])
def test_pieces_give_the_whole(cuts: tuple[int, ...], gradients: bool) -> None:
    torch.manual_seed(0)
    memory, x = SequentialMemory(24, 20), torch.randn(1, 50, 24)
    with torch.set_grad_enabled(gradients):
        whole, past, found = memory(x)[0], None, []
        for piece in x.split(cuts, dim=1):
            out, past = memory(piece, past)
            found.append(out)
    torch.testing.assert_close(torch.cat(found, 1), whole, rtol=0, atol=1e-5)

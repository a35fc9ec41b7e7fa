"""A batch without its padding: nothing is lost, nothing comes in, and the layers that use it give what they gave."""

from __future__ import annotations

import pytest
import torch

from funasr.layers.mask import length_mask
from funasr.layers.packing import ROW_STEP, packed, unpacked, worthwhile_packing
from funasr.layers.sanm import SANMEncoderLayer
from funasr.models.sanm.encoder import SANMEncoder

LENGTHS = torch.tensor([90, 3, 0, 41])


@torch.no_grad()
def test_every_frame_comes_back_to_its_place() -> None:
    x, packing = torch.randn(4, 90, 5), worthwhile_packing(LENGTHS, 90)
    assert packing is not None
    rows = packed(x, packing)
    assert rows.shape[0] == 1 and rows.size(1) % ROW_STEP == 0 and 134 <= rows.size(1) < 134 + ROW_STEP
    inside = length_mask(LENGTHS, 90)
    assert torch.equal(rows[0, :134], x[inside])
    assert torch.equal(unpacked(rows, packing)[inside], x[inside])


@torch.no_grad()
def test_padding_holds_frames_of_its_own_utterance() -> None:
    x = torch.arange(3.0)[:, None, None].expand(3, 90, 1)
    packing = worthwhile_packing(LENGTHS[[0, 1, 3]], 90)
    assert packing is not None and torch.equal(unpacked(packed(x, packing), packing), x)


def test_when_there_is_none() -> None:
    x = torch.randn(2, 90, 3)
    with torch.no_grad():
        for lengths in (torch.tensor([90, 90]), torch.tensor([0, 0]), torch.zeros(0, dtype=torch.long)):
            assert worthwhile_packing(lengths, 90) is None
    assert worthwhile_packing(LENGTHS, 90) is None, "gradients are wanted"
    assert packed(x, None) is x and unpacked(x, None) is x


@pytest.mark.parametrize("two_sided", [False, True])
@torch.no_grad()
def test_a_block_gives_the_same_without_padding(two_sided: bool) -> None:
    torch.manual_seed(0)
    block, x = SANMEncoderLayer(8, 8, 2, 16, kernel_size=5).eval(), torch.randn(4, 90, 8)
    mask = inside = length_mask(LENGTHS, 90)
    if two_sided:
        mask = inside[:, :, None] & inside[:, None, :] & torch.ones(90, 90, dtype=torch.bool).tril()
    packing = worthwhile_packing(LENGTHS, 90)
    found = unpacked(block(packed(x, packing), mask, packing), packing)
    torch.testing.assert_close(found[inside], block(x, mask)[inside], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_nan_stays_in_its_utterance() -> None:
    torch.manual_seed(0)
    encoder, xs = SANMEncoder(8, 8, 2, 16, num_blocks=2, input_layer="pe", kernel_size=5).eval(), torch.randn(4, 90, 8)
    clean, _, _ = encoder(xs, LENGTHS, isolate=True)
    xs[1, 2] = torch.nan
    dirty, _, _ = encoder(xs, LENGTHS, isolate=True)
    assert dirty[1, :3].isnan().any()
    for row in (0, 3):
        assert torch.equal(dirty[row, : LENGTHS[row]], clean[row, : LENGTHS[row]])

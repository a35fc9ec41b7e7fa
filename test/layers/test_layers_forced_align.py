"""CTC forced alignment: recorded paths, a search over all paths, and independence of the batch."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch

from funasr.layers.forced_align import forced_align
from funasr.utils.errors import DataError


@pytest.mark.parametrize("number", [0, 1, 2])
def test_recorded(parity: Path, number: int) -> None:
    with np.load(parity / "text-postprocess" / "expected" / "tensors.npz") as stored:
        log_probs, targets, wanted = (
            torch.from_numpy(stored[f"align{number}/{name}"]) for name in ("log_probs", "targets", "alignment")
        )
    aligned = forced_align(log_probs, torch.tensor([log_probs.size(1)]), targets, torch.tensor([targets.size(1)]))
    assert torch.equal(aligned, wanted)


def said(path: tuple[int, ...]) -> list[int]:
    return [label for label, _ in itertools.groupby(path) if label]


def test_no_other_path_that_says_the_labels_is_likelier() -> None:
    torch.manual_seed(0)
    for labels in ([1, 1], [2, 1], [1], []):
        log_probs = torch.randn(1, 5, 3).log_softmax(-1)
        target = torch.tensor([labels], dtype=torch.long)
        path = tuple(forced_align(log_probs, torch.tensor([5]), target, torch.tensor([len(labels)]))[0].tolist())
        assert said(path) == labels
        score = {
            p: sum(log_probs[0, t, i].item() for t, i in enumerate(p)) for p in itertools.product(range(3), repeat=5)
        }
        assert score[path] == pytest.approx(max(s for p, s in score.items() if said(p) == labels))


def test_each_utterance_as_if_it_were_alone() -> None:
    torch.manual_seed(1)
    log_probs = torch.randn(3, 12, 6).log_softmax(-1)
    lengths, sizes = torch.tensor([12, 7, 0]), torch.tensor([4, 3, 0])
    targets = torch.tensor([[1, 2, 2, 3], [5, 4, 5, -1], [-1, -1, -1, -1]])
    together = forced_align(log_probs, lengths, targets, sizes)
    for row, (frames, count) in enumerate(zip(lengths.tolist(), sizes.tolist())):
        one = slice(row, row + 1)
        alone = forced_align(log_probs[one, :frames], lengths[one], targets[one, :count], sizes[one])
        assert together[row, :frames].tolist() == alone[0].tolist()
        assert not together[row, frames:].any()


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(DataError, match="utterance 1 of the batch has 2 frames, but its 2 labels need 3"):
        forced_align(torch.zeros(2, 3, 4), torch.tensor([3, 2]), torch.tensor([[1, 2], [3, 3]]), torch.tensor([2, 2]))

"""GlobalMVN and UtteranceMVN: normal features, zero padding, statistics that travel with the checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from funasr.layers.mvn import GlobalMVN, UtteranceMVN
from funasr.register import tables
from funasr.utils.errors import ConfigError


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    return 3 * torch.randn(2, 50, 4, generator=torch.Generator().manual_seed(0)) + 7, torch.tensor([50, 30])


@pytest.fixture
def stats_file(tmp_path: Path, batch: tuple[Tensor, Tensor]) -> Path:
    x, lengths = batch
    frames = torch.cat([x[0], x[1, : lengths[1]]]).double().numpy()
    np.savez(tmp_path / "feats_stats.npz", count=len(frames), sum=frames.sum(0), sum_square=(frames**2).sum(0))
    return tmp_path / "feats_stats.npz"


def test_global_normalises_and_keeps_padding_zero(batch: tuple[Tensor, Tensor], stats_file: Path) -> None:
    x, lengths = batch
    before = x.clone()
    out, out_lengths = GlobalMVN(stats_file)(x, lengths)
    frames = torch.cat([out[0], out[1, :30]])
    torch.testing.assert_close(frames.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(frames.std(0, correction=0), torch.ones(4), atol=1e-5, rtol=0)
    assert not out[1, 30:].any()
    assert torch.equal(out_lengths, lengths)
    assert torch.equal(x, before)


def test_global_parts_can_be_switched_off(batch: tuple[Tensor, Tensor], stats_file: Path) -> None:
    x, lengths = batch
    whole = GlobalMVN(stats_file)
    torch.testing.assert_close(GlobalMVN(stats_file, norm_vars=False)(x, lengths)[0][0], x[0] - whole.mean)
    torch.testing.assert_close(GlobalMVN(stats_file, norm_means=False)(x, lengths)[0][0], x[0] / whole.std)


@pytest.mark.parametrize("gone", [None, "gone/feats_stats.npz"])
def test_checkpoint_brings_its_statistics(batch: tuple[Tensor, Tensor], stats_file: Path, gone: str | None) -> None:
    x, lengths = batch
    trained = torch.nn.Sequential(GlobalMVN(stats_file))
    restored = torch.nn.Sequential(GlobalMVN(gone))
    with pytest.raises(ConfigError, match=str(gone)):
        restored[0](x, lengths)
    restored.load_state_dict(trained.state_dict())
    assert torch.equal(restored[0](x, lengths)[0], trained[0](x, lengths)[0])


def test_wrong_dimension_and_missing_statistics(stats_file: Path) -> None:
    with pytest.raises(ConfigError, match="dimension 4"):
        GlobalMVN(stats_file)(torch.zeros(1, 5, 3), torch.tensor([5]))
    with pytest.raises(RuntimeError, match="mean"):
        GlobalMVN(None).load_state_dict({})


def test_utterance_is_independent_of_the_batch(batch: tuple[Tensor, Tensor]) -> None:
    x, lengths = batch
    module = UtteranceMVN(norm_vars=True)
    out, _ = module(x, lengths)
    alone, _ = module(x[1:, :30], lengths[1:])
    torch.testing.assert_close(out[1, :30], alone[0])
    torch.testing.assert_close(alone[0].mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(alone[0].std(0, correction=0), torch.ones(4), atol=1e-5, rtol=0)
    assert not out[1, 30:].any()
    empty, _ = module(x, torch.tensor([0, 1]))
    assert torch.isfinite(empty).all()


def test_names() -> None:
    assert tables.normalize_classes["global_mvn"] is GlobalMVN
    assert tables.normalize_classes["utterance_mvn"] is UtteranceMVN

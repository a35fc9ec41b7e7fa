"""Normalisation of features to zero mean and unit variance, over the corpus or over the utterance."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from funasr.layers.mask import length_mask
from funasr.register import tables
from funasr.utils.errors import ConfigError

logger = logging.getLogger(__name__)

# sum, sum of squares, number of frames: as npz (collect-stats), and as json of FunASR and of WeNet
SUM_NAMES = (
    ("sum", "sum_square", "count"),
    ("mean_stats", "var_stats", "total_frames"),
    ("mean_stat", "var_stat", "frame_num"),
)


def read_moments(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance, each (dim,) float64, from accumulated sums.

    Reads `.npz` (count, sum, sum_square), `.json` ({mean_stats, var_stats, total_frames} or WeNet's names) and `.npy`
    (Kaldi matrix (2, dim+1): sums and count, sums of squares). Raises ConfigError, naming the file.
    """
    path = Path(path)
    try:
        if path.suffix == ".json":
            stats: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix in (".npz", ".npy"):
            loaded = np.load(path, allow_pickle=False)
            stats = loaded if path.suffix == ".npz" else _kaldi_sums(loaded)
        else:
            raise ConfigError(f"statistics file {path}: a .npz, .json or .npy file is expected")
        for names in SUM_NAMES:
            if all(name in stats for name in names):
                sums, squares, count = (np.asarray(stats[name], dtype=np.float64) for name in names)
                break
        else:
            raise ConfigError(
                f"statistics file {path} holds {sorted(stats)} instead of {' or '.join(map(str, SUM_NAMES))}"
            )
    except ConfigError:
        raise
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(f"statistics file {path} cannot be read: {error}") from error
    count = count.reshape(-1)[:1]
    if sums.ndim != 1 or sums.shape != squares.shape or not count.size or not count[0] > 0:
        raise ConfigError(
            f"statistics file {path}: sums {sums.shape} and squares {squares.shape} must be equal vectors, count > 0"
        )
    mean = sums / count
    variance = squares / count - mean**2
    if not np.isfinite(variance).all():
        raise ConfigError(f"statistics file {path} holds values that are not finite")
    return mean, np.maximum(variance, 0.0)


def _kaldi_sums(matrix: np.ndarray) -> dict[str, np.ndarray]:
    if matrix.ndim != 2 or matrix.shape[0] != 2 or matrix.shape[1] < 2:
        raise ValueError(f"a matrix (2, dim+1) is expected, not {matrix.shape}")
    return {"sum": matrix[0, :-1], "sum_square": matrix[1, :-1], "count": matrix[0, -1]}


@tables.register("normalize_classes", "GlobalMVN", aliases=("global_mvn",))
class GlobalMVN(nn.Module):
    """Normalise with the mean and standard deviation of the training set.

    Both are buffers, so a checkpoint holds them and wins over the file: to use a trained model, `stats_file` may be
    None or name a file that is gone. What is missing then is found out at the first call, or by a strict load.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        stats_file: str | Path | None = None,
        norm_means: bool = True,
        norm_vars: bool = True,
        eps: float = 1.0e-20,
    ) -> None:
        """`stats_file`: see `read_moments`; `eps`: floor of the variance. ConfigError if the file is malformed."""
        super().__init__()
        self.stats_file = stats_file
        self.norm_means = norm_means
        self.norm_vars = norm_vars
        mean, std = np.zeros(0), np.zeros(0)
        if stats_file is not None and Path(stats_file).exists():
            mean, variance = read_moments(stats_file)
            std = np.sqrt(np.maximum(variance, eps))
        elif stats_file is not None:
            logger.warning("stats_file %s does not exist; the statistics must come from a checkpoint", stats_file)
        self.register_buffer("mean", torch.from_numpy(mean).float())
        self.register_buffer("std", torch.from_numpy(std).float())

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # Without statistics of its own the module takes the dimension of the checkpoint.
        for name in ("mean", "std"):
            stored = state_dict.get(prefix + name)
            if stored is not None and getattr(self, name).numel() == 0:
                setattr(self, name, getattr(self, name).new_empty(stored.shape))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (batch, frames, dim) and lengths (batch,) -> the same, padding 0.0."""
        if self.mean.numel() == 0:
            raise ConfigError(
                f"GlobalMVN has no statistics: stats_file {self.stats_file} does not exist and no checkpoint was loaded"
            )
        if x.size(2) != self.mean.numel():
            raise ConfigError(f"GlobalMVN statistics have dimension {self.mean.numel()}, the features {x.size(2)}")
        if self.norm_means:
            x = x - self.mean
        if self.norm_vars:
            x = x / self.std
        return x.masked_fill(~length_mask(lengths.to(x.device), x.size(1))[..., None], 0.0), lengths

    def extra_repr(self) -> str:
        return f"dim={self.mean.numel()}, norm_means={self.norm_means}, norm_vars={self.norm_vars}"


@tables.register("normalize_classes", "UtteranceMVN", aliases=("utterance_mvn",))
class UtteranceMVN(nn.Module):
    """Normalise each utterance with its own mean and, if asked, its own standard deviation."""

    def __init__(self, norm_means: bool = True, norm_vars: bool = False, eps: float = 1.0e-20) -> None:
        """`eps`: floor of the variance."""
        super().__init__()
        self.norm_means = norm_means
        self.norm_vars = norm_vars
        self.eps = eps

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Features (batch, frames, dim) and lengths (batch,) -> the same, padding 0.0."""
        padding = ~length_mask(lengths.to(x.device), x.size(1))[..., None]
        count = lengths.to(x.device, x.dtype).clamp(min=1)[:, None, None]
        x = x.masked_fill(padding, 0.0)
        centred = (x - x.sum(1, keepdim=True) / count).masked_fill(padding, 0.0)
        if not self.norm_vars:
            return (centred if self.norm_means else x), lengths
        std = (centred.square().sum(1, keepdim=True) / count).clamp(min=self.eps).sqrt()
        return (centred if self.norm_means else x) / std, lengths

    def extra_repr(self) -> str:
        return f"norm_means={self.norm_means}, norm_vars={self.norm_vars}"

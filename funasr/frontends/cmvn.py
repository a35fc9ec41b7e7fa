"""Global cepstral mean and variance normalisation: the `am.mvn` file and its equivalents.

`am.mvn` is Kaldi nnet text: `<AddShift>` holds negative means, `<Rescale>` inverse standard deviations, one value per
dimension of the (stacked) features.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from funasr.layers.mvn import read_moments
from funasr.utils.errors import ConfigError
from funasr.utils.io import write_text

# A log-mel dimension that really varies has a variance of 1 to 30. One that does not is left at a gain of 100 at most.
VARIANCE_FLOOR = 1e-4


def read_cmvn(path: str | Path) -> Tensor:
    """Shift and scale as (2, dim) float32, to be applied as `(feats + shift) * scale`.

    Reads `am.mvn` text, and sums as json or npz (see `read_moments`). Raises ConfigError, naming the file, if it is
    missing or malformed.
    """
    path = Path(path)
    if path.suffix in (".json", ".npz", ".npy"):
        mean, variance = read_moments(path)
        return torch.from_numpy(_shift_and_scale(mean, variance, VARIANCE_FLOOR)).float()
    try:
        lines = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cmvn_file {path} cannot be read: {error}") from error
    lines = [words for words in lines if words]
    shift, scale = (_component(lines, tag, path) for tag in ("<AddShift>", "<Rescale>"))
    if shift.shape != scale.shape:
        raise ConfigError(f"cmvn_file {path}: <AddShift> has {shift.size} values but <Rescale> {scale.size}")
    return torch.from_numpy(np.stack([shift, scale])).float()


def _component(lines: list[list[str]], tag: str, path: Path) -> np.ndarray:
    """The numbers between the brackets of the line after the one that begins with `tag`."""
    tagged = [i for i, words in enumerate(lines) if words[0] == tag]
    if not tagged:
        raise ConfigError(f"cmvn_file {path} has no {tag} component; is it an am.mvn file?")
    following = lines[tagged[0] + 1] if tagged[0] + 1 < len(lines) else []
    if following[:1] != ["<LearnRateCoef>"] or following[-1] != "]" or following[2:3] != ["["]:
        raise ConfigError(f"cmvn_file {path}: {tag} is not followed by '<LearnRateCoef> 0 [ values ]'")
    try:
        values = np.array([float(word) for word in following[3:-1]])
    except ValueError as error:
        raise ConfigError(f"cmvn_file {path}: {tag}: {error}") from error
    if values.size == 0 or not np.isfinite(values).all():
        raise ConfigError(f"cmvn_file {path}: {tag} has no values, or values that are not finite")
    return values


def write_cmvn(
    path: str | Path, mean: np.ndarray, variance: np.ndarray, variance_floor: float = VARIANCE_FLOOR
) -> None:
    """Write `am.mvn` for features with this `mean` and `variance` (both (dim,)); atomically."""
    shift, scale = _shift_and_scale(np.asarray(mean), np.asarray(variance), variance_floor)
    dim = len(shift)
    lines = ["<Nnet>", f"<Splice> {dim} {dim}", "[ 0 ]"]
    for tag, values in (("<AddShift>", shift), ("<Rescale>", scale)):
        numbers = " ".join(f"{value:.9g}" for value in values)
        lines += [f"{tag} {dim} {dim}", f"<LearnRateCoef> 0 [ {numbers} ]"]
    write_text(path, "\n".join([*lines, "</Nnet>"]) + "\n")


def _shift_and_scale(mean: np.ndarray, variance: np.ndarray, variance_floor: float) -> np.ndarray:
    return np.stack([-mean, 1.0 / np.sqrt(np.maximum(variance, variance_floor))])

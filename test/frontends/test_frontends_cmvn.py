"""CMVN files: every format gives the same shift and scale, and a wrong file is named."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from funasr.frontends.cmvn import VARIANCE_FLOOR, read_cmvn, write_cmvn
from funasr.utils.errors import ConfigError

FRAMES = np.random.default_rng(0).normal(5.0, 3.0, (200, 6))
SUM, SQUARES = FRAMES.sum(0), (FRAMES**2).sum(0)


def write(path: Path) -> Path:
    names = {
        "funasr.json": ("mean_stats", "var_stats", "total_frames"),
        "wenet.json": ("mean_stat", "var_stat", "frame_num"),
    }
    if path.name in names:
        values = (SUM.tolist(), SQUARES.tolist(), 200)
        path.write_text(json.dumps(dict(zip(names[path.name], values, strict=True))))
    elif path.suffix == ".npz":
        np.savez(path, count=200, sum=SUM, sum_square=SQUARES)
    elif path.suffix == ".npy":
        np.save(path, np.stack([np.append(SUM, 200), np.append(SQUARES, 0)]))
    else:
        write_cmvn(path, FRAMES.mean(0), FRAMES.var(0))
    return path


@pytest.mark.parametrize("name", ["am.mvn", "funasr.json", "wenet.json", "stats.npz", "stats.npy"])
def test_formats_agree(name: str, tmp_path: Path) -> None:
    shift, scale = read_cmvn(write(tmp_path / name))
    normalised = (torch.from_numpy(FRAMES) + shift) * scale
    assert normalised.mean(0).abs().max() < 1e-5
    assert (normalised.var(0, correction=0) - 1).abs().max() < 1e-5


def test_constant_dimension_is_floored(tmp_path: Path) -> None:
    write_cmvn(tmp_path / "am.mvn", np.zeros(2), np.array([0.0, 4.0]))
    assert read_cmvn(tmp_path / "am.mvn")[1].tolist() == pytest.approx([VARIANCE_FLOOR**-0.5, 0.5])


def test_empty_lines_are_accepted(tmp_path: Path) -> None:
    path = write(tmp_path / "am.mvn")
    expected = read_cmvn(path)
    path.write_text("\n" + path.read_text().replace("\n", "\n\n"))
    assert torch.equal(read_cmvn(path), expected)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missing.mvn", None),
        ("missing.json", None),
        ("missing.npz", None),
        ("empty.mvn", ""),
        ("cut.mvn", "<Nnet>\n<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 2 ]\n<Rescale> 2 2\n"),
        ("bracket.mvn", "<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 2\n<Rescale> 2 2\n<LearnRateCoef> 0 [ 1 2 ]\n"),
        ("word.mvn", "<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 x ]\n<Rescale> 2 2\n<LearnRateCoef> 0 [ 1 2 ]\n"),
        ("uneven.mvn", "<AddShift> 2 2\n<LearnRateCoef> 0 [ 1 2 ]\n<Rescale> 2 2\n<LearnRateCoef> 0 [ 1 ]\n"),
        ("bad.json", "{"),
        ("names.json", '{"mean": [1.0]}'),
        ("zero.json", '{"mean_stats": [1.0], "var_stats": [1.0], "total_frames": 0}'),
        ("text.npz", "not a zip file"),
    ],
)
def test_wrong_file_is_named(name: str, text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=name):
        read_cmvn(tmp_path / name)

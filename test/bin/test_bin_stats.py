"""Merged statistics are those of one job over everything; splits hold every line once."""

from __future__ import annotations

import numpy as np
import pytest

from funasr.bin import aggregate_stats_dirs, split_scps
from funasr.datasets.iterator import split_paths
from funasr.utils.errors import DataError


def job_output(directory, ids, feats):
    for mode in ("train", "valid"):
        target = directory / mode
        (target / "collect_feats").mkdir(parents=True)
        (target / "batch_keys").write_text("speech\ntext\n")
        (target / "stats_keys").write_text("feats\n")
        for key in ("speech", "text"):
            (target / f"{key}_shape").write_text("".join(f"{uid} {len(uid)}\n" for uid in ids))
        (target / "collect_feats" / "feats.scp").write_text("".join(f"{uid} {uid}.npy\n" for uid in ids))
        np.savez(target / "feats_stats.npz", count=len(feats), sum=feats.sum(0), sum_square=np.square(feats).sum(0))
    return directory


@pytest.fixture
def jobs(tmp_path):
    feats = np.random.default_rng(0).normal(size=(50, 4))
    job_output(tmp_path / "whole", ["b", "aa", "c", "dd"], feats)
    first = job_output(tmp_path / "1", ["b", "aa"], feats[:20])
    second = job_output(tmp_path / "2", ["c", "dd"], feats[20:])
    return tmp_path, ["--input_dir", str(first), "--input_dir", str(second), "--output_dir", str(tmp_path / "out")]


def test_sums_and_shapes(jobs):
    root, args = jobs
    assert aggregate_stats_dirs.main(args) == 0
    for mode in ("train", "valid"):
        merged, whole = (np.load(root / name / mode / "feats_stats.npz") for name in ("out", "whole"))
        for key in ("count", "sum", "sum_square"):
            np.testing.assert_allclose(merged[key], whole[key])
        assert (root / "out" / mode / "speech_shape").read_text() == "aa 2\nb 1\nc 1\ndd 2\n"
        assert (root / "out" / mode / "batch_keys").read_text().split() == ["speech", "text"]
        assert (root / "out" / mode / "feats.scp").is_file()


def test_skip_sum_stats(jobs):
    root, args = jobs
    assert aggregate_stats_dirs.main([*args, "--skip_sum_stats"]) == 0
    assert not (root / "out/train/feats_stats.npz").exists() and (root / "out/train/text_shape").is_file()


def test_same_utterance_in_two_jobs(jobs, capsys):
    root, args = jobs
    (root / "2/train/text_shape").write_text("aa 2\n")
    assert aggregate_stats_dirs.main(args) == 1
    assert "aa is in" in capsys.readouterr().err


def test_incomplete_job(jobs, capsys):
    root, args = jobs
    (root / "2/train/batch_keys").unlink()
    assert aggregate_stats_dirs.main(args) == 1
    assert "did this job end well" in capsys.readouterr().err


def test_splits(tmp_path):
    for name in ("wav.scp", "text"):
        (tmp_path / name).write_text("".join(f"u{i} {name} {i}\n" for i in range(7)))
    args = ["--scps", f"{tmp_path}/wav.scp", f"{tmp_path}/text", "--num_splits", "3", "--output_dir", f"{tmp_path}/s"]
    assert split_scps.main(args) == 0
    for name in ("wav.scp", "text"):
        parts = [path.read_text() for path in split_paths(tmp_path / "s" / name)]
        assert len(parts) == 3 and "".join(parts) == (tmp_path / name).read_text()
        assert [part.count("\n") for part in parts] == [2, 2, 3]
    with pytest.raises(DataError, match="num_splits"):
        split_paths(tmp_path)


def test_splits_refuse_tables_that_differ(tmp_path, capsys):
    (tmp_path / "a").write_text("u1 x\nu2 x\n")
    (tmp_path / "b").write_text("u1 x\nu3 x\n")
    base = ["--output_dir", f"{tmp_path}/s", "--scps", f"{tmp_path}/a"]
    assert split_scps.main([*base, f"{tmp_path}/b", "--num_splits", "2"]) == 1
    assert "has u3 where" in capsys.readouterr().err
    assert split_scps.main([*base, "--num_splits", "3"]) == 1
    assert not (tmp_path / "s").exists()

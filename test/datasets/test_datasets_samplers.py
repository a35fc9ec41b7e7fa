"""The samplers give the batches of the worked vectors, every id exactly once, and keep their limits."""

from __future__ import annotations

import numpy as np
import pytest

from funasr.datasets.lengths import filter_lengths
from funasr.datasets.samplers import BATCH_TYPES, build_batches
from funasr.utils.errors import ConfigError, DataError

TEN = {f"u{i}": (10 * i,) for i in range(1, 11)}


def sizes(plan):
    return [len(batch) for batch in plan.batches(None)]


def random_shapes(count=300, high=500, seed=0):
    rng = np.random.default_rng(seed)
    return {f"r{i:03d}": (int(n), 2) for i, n in enumerate(rng.integers(1, high, count))}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch_type": "length", "batch_bins": 100}, [4, 2, 2, 2]),
        ({"batch_type": "folded", "batch_size": 4, "fold_lengths": [30]}, [4, 2, 1, 1, 1, 1]),
        ({"batch_type": "unsorted", "batch_size": 4}, [5, 5]),
        ({"batch_type": "unsorted", "batch_size": 4, "drop_last": True}, [4, 4]),
        ({"batch_type": "sorted", "batch_size": 4}, [5, 5]),
        ({"batch_type": "numel", "batch_bins": 100}, [4, 2, 2, 2]),
        ({"batch_type": "length", "batch_bins": 100, "padding": False}, [5, 2, 2, 1]),
        ({"batch_type": "length", "batch_bins": 100, "min_batch_size": 3}, [4, 3, 3]),
    ],
)
def test_worked_vectors(options, expected):
    plan = build_batches(shapes=[TEN], sort_batch="ascending", **options)
    if options["batch_type"] == "sorted":
        assert sorted(sizes(plan)) == expected
    else:
        assert sizes(plan) == expected
    assert len(plan) == len(expected)


def test_order_inside_and_of_batches():
    ascending = build_batches("length", [TEN], batch_bins=100, sort_batch="ascending").batches(None)
    assert ascending[0] == ["u4", "u3", "u2", "u1"]
    descending = build_batches("length", [TEN], batch_bins=100, sort_in_batch="ascending").batches(None)
    assert descending[0] == ["u9", "u10"] and descending[-1] == ["u1", "u2", "u3", "u4"]


def test_small_last_batch_is_spread_over_the_ones_before():
    shapes = {f"u{i}": (10,) for i in range(7)}
    plan = build_batches("folded", [shapes], batch_size=3, fold_lengths=[100], min_batch_size=2, sort_batch="ascending")
    assert sizes(plan) == [3, 4]


def test_numel_counts_other_dimensions_and_wants_them_equal():
    wide = {uid: (length, 4233) for uid, (length,) in TEN.items()}
    one = build_batches("numel", [wide], batch_bins=100 * 4233, sort_batch="ascending")
    assert sizes(one) == [4, 2, 2, 2]
    with pytest.raises(DataError, match="dimensions"):
        build_batches("numel", [{"a": (3, 4), "b": (3, 5)}])


@pytest.mark.parametrize("batch_type", BATCH_TYPES)
@pytest.mark.parametrize("min_batch_size", [1, 4])
def test_every_id_once_and_no_batch_below_the_minimum(batch_type, min_batch_size):
    shapes = random_shapes()
    tokens = {uid: (length // 30 + 1, 2) for uid, (length, _) in shapes.items()}
    plan = build_batches(
        batch_type, [shapes, tokens], batch_size=7, batch_bins=2000, fold_lengths=[100, 5],
        min_batch_size=min_batch_size,
    )  # fmt: skip
    for rng in (None, np.random.default_rng(3)):
        batches = plan.batches(rng)
        assert len(batches) == len(plan)
        assert sorted(uid for batch in batches for uid in batch) == sorted(shapes)
        assert min(map(len, batches)) >= min_batch_size


@pytest.mark.parametrize("quadratic", [None, 300.0])
def test_bucket_never_exceeds_its_limit_and_mixes_anew(quadratic):
    shapes = random_shapes()
    plan = build_batches("bucket", [shapes], batch_bins=3000, quadratic_length=quadratic)
    first, second = (plan.batches(np.random.default_rng(seed)) for seed in (1, 2))
    for batch in first + second:
        longest = max(shapes[uid][0] for uid in batch)
        assert len(batch) * longest * (1 + (longest / quadratic if quadratic else 0)) <= 3000
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}
    padded = sum(len(batch) * max(shapes[uid][0] for uid in batch) for batch in first)
    assert padded < 1.1 * sum(length for length, _ in shapes.values())


@pytest.mark.parametrize("batch_type", ["folded", "length", "numel", "bucket"])
def test_categories_do_not_mix(batch_type):
    shapes = random_shapes(60)
    category = {uid: "zh" if i % 3 else "en" for i, uid in enumerate(shapes)}
    plan = build_batches(batch_type, [shapes], 5, 2000, fold_lengths=[100], utt2category=category)
    assert all(len({category[uid] for uid in batch}) == 1 for batch in plan.batches(None))


def test_shape_files(tmp_path):
    (tmp_path / "a").write_text("x 10,80\ny 20,80\n")
    (tmp_path / "b").write_text("x 3\nz 4\n")
    assert build_batches("length", [tmp_path / "a"], batch_bins=30).batches(None) == [["y", "x"]]
    with pytest.raises(DataError, match=r"differ in 2 ids, e.g. y, z"):
        build_batches("length", [tmp_path / "a", tmp_path / "b"])
    (tmp_path / "wav.scp").write_text("x /x.wav\ny /y.wav\n")
    assert build_batches("unsorted", [tmp_path / "wav.scp"]).batches(None) == [["x", "y"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_type": "lenght"}, "Did you mean length"),
        ({"batch_type": "folded"}, "fold_length"),
        ({"batch_type": "length", "sort_batch": "down"}, "sort_batch"),
        ({"batch_type": "length", "shapes": []}, "shape file"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message):
        build_batches(**{"shapes": [TEN], **options})


def test_too_few_utterances_for_the_ranks():
    with pytest.raises(DataError, match="too few"):
        build_batches("length", [TEN], min_batch_size=11)


def test_duration_filter():
    shapes = {"short": (1599,), "good": (1600,), "long": (16001,)}
    assert list(filter_lengths(shapes, 16, 100, 1000)) == ["good"]
    assert list(filter_lengths(shapes, 16)) == list(shapes)
    with pytest.raises(DataError, match="speech_length_min"):
        filter_lengths(shapes, 16, 5000)

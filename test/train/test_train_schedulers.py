"""A schedule that ends, ends with the run."""

from __future__ import annotations

from funasr.train.schedulers import with_run_length


def test_run_length_is_filled_in_where_the_schedule_needs_it() -> None:
    assert with_run_length("cosinewarmuplr", {"warmup_steps": 5}, 100) == {"warmup_steps": 5, "max_steps": 100}
    assert with_run_length("tri_stage", {"max_steps": 7}, 100) == {"max_steps": 7}
    assert with_run_length("warmuplr", {}, 100) == {}
    assert with_run_length(None, {}, 100) == {}
    assert with_run_length("cosinewarmuplr", {}, None) == {}

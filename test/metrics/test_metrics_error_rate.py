"""Counts add up, every reference is scored, and the interval repeats."""

from __future__ import annotations

import json
import random

import pytest

from funasr.metrics.error_rate import (
    ErrorRate,
    align,
    bootstrap_interval,
    confusions,
    count_errors,
    score,
    score_to_dict,
    split_units,
)
from funasr.utils.errors import ConfigError, DataError


def distance(ref: list[str], hyp: list[str]) -> int:
    """Edit distance by the textbook table."""
    row = list(range(len(hyp) + 1))
    for i, one in enumerate(ref, 1):
        above, row = row, [i]
        for j, other in enumerate(hyp, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (one != other)))
    return row[-1]


def test_counts() -> None:
    counts = count_errors(align(["the", "cat", "sat", "on", "mat"], ["a", "the", "cat", "set", "on"]))
    assert counts == ErrorRate(corr=3, sub=1, dele=1, ins=1, sentences=1, wrong_sentences=1)
    assert (counts.words, counts.errors, counts.rate) == (5, 3, 60.0)


@pytest.mark.parametrize("seed", range(20))
def test_alignment_is_a_cheapest_one_and_holds_both_sides(seed: int) -> None:
    rng = random.Random(seed)
    ref, hyp = (rng.choices("abcd", k=rng.randrange(12)) for _ in range(2))
    pairs = align(ref, hyp)
    assert [p.ref for p in pairs if p.ref is not None] == ref
    assert [p.hyp for p in pairs if p.hyp is not None] == hyp
    assert all((p.op == "C") == (p.ref == p.hyp) for p in pairs)
    assert count_errors(pairs).errors == distance(ref, hyp)


def test_very_long_utterances_do_not_overflow() -> None:
    ref = [str(i) for i in range(70_000)]
    counts = count_errors(align(ref, ref[1:]))
    assert (counts.corr, counts.dele, counts.errors) == (69_999, 1, 1)
    assert count_errors(align(ref, [])).dele == 70_000


@pytest.mark.parametrize(
    ("unit", "units"),
    [
        ("word", ["<s>", "hello", "今天", "wor@@", "ld", "<unk>"]),
        ("char", list("hello今天world")),
        ("mixed", ["<s>", "hello", "今", "天", "wor@@", "ld", "<unk>"]),
    ],
)
def test_units(unit: str, units: list[str]) -> None:
    assert split_units("<s> Hello 今天 wor@@ ld <unk>", unit) == units


def test_mixed_text_without_spaces() -> None:
    assert split_units("用GPT写it's", "mixed", case_sensitive=True) == ["用", "GPT", "写", "it's"]


def test_case() -> None:
    assert score({"a": "Cat"}, {"a": "cat"}).total.errors == 0
    assert score({"a": "Cat"}, {"a": "cat"}, case_sensitive=True).total.errors == 1


def test_missing_hypotheses_are_deletions_and_extra_ones_nothing() -> None:
    scored = score({"a": "x y", "b": "z"}, {"b": "z", "c": "q q q"})
    assert scored.total == ErrorRate(1, 0, 2, 0, 2, 1)
    assert (scored.missing, scored.extra) == (("a",), ("c",))


def test_references_without_words() -> None:
    right, wrong = score({"a": ""}, {"a": ""}).total, score({"a": ""}, {"a": "x y"}).total
    assert (right.rate, right.sentence_rate) == (0.0, 0.0)
    assert (wrong.rate, wrong.ins, wrong.sentence_rate) == (200.0, 2, 100.0)
    assert score({"a": "", "b": "x y"}, {"a": "z", "b": "x y"}).total.rate == 50.0


def test_speakers() -> None:
    scored = score(
        {"a": "x", "b": "y", "c": "z"}, {"a": "x", "b": "x", "c": "z"}, utt2spk={"a": "q", "b": "p", "c": "p"}
    )
    assert list(scored.by_speaker()) == ["p", "q"]
    assert sum(scored.by_speaker().values(), ErrorRate()) == scored.total
    with pytest.raises(DataError, match="no speaker for 'b'"):
        score({"b": "x"}, {}, utt2spk={"a": "q"})


def test_confusions_most_frequent_first() -> None:
    scored = score({"1": "a b", "2": "a", "3": "d c"}, {"1": "x b", "2": "x", "3": "e c f"})
    assert confusions(scored.utterances) == {"sub": [("a", "x", 2), ("d", "e", 1)], "del": [], "ins": [("", "f", 1)]}


def test_interval_repeats_and_holds_the_rate() -> None:
    refs = {str(i): "a b c d" for i in range(50)}
    hyps = {str(i): "a b c d" if i % 3 else "a x c" for i in range(50)}
    utterances = score(refs, hyps).utterances
    low, high = bootstrap_interval(utterances, 200, seed=1)
    assert (low, high) == bootstrap_interval(utterances, 200, seed=1)
    assert low < score(refs, hyps).total.rate < high
    with pytest.raises(ConfigError, match="bootstrap"):
        bootstrap_interval(utterances, 0)


def test_json_holds_it_all() -> None:
    scored = score({"a": "x y", "b": "z"}, {"b": "q"}, utt2spk={"a": "s", "b": "s"}, name="dev")
    result = json.loads(json.dumps(score_to_dict(scored, resamples=20)))
    assert (result["name"], result["words"], result["errors"], result["error_rate"]) == ("dev", 3, 3, 100.0)
    assert (result["missing"], result["speakers"]["s"]["del"]) == (["a"], 2)
    assert result["confusions"]["sub"] == [["z", "q", 1]]


def test_wrong_arguments() -> None:
    with pytest.raises(ConfigError, match="unknown unit"):
        score({"a": "x"}, {}, unit="wrd")
    with pytest.raises(DataError, match="no reference"):
        score({}, {"a": "x"})

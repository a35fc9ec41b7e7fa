"""Reports show each error where it is, in columns, and no transcript can break the page."""

from __future__ import annotations

import re

from funasr.metrics.error_rate import score
from funasr.metrics.report import (
    display_width,
    report_html,
    report_text,
    result_text,
    speaker_table,
    summary_lines,
    warning_lines,
)


def test_summary_in_the_known_format() -> None:
    scored = score({"a": "x y z", "b": "q"}, {"a": "x v z w"})
    assert summary_lines(scored) == [
        "%WER 75.00 [ 3 / 4, 1 ins, 1 del, 1 sub ]",
        "%SER 100.00 [ 2 / 2 ]",
        "Scored 2 sentences, 1 not present in hyp.",
    ]
    assert report_text(scored).endswith("\n\n" + "\n".join(summary_lines(scored)) + "\n")


def test_utterance_block_in_columns() -> None:
    block = report_text(score({"a": "cat the"}, {"a": "bat the sat"})).splitlines()[:4]
    assert block == [
        "a(nwords=2,cor=1,ins=1,del=0,sub=1) corr:50.00%,wer:100.00%",
        "ref:\tcat the ***",
        "hyp:\tbat the sat",
        "err:\tS       I",
    ]


def test_wide_characters_stay_in_columns() -> None:
    _, ref, hyp, err = report_text(score({"a": "今天好"}, {"a": "今x好吗"}, unit="char")).splitlines()[:4]
    assert ref == "ref:\t今 天 好 **"
    assert hyp == "hyp:\t今 x  好 吗"
    assert err == "err:\t   S     I"
    assert display_width("今e\u0301") == 3


def test_speaker_table_adds_up() -> None:
    scored = score({"a": "x y", "b": "z"}, {"a": "x q", "b": "z"}, utt2spk={"a": "张三", "b": "bob"})
    rows = [re.split(r"[| ]+", line.strip("| ")) for line in speaker_table(scored) if line.startswith("|")]
    assert rows[1] == ["bob", "1", "1", "100.0", "0.0", "0.0", "0.0", "0.0", "0.0"]
    assert rows[2] == ["张三", "1", "2", "50.0", "50.0", "0.0", "0.0", "50.0", "100.0"]
    assert rows[3] == ["Sum/Avg", "2", "3", "66.7", "33.3", "0.0", "0.0", "33.3", "50.0"]
    assert len({display_width(line) for line in speaker_table(scored)}) == 1


def test_ids_that_do_not_match_are_named() -> None:
    scored = score({f"u{i:02d}": "x" for i in range(12)}, {"other": "x"})
    missing, extra = warning_lines(scored)
    assert "u00, u01" in missing and missing.endswith("and 2 more")
    assert extra == "No reference, not scored (1): other"
    assert missing in result_text(scored, resamples=10)


def test_page_escapes_everything_and_needs_nothing_else() -> None:
    evil = "<script>alert(1)</script>"
    page = report_html(score({evil: f"{evil} a&b"}, {evil: '"<b>" a&b c'}, utt2spk={evil: evil}, name=evil), 10)
    assert "<script" not in page and "<b>" not in page
    assert "a&amp;b" in page
    assert "http" not in page and " src=" not in page
    for kind in "SI":
        assert f"<span class={kind}>" in page

"""What is written can be read back, whatever is in the text; what a format needs and the result lacks is said."""

from __future__ import annotations

import csv
import html
import json
import re
from typing import Any

import numpy as np
import pytest

from funasr.text.writers import FORMATS, format_result, subtitles, timed_words

NASTY = 'say "a<b>c" & \\n --> 3.5%\tdone\n\n2'
ONE_LINE = " ".join(NASTY.split())
RESULT: dict[str, Any] = {
    "key": "my talk",
    "text": "你好，hello world。再见。",
    "timestamp": [[100, 300], [300, 520], [600, 1000], [1000, 1500], [3600_000, 3600_200], [3600_200, 3600_417]],
    "sentence_info": [
        {"text": "你好，hello world。", "start": 100, "end": 1500, "spk": 0,
         "timestamp": [[100, 300], [300, 520], [600, 1000], [1000, 1500]]},
        {"text": "再见。", "start": 3600_000, "end": 3600_417, "spk": 1,
         "timestamp": [[3600_000, 3600_200], [3600_200, 3600_417]]},
    ],
}  # fmt: skip
SPANS = [(100, 1500, "你好，hello world。"), (3600_000, 3600_417, "再见。")]
WORDS = ["你", "好", "hello", "world", "再", "见"]
TIMED = sorted(name for name, format in FORMATS.items() if format.needs_times)


def ms(clock: str) -> int:
    hours, minutes, seconds = clock.replace(",", ".").split(":")
    return round(1000 * (3600 * int(hours) + 60 * int(minutes) + float(seconds)))


def read_srt(text: str) -> list[tuple[int, int, str]]:
    cues = []
    for number, block in enumerate(re.split(r"\n\n+", text.strip()), 1):
        index, times, line = block.split("\n")
        assert int(index) == number
        assert re.fullmatch(r"\d\d:\d\d:\d\d,\d{3} --> \d\d:\d\d:\d\d,\d{3}", times)
        cues.append((*map(ms, times.split(" --> ")), line))
    return cues


def read_vtt(text: str) -> list[tuple[int, int, str, str]]:
    head, *blocks = re.split(r"\n\n+", text.strip())
    assert head == "WEBVTT"
    cues = []
    for block in blocks:
        times, line = block.split("\n")
        found = re.fullmatch(r"(?:<v ([^>]+)>)?([^<>]*)", line)
        assert found, line
        cues.append((*map(ms, times.split(" --> ")), found[1] or "", html.unescape(found[2])))
    return cues


def read_textgrid(text: str) -> dict[str, list[tuple[float, float, str]]]:
    """Tiers of a TextGrid as Praat reads it: free-standing numbers and strings, in order."""
    found = re.findall(r'"((?:[^"]|"")*)"|(?<== )([\d.]+)', text)
    values = iter([float(n) if n else s.replace('""', '"') for s, n in found])
    assert [next(values), next(values)] == ["ooTextFile", "TextGrid"]
    assert next(values) == 0
    end = next(values)
    tiers: dict[str, list[tuple[float, float, str]]] = {}
    for _ in range(int(next(values))):
        assert next(values) == "IntervalTier"
        name = str(next(values))
        assert [next(values), next(values)] == [0, end]
        tiers[name] = [(next(values), next(values), next(values)) for _ in range(int(next(values)))]
        edges = [0.0, *(stop for _, stop, _ in tiers[name])]
        assert edges == [*(start for start, _, _ in tiers[name]), end], "intervals follow one another"
        assert edges == sorted(set(edges))
    assert next(values, None) is None
    return tiers


def test_srt() -> None:
    assert read_srt(format_result(RESULT, "srt")) == [
        (100, 1500, "spk0: 你好，hello world。"),
        (3600_000, 3600_417, "spk1: 再见。"),
    ]


def test_vtt() -> None:
    assert read_vtt(format_result(RESULT, "vtt")) == [
        (100, 1500, "spk0", "你好，hello world。"),
        (3600_000, 3600_417, "spk1", "再见。"),
    ]


def test_tsv() -> None:
    rows = list(csv.reader(format_result(RESULT, "tsv").splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))
    assert rows == [
        ["my talk", "100", "1500", "spk0", "你好，hello world。"],
        ["my talk", "3600000", "3600417", "spk1", "再见。"],
    ]


def test_rttm() -> None:
    assert format_result(RESULT, "rttm").splitlines() == [
        "SPEAKER my_talk 1 0.100 1.400 <NA> <NA> spk0 <NA> <NA>",
        "SPEAKER my_talk 1 3600.000 0.417 <NA> <NA> spk1 <NA> <NA>",
    ]


def test_ctm() -> None:
    rows = [line.split(" ") for line in format_result(RESULT, "ctm").splitlines()]
    assert [row[4] for row in rows] == WORDS
    assert rows[-1] == ["my_talk", "1", "3600.200", "0.217", "见"]


def test_textgrid() -> None:
    tiers = read_textgrid(format_result(RESULT, "textgrid"))
    assert list(tiers) == ["sentences", "speakers", "words"]
    spoken = {name: [(start, end, text) for start, end, text in tier if text] for name, tier in tiers.items()}
    assert spoken["sentences"] == [(start / 1000, end / 1000, text) for start, end, text in SPANS]
    assert [text for *_, text in spoken["speakers"]] == ["spk0", "spk1"]
    assert [text for *_, text in spoken["words"]] == WORDS


def test_json_keeps_everything() -> None:
    embedding = np.arange(3, dtype=np.float32)
    line = format_result({**RESULT, "spk_embedding": embedding, "n": np.int64(3)}, "json")
    assert line.count("\n") == 1 and "你好" in line
    assert json.loads(line) == {**RESULT, "spk_embedding": [0.0, 1.0, 2.0], "n": 3}
    with pytest.raises(TypeError, match="object"):
        format_result({"key": object()}, "json")


def test_text() -> None:
    assert format_result({"key": "a", "text": " one\ntwo "}, "text") == "one two\n"


def test_nothing_in_a_text_breaks_a_format() -> None:
    result = {"key": "k", "text": NASTY, "sentence_info": [{"text": NASTY, "start": 0, "end": 900, "spk": 'x<">'}]}
    assert read_srt(format_result(result, "srt")) == [(0, 900, f'x<">: {ONE_LINE}')]
    assert read_vtt(
        format_result({**result, "sentence_info": [{**result["sentence_info"][0], "spk": None}]}, "vtt")
    ) == [(0, 900, "", ONE_LINE)]
    assert "-->" not in format_result(result, "vtt").split("\n")[3]
    assert format_result(result, "tsv").split("\t")[-1] == ONE_LINE + "\n"
    assert read_textgrid(format_result(result, "textgrid"))["sentences"] == [(0.0, 0.9, ONE_LINE)]
    assert len(format_result({**result, "key": "a b\nc"}, "rttm").split()) == 10


@pytest.mark.parametrize("name", list(FORMATS))
@pytest.mark.parametrize("result", [{"key": "a", "text": ""}, {"key": "a", "text": " ", "timestamp": []}])
def test_no_text_is_a_file_without_entries(name: str, result: dict[str, Any]) -> None:
    written = format_result(result, name)
    expected = {"text": "\n", "vtt": "WEBVTT\n"}.get(name, "")
    if name == "textgrid":
        assert read_textgrid(written) == {"words": [(0.0, 0.001, "")]}
    elif name == "json":
        assert json.loads(written) == result
    else:
        assert written == expected


@pytest.mark.parametrize("name", TIMED)
def test_missing_times_are_said(name: str) -> None:
    with pytest.raises(ValueError, match=r"'a' has no (times|speakers).*--(timestamps|spk)"):
        format_result({"key": "a", "text": "some words"}, name)


def test_missing_speakers_are_said() -> None:
    sentences = [{**sentence, "spk": None} for sentence in RESULT["sentence_info"]]
    with pytest.raises(ValueError, match="'my talk' has no speakers"):
        format_result({**RESULT, "sentence_info": sentences}, "rttm")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("你好，hello world。", ["你", "好", "hello", "world"]),
        ("你 好 hello", ["你", "好", "hello"]),
        ("Hello, it's 3.5 'em!", ["Hello", "it's", "3.5", "'em"]),
        ("un café noir", ["un", "café", "noir"]),
    ],
)
def test_words_of_a_text(text: str, words: list[str]) -> None:
    times = [[100 * i, 100 * i + 80] for i in range(len(words))]
    found = timed_words({"key": "a", "text": text, "timestamp": times})
    assert [word.text for word in found] == words
    assert [[word.start_ms, word.end_ms] for word in found] == times


def test_times_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="3 times for 2 words"):
        timed_words({"key": "a", "text": "one two", "timestamp": [[0, 1], [1, 2], [2, 3]]})


def test_other_forms_of_times() -> None:
    expected = [(100, 300, "one"), (300, 500, "two")]
    for extra in (
        {"timestamps": [{"token": "one", "start_time": 0.1, "end_time": 0.3},
                        {"token": "two", "start_time": 0.3, "end_time": 0.5}]},
        {"timestamp": [["one", 0.1, 0.3], ["two", 0.3, 0.5]]},
        {"timestamp": [[100, 300, 0.9], [300, 500, 0.8]]},
        {"words": ["one", "two"], "timestamp": [[100, 300], [300, 500]]},
        {"sentence_info": [{"text": "one two.", "start": 100, "end": 500, "timestamp": [[100, 300], [300, 500]]}]},
    ):  # fmt: skip
        found = timed_words({"key": "a", "text": "one two", **extra})
        assert [(word.start_ms, word.end_ms, word.text) for word in found] == expected, extra
    assert [w.text for w in timed_words({"key": "a", "text": "One two 2.", "raw_text": "一 二",
                                         "timestamp": [[0, 1], [1, 2]]})] == ["一", "二"]  # fmt: skip


def test_subtitles_without_sentences_end_at_pauses_and_in_time() -> None:
    times = [[0, 400], [500, 900], [2000, 2500]]
    cues = subtitles({"key": "a", "text": "one two three", "timestamp": times})
    assert [(cue.start_ms, cue.end_ms, cue.text) for cue in cues] == [(0, 900, "one two"), (2000, 2500, "three")]
    long = [[400 * i, 400 * i + 400] for i in range(60)]
    cues = subtitles({"key": "a", "text": "字" * 60, "timestamp": long})
    assert max(cue.end_ms - cue.start_ms for cue in cues) <= 7000
    assert "".join(cue.text for cue in cues) == "字" * 60
    whole = subtitles({"key": "a", "text": "你好，再见。", "timestamp": long[:4]})
    assert [cue.text for cue in whole] == ["你好，再见。"]


def test_times_out_of_order_stay_readable() -> None:
    result = {"key": "a", "text": "a b c", "timestamp": [[-30, 100], [90, 200], [200, 200]]}
    tier = read_textgrid(format_result(result, "textgrid"))["words"]
    assert tier == [(0.0, 0.1, "a"), (0.1, 0.2, "b")]
    assert format_result(result, "ctm").split()[2:4] == ["0.000", "0.100"]

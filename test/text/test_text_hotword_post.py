"""Hot words put into finished texts: pairs by their spelling, words by their sound, and nothing else is touched."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from funasr.text.hotword_post import HotwordReplacer, Match, read_hotwords
from funasr.utils.errors import ConfigError


def replaced(text: str, hotwords: object, **options: object) -> str:
    return HotwordReplacer(read_hotwords(hotwords), **options).replace(text)[0]  # type: ignore[arg-type]


def test_a_list_says_pairs_and_words(tmp_path: Path) -> None:
    file = tmp_path / "hot.txt"
    file.write_text("\ufeff# comment\n\n阿里=>阿狸\n 达摩院 \n", encoding="utf-8")
    found = read_hotwords("a => b\nc->d\ne→f\n#x=>y\nFunASR\n达摩院", file)
    assert found.pairs == {"a": "b", "c": "d", "e": "f", "阿里": "阿狸"}
    assert found.targets == ("FunASR", "达摩院")
    assert read_hotwords(["a=>b", "c"]).targets == ("c",)
    assert read_hotwords({"a": "b"}).pairs == {"a": "b"}
    assert read_hotwords() == read_hotwords("", None) == read_hotwords([])


def test_what_is_wrong_with_a_list_is_named(tmp_path: Path) -> None:
    file = tmp_path / "hot.txt"
    file.write_text("a\n=> b\n")
    with pytest.raises(ConfigError, match=r"hot\.txt:2.*wrong=>right"):
        read_hotwords(file=file)
    with pytest.raises(ConfigError, match=r"absent\.txt cannot be read"):
        read_hotwords(file=tmp_path / "absent.txt")
    with pytest.raises(ConfigError, match="threshold"):
        HotwordReplacer(read_hotwords("a"), threshold=85)


def test_pairs_longest_first_and_each_place_once() -> None:
    pairs = {"ab": "1", "abc": "2", "1": "no", "": "no"}
    assert replaced("ab abc abcd", pairs) == "1 2 2d"
    text, matches = HotwordReplacer(read_hotwords({"该": "ABC"})).replace("该 nine 该")
    assert text == "ABC nine ABC"
    # Places are told as the text was then: what is left of a match is replaced already.
    assert matches == [Match("该", "ABC", 1.0, 0, 1), Match("该", "ABC", 1.0, 9, 10)]


def test_a_recogniser_puts_spaces_between_ideographs() -> None:
    assert replaced("我 在 阿 里 巴 巴", {"阿里巴巴": "Alibaba"}) == "我 在 Alibaba"
    assert replaced("in side", {"inside": "x"}) == "in side"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("我在啊里爸爸工作", "我在阿里巴巴工作"),
        ("我 在 啊 里 爸 爸 工 作", "我 在 阿里巴巴 工 作"),
        ("阿里巴巴", "阿里巴巴"),
        ("我爱吃饭", "我爱吃饭"),
        ("阿里，巴巴", "阿里，巴巴"),  # a mark stands between
        ("", ""),
        ("fan asr", "fan asr"),
    ],
)
def test_words_by_their_sound(text: str, expected: str) -> None:
    assert replaced(text, "阿里巴巴") == expected


def test_words_of_latin_script() -> None:
    assert replaced("I like fun ASR and FanASR.", "FunASR", threshold=0.8) == "I like FunASR and FunASR."
    assert replaced("paraformers", "Paraformer") == "Paraformer"
    assert replaced("performance", "Paraformer") == "performance"


def test_the_best_of_overlapping_places() -> None:
    text, matches = HotwordReplacer(read_hotwords("达摩院\n大魔院长")).replace("大么院章")
    assert len(matches) == 1 and matches[0].score >= 0.85 and text in ("达摩院章", "大魔院长")


def test_a_word_alone_is_not_looked_for_by_one_syllable() -> None:
    assert replaced("是事实", "时") == "是事实"


def test_threshold_and_switch() -> None:
    assert replaced("啊里爸", "阿里巴巴") == "啊里爸"
    assert replaced("啊里爸", "阿里巴巴", threshold=0.7) == "阿里巴巴"
    assert replaced("啊里爸爸 a", "阿里巴巴\na=>b", fuzzy=False) == "啊里爸爸 b"


def test_without_pypinyin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypinyin", None)
    with pytest.raises(ConfigError, match=r"pip install 'funasr\[g2p\]'"):
        HotwordReplacer(read_hotwords("阿里巴巴"))
    assert replaced("啊=b", {"啊": "a"}) == "a=b"
    assert replaced("FanASR", "FunASR", threshold=0.8) == "FunASR"

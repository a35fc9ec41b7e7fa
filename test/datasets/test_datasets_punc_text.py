"""Punctuated text becomes words and marks as a recogniser and the model would have them; windows cut it as in use."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from funasr.datasets.punc_list import PUNC_LIST, MarkMap, read_punc_list
from funasr.datasets.punc_text import marked_words, paragraphs
from funasr.datasets.punc_windows import Stretch, chapters, has_chapters, hold_back, joined, passages, windows
from funasr.utils.errors import ConfigError

MARKS = MarkMap()


def marked(text: str, marks: MarkMap = MARKS, lower: bool = True) -> str:
    """Words with their marks, `a b，c。`."""
    words, found = marked_words(text, marks, lower)
    return " ".join(word + ("" if mark == "_" else mark) for word, mark in zip(words, found))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("“Hold your noise!” cried a voice.", "hold your noise， cried a voice。"),
        ("“Oh! Single, my dear.” “How so?” said he.", "oh。 single， my dear。 how so？ said he。"),
        ("Mr. Bennet met Dr. J. H. Watson, of St. Paul's.", "mr bennet met dr j h watson， of st paul's。"),
        ("It was I. He left at 5.30 p.m. yesterday.", "it was i。 he left at 5.30 p m yesterday。"),
        ("i.e. the well-remembered door", "i e the well remembered door"),
        ("He paid £1,000--all he had; and left (at once).", "he paid 1000， all he had。 and left at once。"),
        ("_You_ don’t say… No. 5? Café & bar!", "you don't say。 no 5？ cafe and bar。"),
        ("wait ... what?!”", "wait， what？"),
        ("the boys' room: 'Oh,' said he", "the boys room， oh， said he"),
    ],
)
def test_english(text: str, expected: str) -> None:
    assert marked(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("他说：“好！”于是，走了。", "他 说， 好。 于 是， 走 了。"),
        ("《红楼梦》、《西游记》；谁写的？", "红 楼 梦、 西 游 记。 谁 写 的？"),
        ("半角,也行.真的?", "半 角， 也 行。 真 的？"),
        ("──姓贾，名化——字时飞……", "姓 贾， 名 化， 字 时 飞。"),
        ("用 Ｋ８ 和 iPhone15, OK?", "用 k8 和 iphone15， ok？"),
        ("3.5万人", "3.5 万 人"),
    ],
)
def test_chinese_and_mixed(text: str, expected: str) -> None:
    assert marked(text) == expected


def test_capitals_may_stay() -> None:
    assert marked("Mr. Darcy smiled.", lower=False) == "Mr Darcy smiled。"


def test_marks_that_the_list_lacks_become_the_nearest() -> None:
    assert marked("a, b; c! d? e、f", MarkMap(["<unk>", "_", ".", "!"])) == "a b。 c d。 e f"
    assert marked("A! B? C; d", MarkMap(["_", ",", ".", "!"])) == "a！ b。 c。 d"


def test_hard_wrapped_paragraphs_and_headings() -> None:
    lines = ["CHAPTER I. THE START", "", "It was a", "dark night.", "", "A heading without mark", "", "He came,", ""]
    lines += [
        "II.",
        "",
        "“Who said",
        "I.” He left. And then",
        "",
        "第二回　甄士隐",
        "　　说道：",
        "　　好。却说",
        "那人。",
    ]
    found = list(paragraphs(lines, MARKS))
    assert [" ".join(p.words) for p in found] == [
        "it was a dark night",
        "he came",
        "who said i he left",  # a line that breaks off ends with its last sentence
        "说 道",
        "好 却 说 那 人",
    ]
    assert [p.new_chapter for p in found] == [True, False, True, True, False]
    assert [p.marks[-1] for p in found] == ["。", "，", "。", "，", "。"]


def test_each_line_may_be_a_paragraph() -> None:
    lines = ["a b.", "c d.", "e"]
    assert [" ".join(p.words) for p in paragraphs(lines, MARKS, wrapped=False)] == ["a b", "c d"]


def test_punc_list_with_weights() -> None:
    marks, weights = read_punc_list(["<unk>", "_:1", ",:2.5", {".": 3}, "?"])
    assert marks == ["<unk>", "_", "，", "。", "？"] and weights == [1.0, 1.0, 2.5, 3.0, 1.0]
    assert read_punc_list(list(PUNC_LIST)) == (list(PUNC_LIST), None)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        (["<unk>", "，", "。"], "lacks '_'"),
        (["<unk>", "_", "，"], "no mark that ends a sentence"),
        (["_", "。", ".", "，"], "。 twice"),
        (["_", "。:high"], "weight of '。' must be a number"),
        (["_", "。:-1"], "at least 0"),
        (["_", 3], "must be a mark"),
        ("no/such/file", "does not exist"),
    ],
)
def test_a_wrong_punc_list_is_explained(entries: object, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_punc_list(entries)  # type: ignore[arg-type]


def stretch(lengths: list[int], first: int = 0) -> Stretch:
    """Sentences of these lengths; the words are their positions."""
    marks = [mark for length in lengths for mark in ["_"] * (length - 1) + ["。"]]
    return Stretch(tuple(str(first + i) for i in range(len(marks))), tuple(marks))


def test_windows_cover_the_text_and_begin_with_sentences() -> None:
    rng = np.random.default_rng(0)
    part = stretch(rng.integers(1, 60, 200).tolist())
    begins = {0, *(i + 1 for i, mark in enumerate(part.marks) if mark == "。")}
    found = list(windows(part, 10, 80, rng))
    starts = [int(window.words[0]) for window in found]
    assert {int(word) for window in found for word in window.words} == set(range(len(part)))
    assert all(start in begins for start in starts) and starts == sorted(starts)
    assert max(map(len, found)) <= 80
    ends = {start + len(window) for start, window in zip(starts, found)}
    assert len(ends - begins) > 0.8 * len(ends)  # they end anywhere


def test_a_text_without_sentence_ends_is_cut_all_the_same() -> None:
    part = Stretch(tuple(map(str, range(500))), ("_",) * 500)
    found = list(windows(part, 10, 50, np.random.default_rng(0)))
    assert {int(word) for window in found for word in window.words} == set(range(500))
    assert all(int(b.words[0]) - int(a.words[0]) in (0, len(a)) for a, b in pairwise(found))


def test_passages_are_whole_sentences() -> None:
    found = list(passages(stretch([7] * 10), 20))
    assert [len(passage) for passage in found] == [21, 21, 21, 7]
    assert all(passage.marks[-1] == "。" for passage in found)


def test_the_last_chapters_are_held_back() -> None:
    parts = [stretch([10] * 10, first=100 * number) for number in range(20)]
    train, valid, test = hold_back(parts, 0.05, 0.1)
    assert train + valid + test == parts
    assert (len(valid), len(test)) == (1, 2)
    assert hold_back(parts, 0, 1) == ([], [], parts)
    with pytest.raises(ConfigError, match="together at most 1"):
        hold_back(parts, 0.5, 0.6)
    with pytest.raises(ConfigError, match="too few"):
        hold_back(parts[:2], 0.1, 0.1)


def test_without_chapters_paragraphs_are_held_back() -> None:
    found = list(paragraphs(["A b.", "", "C d.", "", "Chapter 1", "", "E f."], MARKS))
    assert [part.words for part in chapters(found)] == [("a", "b"), ("c", "d"), ("e", "f")]
    assert not has_chapters(found) and joined(chapters(found)).words == ("a", "b", "c", "d", "e", "f")
    found = list(paragraphs(["Chapter 1", "A b.", "", "C d.", "Chapter 2", "", "E f."], MARKS))
    assert [part.words for part in chapters(found)] == [("a", "b", "c", "d"), ("e", "f")]

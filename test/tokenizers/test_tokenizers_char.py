"""CharTokenizer cuts and joins as released FunASR does, and keeps word gaps when the token list can say them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from funasr.register import tables
from funasr.tokenizers.char_tokenizer import CharTokenizer, read_seg_dict
from funasr.utils.errors import ConfigError, DataError

RECORDED = json.loads(
    (Path(__file__).parents[1] / "parity/text-postprocess/expected/expected.json").read_text(encoding="utf-8")
)["char_tokenizer"]
TOKENS = RECORDED["token_list"]
ENGLISH = ["<blank>", "<s>", "</s>", "<space>", "a", "b", "<noise>", "<unk>"]


@pytest.fixture
def seg_dict(tmp_path: Path) -> Path:
    path = tmp_path / "seg_dict"
    path.write_text(RECORDED["seg_dict"].replace(" / ", "\n") + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("case", RECORDED["cases"], ids=lambda c: c["text"])
@pytest.mark.parametrize("split_with_space", [False, True])
def test_recorded_cases(case: dict, seg_dict: Path, split_with_space: bool) -> None:
    plain = CharTokenizer(TOKENS, split_with_space=split_with_space)
    assert plain.text2tokens(case["text"]) == case["chars"]
    assert plain.encode(case["text"]) == case["char_ids"]
    for option in ("seg_dict", "seg_dict_file"):
        tokenizer = CharTokenizer(TOKENS, split_with_space=split_with_space, **{option: seg_dict})
        assert tokenizer.text2tokens(case["text"]) == case["seg"]
        assert tokenizer.encode(case["text"]) == case["seg_ids"]


def test_registered_by_both_names() -> None:
    assert tables.tokenizer_classes["char"] is tables.tokenizer_classes["CharTokenizer"] is CharTokenizer


def test_text_cut_beforehand_keeps_its_tokens() -> None:
    tokenizer = CharTokenizer(TOKENS, split_with_space=True)
    assert tokenizer.text2tokens("你 hel@@ lo 好你") == ["你", "hel@@", "lo", "好", "你"]
    assert tokenizer.decode(tokenizer.encode("你 hel@@ lo 好")) == "你hello好"


@pytest.mark.parametrize("split_with_space", [False, True])
def test_gap_is_a_token_if_the_list_has_one(split_with_space: bool) -> None:
    tokenizer = CharTokenizer(ENGLISH, split_with_space=split_with_space)
    assert tokenizer.text2tokens(" ab  a ") == ["a", "b", "<space>", "a"]
    assert tokenizer.decode(tokenizer.encode("ab a")) == "ab a"
    assert tokenizer.text2tokens("a b <space> a") == ["a", "b", "<space>", "a"]


def test_without_a_list_gaps_are_named_unless_unwanted() -> None:
    assert CharTokenizer().text2tokens("a b") == ["a", "<space>", "b"]
    assert CharTokenizer(space_symbol=None).text2tokens("a b") == ["a", "b"]
    assert CharTokenizer(split_with_space=True).text2tokens("hel@@ lo") == ["hel@@", "lo"]


def test_non_linguistic_symbols(tmp_path: Path) -> None:
    path = tmp_path / "nlsyms.txt"
    path.write_text("<noise>\n<no>\n", encoding="utf-8")
    assert CharTokenizer(ENGLISH, non_linguistic_symbols=path).text2tokens("a<noise>b") == ["a", "<noise>", "b"]
    removing = CharTokenizer(ENGLISH, non_linguistic_symbols=["<noise>"], remove_non_linguistic_symbols=True)
    assert removing.text2tokens("a<noise>b") == ["a", "b"]


def test_seg_dict_in_memory() -> None:
    tokenizer = CharTokenizer(TOKENS, seg_dict={"hello": ["hel@@", "lo"]})
    assert tokenizer.encode("HELLO 你") == [5, 6, 9]


def test_wrong_seg_dicts(tmp_path: Path) -> None:
    path = tmp_path / "seg_dict"
    with pytest.raises(ConfigError, match="does not exist"):
        read_seg_dict(path)
    path.write_text("a a\nb\n", encoding="utf-8")
    with pytest.raises(DataError, match="seg_dict:2: 'b' has no pieces"):
        CharTokenizer(TOKENS, seg_dict_file=path)
    with pytest.raises(ConfigError, match="only one"):
        CharTokenizer(TOKENS, seg_dict=path, seg_dict_file=path)


def test_ids_outside_of_the_list() -> None:
    with pytest.raises(IndexError, match="10 is outside"):
        CharTokenizer(TOKENS).ids2tokens([10])
    with pytest.raises(IndexError, match="-1 is outside"):
        CharTokenizer(TOKENS).ids2tokens([-1])


def test_ids_need_a_list() -> None:
    with pytest.raises(ConfigError, match="no token_list"):
        CharTokenizer().encode("a")

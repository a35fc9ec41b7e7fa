"""Words and marks become ids, one mark for each token, cut as the model cuts a text in use; rules as the rival."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from funasr.datasets.punc_list import PUNC_LIST
from funasr.datasets.punc_preprocessor import PuncPreprocessor, token_marks
from funasr.datasets.punc_rules import fit_rules
from funasr.metrics.punctuation import score_marks
from funasr.models.ct_transformer.tokens import tokenize_words
from funasr.tokenizers.char_tokenizer import CharTokenizer
from funasr.utils.errors import ConfigError, DamagedUtteranceError, DataError

TOKENS = ["<blank>", "<s>", "</s>", "hello", "world", "你", "好", "北京", "天气", "<unk>"]


def preprocess(text: str, punc: str, uid: str = "a", epoch: int = 1, **options: Any) -> dict[str, list[int]]:
    tokenizer = CharTokenizer(TOKENS, split_with_space=True)
    step = PuncPreprocessor(options.pop("train", True), tokenizer, PUNC_LIST, **options)
    step.set_epoch(epoch)
    return {name: value.tolist() for name, value in step(uid, {"text": text, "punc": punc}).items()}


def tokens_and_marks(text: str, punc: str, **options: Any) -> list[str]:
    found = preprocess(text, punc, **options)
    return [f"{TOKENS[token]}{PUNC_LIST[mark]}" for token, mark in zip(found["text"], found["punc"])]


def test_one_mark_for_each_word() -> None:
    assert tokens_and_marks("hello there world", "， _ .") == ["hello，", "<unk>_", "world。"]


def test_a_word_of_several_tokens_has_its_mark_behind_the_last() -> None:
    assert tokens_and_marks("hello你好 world", "， 。") == ["hello_", "你_", "好，", "world。"]


def test_a_token_over_several_words_has_the_last_mark_in_it() -> None:
    assert token_marks(["，", "_", "。", "_"], [1, 3]) == ["，", "。"]
    assert token_marks(["_", "？"], [0, 0, 1]) == ["_", "_", "？"]


@pytest.mark.skipif(importlib.util.find_spec("jieba") is None, reason="jieba is not installed")
def test_chinese_words(tmp_path: Path) -> None:
    (tmp_path / "words").write_text("北京\n天气\n", encoding="utf-8")
    found = tokens_and_marks("北 京 天 气 hello", "_ ， _ _ ？", jieba_usr_dict=str(tmp_path / "words"))
    assert found == ["北京，", "天气_", "hello？"]


@pytest.mark.parametrize(
    ("text", "punc", "said"),
    [
        ("", "", "text is empty"),
        ("hello world", "。", "2 words but 1 marks"),
        ("hello world", "_ ；", "mark '；' is not in punc_list"),
    ],
)
def test_what_cannot_be_used_is_damaged(text: str, punc: str, said: str) -> None:
    with pytest.raises(DamagedUtteranceError, match=said):
        preprocess(text, punc)


def test_pauses_are_drawn_anew_for_each_epoch_but_not_in_validation() -> None:
    text, punc = "hello " * 30, "_ " * 30
    ids = [f"u{number}" for number in range(200)]

    def pauses(**options: Any) -> list[int]:
        return [preprocess(text, punc, uid=uid, pauses=True, **options)["vad"][0] for uid in ids]

    assert pauses(epoch=2) == pauses(epoch=2) != pauses(epoch=3)
    assert pauses(epoch=2, train=False) == pauses(epoch=3, train=False)
    assert 60 < sum(pause > 0 for pause in pauses()) < 140 and max(pauses()) == 29
    assert set(pauses(pause_prob=0.0)) == {0}
    assert "vad" not in preprocess(text, punc)
    with pytest.raises(ConfigError, match="pause_prob"):
        pauses(pause_prob=2.0)


def test_words_are_taken_for_unknown_in_training_only() -> None:
    text, punc = "hello " * 500, "_ " * 500
    unknown = preprocess(text, punc, unk_prob=0.2)["text"].count(TOKENS.index("<unk>"))
    assert 60 < unknown < 140
    assert set(preprocess(text, punc, unk_prob=0.2, train=False)["text"]) == {TOKENS.index("hello")}
    with pytest.raises(ConfigError, match="unk_prob"):
        preprocess(text, punc, unk_prob=-0.1)


def test_rules_find_the_words_beside_which_marks_stand() -> None:
    sentences = [("a b and c stop", "_ ， _ _ 。"), ("x y z stop who d why", "_ _ _ 。 _ _ ？")]
    texts = [(words.split(), marks.split()) for words, marks in sentences * 30]
    rules = fit_rules(texts)
    score = score_marks((marks, rules.apply(words)) for words, marks in texts)
    assert all(score[mark].f1 == 1.0 for mark in "，。")
    assert rules.apply(["q", "b", "and", "c"]) == ["_", "，", "_", "。"]


def test_a_rule_may_count_words() -> None:
    words, marks = ["w"] * 60, (["_"] * 5 + ["。"]) * 10
    rules = fit_rules([(words, marks)])
    assert [rule.every for rule in rules.rules] == [6]
    assert rules.apply(words) == marks


def test_no_rules_without_marks() -> None:
    with pytest.raises(DataError, match="no mark"):
        fit_rules([(["a"], ["_"])])


def test_training_cuts_texts_as_inference_does() -> None:
    text = "hello你好 world 3天"
    found = preprocess(text, "_ _ 。")
    assert found["text"] == CharTokenizer(TOKENS).tokens2ids(tokenize_words(text.split())[0])

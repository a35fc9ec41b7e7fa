"""The tokenizer of a language model: ours, with all that the one of transformers has."""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from funasr.register import tables
from funasr.tokenizers.huggingface_tokenizer import HuggingfaceTokenizer
from funasr.utils.errors import ConfigError, DataError

TEXTS = ["one two three", "hello world 你好", "两个 two"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    special = ["<|im_start|>", "<|im_end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator(TEXTS * 3, trainer)
    folder = tmp_path_factory.mktemp("llm")
    PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|im_end|>").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> HuggingfaceTokenizer:
    made = tables.tokenizer_classes["HuggingfaceTokenizer"](init_param_path=str(folder))
    assert isinstance(made, HuggingfaceTokenizer)
    return made


@pytest.mark.parametrize("text", TEXTS)
def test_text_comes_back(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.tokens2text(tokenizer.text2tokens(text)) == text
    assert tokenizer.tokens2ids(tokenizer.text2tokens(text)) == tokenizer.encode(text)
    assert tokenizer.ids2tokens(tokenizer.encode(text)) == tokenizer.text2tokens(text)


def test_sizes(tokenizer):
    assert tokenizer.vocab_size == len(tokenizer.token_list) == len(tokenizer)
    assert tokenizer.token_list[1] == "<|im_end|>"


def test_what_transformers_has_is_there(tokenizer):
    ids = tokenizer.encode("one<|im_end|>")
    assert tokenizer.eos_token_id == ids[-1] == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == "one"
    assert tokenizer.batch_decode([ids, ids], skip_special_tokens=True) == ["one", "one"]
    assert tokenizer("one", return_tensors="pt").input_ids.tolist() == [tokenizer.encode("one")]
    with pytest.raises(AttributeError, match="no_such_thing"):
        tokenizer.no_such_thing


def test_it_travels_to_other_processes(tokenizer):
    assert pickle.loads(pickle.dumps(tokenizer)).encode("hello") == tokenizer.encode("hello")


def test_no_such_token(tokenizer):
    with pytest.raises(DataError, match="'nothing' is no token of"):
        tokenizer.tokens2ids(["nothing"])


def test_no_folder(tmp_path):
    with pytest.raises(ConfigError, match="Qwen is not a folder"):
        HuggingfaceTokenizer(tmp_path / "Qwen")


def test_a_folder_without_a_tokenizer(tmp_path):
    with pytest.raises(ConfigError, match="holds no tokenizer that can be used") as caught:
        HuggingfaceTokenizer(tmp_path)
    assert "\n" not in str(caught.value)


def test_code_in_the_folder_is_not_run(tmp_path):
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    settings = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(ConfigError, match="holds no tokenizer that can be used"):
        HuggingfaceTokenizer(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_without_transformers_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'funasr\[llm\]'"):
        HuggingfaceTokenizer(folder)

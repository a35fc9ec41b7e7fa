"""Word, phoneme and sentencepiece tokenizers: text -> ids -> text, in this process and in a worker's copy."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from funasr.tokenizers.build import build_tokenizer_from_type, tokenizer_config
from funasr.tokenizers.phoneme_tokenizer import PhonemeTokenizer
from funasr.tokenizers.sentencepiece_tokenizer import SentencepiecesTokenizer
from funasr.tokenizers.token_list import with_default_symbols
from funasr.tokenizers.word_tokenizer import WordTokenizer
from funasr.utils.errors import ConfigError

TEXT = "the cat sat on the mat"


@pytest.fixture(scope="module")
def bpemodel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import sentencepiece

    prefix = tmp_path_factory.mktemp("bpe") / "bpe"
    lines = [TEXT, "a cat and a rat", "the rat ran", "on a mat sat the cat"] * 5
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_prefix=str(prefix), vocab_size=24, model_type="bpe", minloglevel=2
    )
    return prefix.with_suffix(".model")


def test_words() -> None:
    tokenizer = WordTokenizer(["<blank>", "the", "cat", "<unk>"])
    assert tokenizer.encode("the  cat\tsat") == [1, 2, 3]
    assert tokenizer.decode([1, 2]) == "the cat"


def test_words_with_a_delimiter_and_symbols_to_remove() -> None:
    tokenizer = WordTokenizer(delimiter=",", non_linguistic_symbols=["<n>"], remove_non_linguistic_symbols=True)
    assert tokenizer.text2tokens("a b,<n>,c") == ["a b", "c"]
    assert tokenizer.tokens2text(["a b", "c"]) == "a b,c"


def test_wrong_word_options() -> None:
    with pytest.raises(ConfigError, match="delimiter"):
        WordTokenizer(delimiter="")
    with pytest.raises(ConfigError, match="needs non_linguistic_symbols"):
        WordTokenizer(remove_non_linguistic_symbols=True)


def test_sentencepiece_ids_of_the_model(bpemodel: Path) -> None:
    tokenizer = SentencepiecesTokenizer(bpemodel)
    assert tokenizer.vocab_size == 24
    assert tokenizer.ids2tokens(tokenizer.encode(TEXT)) == tokenizer.text2tokens(TEXT)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


def test_sentencepiece_ids_of_a_token_list(bpemodel: Path) -> None:
    tokens = with_default_symbols(SentencepiecesTokenizer(bpemodel).token_list)
    tokenizer = SentencepiecesTokenizer(bpemodel, tokens)
    ids = tokenizer.encode(TEXT)
    assert tokenizer.vocab_size == len(tokens)
    assert min(ids) >= 3
    assert tokenizer.decode([1, *ids, 2]) == TEXT
    assert tokenizer.encode("☃")[-1] == tokens.index("<unk>")


def test_sentencepiece_travels_to_workers(bpemodel: Path) -> None:
    tokenizer = SentencepiecesTokenizer(bpemodel)
    before = pickle.dumps(tokenizer)
    ids = tokenizer.encode(TEXT)
    assert len(pickle.dumps(tokenizer)) == len(before)
    assert pickle.loads(pickle.dumps(tokenizer)).encode(TEXT) == ids


def test_wrong_bpe_models(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs bpemodel"):
        SentencepiecesTokenizer()
    with pytest.raises(ConfigError, match="does not exist"):
        SentencepiecesTokenizer(tmp_path / "bpe.model")
    (tmp_path / "bpe.model").write_text("no model")
    with pytest.raises(ConfigError, match="is not a sentencepiece model"):
        SentencepiecesTokenizer(tmp_path / "bpe.model").encode("a")


@pytest.mark.parametrize("g2p_type", [None, "none"])
def test_phonemes_given(g2p_type: str | None) -> None:
    tokenizer = PhonemeTokenizer(["<blank>", "HH", "AH0", "<unk>"], g2p_type=g2p_type)
    assert tokenizer.encode("HH  AH0 X") == [1, 2, 3]
    assert tokenizer.decode([1, 2]) == "HH AH0"


def test_phonemes_and_symbols() -> None:
    assert PhonemeTokenizer(non_linguistic_symbols=["<n>"]).text2tokens("a <n>b") == ["a", "<n>", "b"]
    removing = PhonemeTokenizer(non_linguistic_symbols=["<n>"], remove_non_linguistic_symbols=True)
    assert removing.text2tokens("a <n>b") == ["a", "b"]


@pytest.mark.parametrize(
    ("g2p_type", "module"),
    [("g2p_en", "g2p_en"), ("pypinyin_g2p", "pypinyin"), ("pypinyin_g2p_phone", "pypinyin")],
)
def test_missing_g2p_package(monkeypatch: pytest.MonkeyPatch, g2p_type: str, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"pip install funasr\[g2p\]"):
        PhonemeTokenizer(g2p_type=g2p_type).text2tokens("你好")


def test_pinyin() -> None:
    assert PhonemeTokenizer(g2p_type="pypinyin_g2p").text2tokens("你好") == ["ni3", "hao3"]
    phones = PhonemeTokenizer(g2p_type="pypinyin_g2p_phone")
    assert phones.text2tokens("你好") == ["n", "i3", "h", "ao3"]
    assert pickle.loads(pickle.dumps(phones)).text2tokens("你好") == ["n", "i3", "h", "ao3"]


def test_unknown_g2p() -> None:
    with pytest.raises(ConfigError, match="Did you mean g2p_en"):
        PhonemeTokenizer(g2p_type="g2p_eng")


def test_every_token_type_builds(bpemodel: Path) -> None:
    for token_type, name in [("char", "CharTokenizer"), ("word", "WordTokenizer"), ("phn", "PhonemeTokenizer")]:
        assert type(build_tokenizer_from_type(token_type, split_with_space=True)).__name__ == name
    assert isinstance(build_tokenizer_from_type("bpe", bpemodel=bpemodel), SentencepiecesTokenizer)


def test_wrong_token_types() -> None:
    with pytest.raises(ConfigError, match="Did you mean char"):
        build_tokenizer_from_type("chr")
    with pytest.raises(ConfigError, match="needs bpemodel"):
        build_tokenizer_from_type("bpe")
    with pytest.raises(ConfigError, match="seg_dict_file has no meaning with token_type word"):
        tokenizer_config("word", seg_dict_file="seg_dict")


def test_configuration_entries() -> None:
    name, conf = tokenizer_config("char", ["a", "<unk>"], split_with_space=True, seg_dict_file=Path("seg_dict"))
    assert name == "CharTokenizer"
    assert conf == {
        "token_list": ["a", "<unk>"],
        "unk_symbol": "<unk>",
        "split_with_space": True,
        "seg_dict_file": "seg_dict",
    }
    assert tokenizer_config("phn", g2p_type="g2p_en")[1]["g2p_type"] == "g2p_en"

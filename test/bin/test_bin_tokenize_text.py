"""tokenize_text, text2token and train_bpe: from a Kaldi text file to tokens and token lists a tokenizer can read."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from funasr.bin import text2token, tokenize_text, train_bpe
from funasr.bin.tokenize_text import insert_symbols, select_fields
from funasr.tokenizers.build import build_tokenizer_from_type
from funasr.tokenizers.token_list import read_token_list
from funasr.utils.errors import ConfigError


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text"
    path.write_text("u1 ab b\nu2 b <n>c\nu3\n", encoding="utf-8")
    return path


def vocabulary(text: Path, *options: str) -> list[str]:
    output = text.with_name("tokens.txt")
    command = ["--input", str(text), "--output", str(output), "-f", "2-", "--write_vocabulary", "true", *options]
    assert tokenize_text.main(command) == 0
    return read_token_list(output, unk_symbol=None)


def test_tokens_of_each_line(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert tokenize_text.main(["-i", str(text), "-f", "2-", "--token_type", "char"]) == 0
    assert capsys.readouterr().out == "a b <space> b\nb <space> < n > c\n\n"
    assert tokenize_text.main(["-i", str(text), "-f", "2-", "--token_type", "word"]) == 0
    assert capsys.readouterr().out == "ab b\nb <n>c\n\n"


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("你 好\n"))
    assert tokenize_text.main(["--space_symbol", "none"]) == 0
    assert capsys.readouterr().out == "你 好\n"


def test_symbols_and_cleaner(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nlsyms = text.with_name("nlsyms")
    nlsyms.write_text("<n>\n")
    base = ["-i", str(text), "-f", "2-", "--non_linguistic_symbols", str(nlsyms)]
    assert tokenize_text.main(base) == 0
    assert capsys.readouterr().out.splitlines()[1] == "b <space> <n> c"
    assert tokenize_text.main([*base, "--remove_non_linguistic_symbols", "true"]) == 0
    assert capsys.readouterr().out.splitlines()[1] == "b <space> c"
    assert tokenize_text.main(["-i", str(text), "-f", "2-", "--cleaner", "tacotron"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "A B <space> B"


def test_vocabulary_in_funasr_order(text: Path) -> None:
    tokens = vocabulary(text)
    assert tokens == ["<blank>", "<s>", "</s>", "b", "<space>", "<", ">", "a", "c", "n", "<unk>"]
    tokenizer = build_tokenizer_from_type("char", text.with_name("tokens.txt"))
    assert tokenizer.decode(tokenizer.encode("ab b")) == "ab b"


def test_vocabulary_with_symbols_of_ones_own(text: Path) -> None:
    add = ["--add_symbol", "<blank>:0", "--add_symbol", "<unk>:1", "--add_symbol", "<sos/eos>:-1"]
    tokens = vocabulary(text, *add)
    assert (tokens[:2], tokens[-1], len(tokens)) == (["<blank>", "<unk>"], "<sos/eos>", 10)


def test_vocabulary_cut_short(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert vocabulary(text, "--vocabulary_size", "6") == ["<blank>", "<s>", "</s>", "b", "<space>", "<unk>"]
    assert capsys.readouterr().err == "OOV rate = 50.0000 % (5 of 10 tokens)\n"
    assert vocabulary(text, "--cutoff", "2") == ["<blank>", "<s>", "</s>", "b", "<unk>"]


@pytest.mark.parametrize(
    ("field", "chosen"),
    [(None, " a  b c "), ("2-", "b c"), ("-2", "a  b"), ("2", "b"), ("1-2", "a  b"), ("4-", "")],
)
def test_fields(field: str | None, chosen: str) -> None:
    assert select_fields(" a  b c ", field) == chosen


@pytest.mark.parametrize("field", ["", "-", "0", "x", "3-2", "1,2"])
def test_wrong_fields(field: str) -> None:
    with pytest.raises(ConfigError, match="field"):
        select_fields("a b", field)


def test_symbols_at_their_places() -> None:
    assert insert_symbols(["a", "b"], ["<blank>:0", "b:1", "x:-2"]) == ["<blank>", "b", "x", "a"]
    for entry in ("x", "x:", ":1", "x:9", "x:-9"):
        with pytest.raises(ConfigError, match="add_symbol"):
            insert_symbols(["a"], [entry])
    with pytest.raises(ConfigError, match="twice"):
        insert_symbols(["a"], ["x:0", "x:1"])


@pytest.mark.parametrize(
    "options",
    [
        ["--token_type", "bpe"],
        ["--token_type", "word", "--seg_dict_file", "x"],
        ["-f", "x"],
        ["--write_vocabulary", "true", "--vocabulary_size", "3"],
        ["--write_vocabulary", "true", "--add_symbol", "x"],
        ["--non_linguistic_symbols", "no/such/file"],
        ["-i", "no/such/file"],
    ],
)
def test_wrong_options(text: Path, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    output = text.with_name("out")
    assert tokenize_text.main(["-i", str(text), "-o", str(output), *options]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not output.exists()


def test_empty_text_makes_no_vocabulary(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("u1\n")
    assert tokenize_text.main(["-i", str(tmp_path / "text"), "-f", "2-", "--write_vocabulary", "true"]) == 2


def test_text2token(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert text2token.main(["-n", "1", "-s", "1", str(text)]) == 0
    assert capsys.readouterr().out == "u1 a b <space> b\nu2 b <space> < n > c\nu3\n"
    nlsyms = text.with_name("nlsyms")
    nlsyms.write_text("<n>\n")
    assert text2token.main(["-n", "2", "-s", "1", "--space", "_", "-l", str(nlsyms), str(text)]) == 0
    assert capsys.readouterr().out == "u1 ab _b\nu2 b_ <n>c\nu3\n"
    assert text2token.main([str(text.with_name("none"))]) == 2


@pytest.fixture
def sentences(tmp_path: Path) -> Path:
    lines = ["the cat sat on the mat", "a cat and a rat", "the rat ran", "on a mat sat the cat"] * 3
    path = tmp_path / "sentences"
    path.write_text("".join(f"u{i} {line}\n" for i, line in enumerate(lines)))
    return path


@pytest.mark.parametrize("mode", ["unigram", "bpe"])
def test_train_bpe(sentences: Path, mode: str) -> None:
    prefix = sentences.parent / "bpe" / mode
    command = ["--input", str(sentences), "-f", "2-", "--model_prefix", str(prefix), "--nbpe", "22", "--bpemode", mode]
    assert train_bpe.main([*command, "--user_defined_symbols", "<n>"]) == 0
    assert {path.name for path in prefix.parent.iterdir()} == {f"{mode}.model", f"{mode}.vocab", "tokens.txt"}
    tokens = read_token_list(prefix.parent / "tokens.txt")
    assert tokens[:3] == ["<blank>", "<s>", "</s>"] and tokens[-1] == "<unk>"
    assert len(tokens) == 22 + 1 and "<n>" in tokens
    assert not any("u" in token for token in tokens[3:-1]), "the ids are no text"
    tokenizer = build_tokenizer_from_type("bpe", prefix.parent / "tokens.txt", f"{prefix}.model")
    assert tokenizer.decode(tokenizer.encode("the cat ran")) == "the cat ran"


def test_train_bpe_wrong_options(sentences: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prefix = tmp_path / "out" / "bpe"
    command = ["--model_prefix", str(prefix), "--input"]
    assert train_bpe.main([*command, str(sentences), "--nbpe", "5000"]) == 2
    assert "could not train 5000" in capsys.readouterr().err
    assert list(prefix.parent.iterdir()) == []
    (tmp_path / "empty").write_text("u1\n")
    assert train_bpe.main([*command, str(tmp_path / "empty"), "-f", "2-"]) == 2
    assert train_bpe.main([*command, str(tmp_path / "none")]) == 2

"""Token lists round-trip exactly, whatever the tokens look like, and every fault is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from funasr.tokenizers.token_list import read_token_list, with_default_symbols, write_token_list
from funasr.utils.errors import ConfigError, DataError


@pytest.mark.parametrize("name", ["tokens.txt", "tokens.json"])
def test_round_trip_keeps_tokens_that_look_like_space(tmp_path: Path, name: str) -> None:
    tokens = ["<blank>", " ", "\u3000", "\x85", "\u2028", "a ", "<unk>"]
    write_token_list(tmp_path / name, tokens)
    assert read_token_list(tmp_path / name) == tokens
    assert read_token_list(str(tmp_path / name)) == tokens


def test_windows_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "tokens.txt"
    path.write_bytes(b"\xef\xbb\xbfa\r\n<unk>\r\n")
    assert read_token_list(path) == ["a", "<unk>"]


def test_default_order() -> None:
    assert with_default_symbols(["b", "<unk>", "a"]) == ["<blank>", "<s>", "</s>", "b", "a", "<unk>"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\nb\na\n<unk>\n", "token 'a' is on line 1 and on line 3"),
        (b"a\n\n<unk>\n", "line 2 is empty"),
        (b"a\nb\n", "'<unk>' is missing"),
        (b"", "holds no token"),
        (b"a\n\xff\n", "tokens.txt:2: not UTF-8"),
    ],
)
def test_wrong_text_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "tokens.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_token_list(path)


@pytest.mark.parametrize("content", ["{", '{"a": 1}', '["a", 1]', '["a", "a", "<unk>"]'])
def test_wrong_json_files(tmp_path: Path, content: str) -> None:
    path = tmp_path / "tokens.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"tokens\.json"):
        read_token_list(path)


def test_wrong_lists(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_token_list(tmp_path / "none.txt")
    with pytest.raises(ConfigError, match=r"entry 1 \(3\) is not a string"):
        read_token_list(["a", 3, "<unk>"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="entry 0 and on entry 1"):
        read_token_list(["a", "a", "<unk>"])
    with pytest.raises(ConfigError, match="line break"):
        write_token_list(tmp_path / "tokens.txt", ["a\nb"])
    assert not (tmp_path / "tokens.txt").exists()


def test_unknown_symbol_of_ones_own() -> None:
    assert read_token_list(["a", "?"], unk_symbol="?") == ["a", "?"]
    assert read_token_list(["a"], unk_symbol=None) == ["a"]

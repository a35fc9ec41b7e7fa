"""Token lists: one token per line of `tokens.txt` (line number = id, from 0), or a JSON list in `tokens.json`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from funasr.utils.data_dir import read_lines
from funasr.utils.errors import ConfigError, DataError
from funasr.utils.io import write_text

BLANK, SOS, EOS, UNK, SPACE = "<blank>", "<s>", "</s>", "<unk>", "<space>"


def with_default_symbols(tokens: Iterable[str]) -> list[str]:
    """Tokens in FunASR order: `<blank>`, `<s>`, `</s>`, the tokens as given (without these symbols), `<unk>`."""
    symbols = (BLANK, SOS, EOS, UNK)
    return [BLANK, SOS, EOS, *(token for token in tokens if token not in symbols), UNK]


def read_token_list(token_list: str | Path | Sequence[str], unk_symbol: str | None = UNK) -> list[str]:
    """The tokens of a list, a `.json` file or a text file, checked.

    Of a line only the newline is removed, so a token may be a space or look like one.  Raises ConfigError if the file
    does not exist or an inline list is wrong, DataError (with file and line) if the file is wrong: an empty or a
    duplicate token, JSON that is no list of strings, no `unk_symbol` (None: none is needed).
    """
    if isinstance(token_list, (str, Path)):
        path = Path(token_list)
        if not path.is_file():
            raise ConfigError(f"token_list {path} does not exist or is not a file")
        if path.suffix == ".json":
            tokens = _read_json(path)
            where = [f"entry {index}" for index in range(len(tokens))]
        else:
            tokens = [line for _, line in read_lines(path)]
            where = [f"line {index + 1}" for index in range(len(tokens))]
        _check(tokens, where, str(path), unk_symbol, DataError)
    else:
        tokens = list(token_list)
        for index, token in enumerate(tokens):
            if not isinstance(token, str):
                raise ConfigError(f"token_list: entry {index} ({token!r}) is not a string; quote it")
        _check(tokens, [f"entry {i}" for i in range(len(tokens))], "token_list", unk_symbol, ConfigError)
    return tokens


def write_token_list(path: str | Path, tokens: Sequence[str]) -> None:
    """Write `tokens.txt`, or a JSON list if the name ends in `.json`.

    Raises ConfigError for a duplicate or empty token and for one with a line break in a text file.
    """
    tokens = list(tokens)
    _check(tokens, [f"entry {i}" for i in range(len(tokens))], f"token list for {path}", None, ConfigError)
    if Path(path).suffix == ".json":
        write_text(path, json.dumps(tokens, ensure_ascii=False, indent=0) + "\n")
        return
    for index, token in enumerate(tokens):
        if token.strip("\r\n") != token or "\n" in token:
            raise ConfigError(f"token list for {path}: entry {index} ({token!r}) holds a line break; use a .json file")
    write_text(path, "".join(token + "\n" for token in tokens))


def _read_json(path: Path) -> list[str]:
    try:
        tokens = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is not UTF-8 JSON: {error}") from None
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise DataError(f"{path} must hold a JSON list of strings, one per token")
    return tokens


def _check(
    tokens: Sequence[str], where: Sequence[str], name: str, unk_symbol: str | None, error: type[ValueError]
) -> None:
    if not tokens:
        raise error(f"{name} holds no token")
    seen: dict[str, int] = {}
    for index, token in enumerate(tokens):
        if not token:
            raise error(f"{name}: {where[index]} is empty; each must hold one token")
        if token in seen:
            raise error(
                f"{name}: token '{token}' is on {where[seen[token]]} and on {where[index]}; tokens must be unique"
            )
        seen[token] = index
    if unk_symbol is not None and unk_symbol not in seen:
        raise error(f"{name}: the unknown symbol '{unk_symbol}' is missing; add it or set unk_symbol")

"""A tokenizer from the options of the command line and of 0.x `config.yaml` (`token_type: char`, ...)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from funasr.register import nearest_names, tables
from funasr.tokenizers.abs_tokenizer import AbsTokenizer, TokenListSource
from funasr.tokenizers.token_list import SPACE, UNK
from funasr.utils.config import constructor_defaults
from funasr.utils.errors import ConfigError

TOKEN_TYPES = ("char", "word", "bpe", "phn")


def tokenizer_config(
    token_type: str,
    token_list: TokenListSource | None = None,
    bpemodel: str | Path | None = None,
    *,
    unk_symbol: str = UNK,
    space_symbol: str | None = SPACE,
    non_linguistic_symbols: TokenListSource | None = None,
    remove_non_linguistic_symbols: bool = False,
    split_with_space: bool = False,
    seg_dict_file: str | Path | None = None,
    delimiter: str | None = None,
    g2p_type: str | None = None,
) -> tuple[str, dict[str, Any]]:
    """(class name, its options) for a `token_type`: the entries `tokenizer` and `tokenizer_conf` of config.yaml.

    An option that the class does not take is left out if it says nothing (its default) and is a ConfigError otherwise,
    except `split_with_space` and `space_symbol`, which a command line gives whatever the token type is.  The values
    are as given (paths are not read).
    """
    if token_type not in TOKEN_TYPES:
        near = nearest_names(token_type, list(TOKEN_TYPES))
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"unknown token_type '{token_type}'.{hint} Known: {', '.join(TOKEN_TYPES)}.")
    given: dict[str, tuple[Any, Any]] = {
        "token_list": (token_list, None),
        "bpemodel": (bpemodel, None),
        "unk_symbol": (unk_symbol, UNK),
        "space_symbol": (space_symbol, SPACE),
        "non_linguistic_symbols": (non_linguistic_symbols, None),
        "remove_non_linguistic_symbols": (remove_non_linguistic_symbols, False),
        "split_with_space": (split_with_space, False),
        "seg_dict_file": (seg_dict_file, None),
        "delimiter": (delimiter, None),
        "g2p_type": (g2p_type, None),
    }
    cls = tables.tokenizer_classes[token_type]
    taken = constructor_defaults(cls)
    conf: dict[str, Any] = {}
    for name, (value, default) in given.items():
        if value == default and name != "unk_symbol":
            continue
        if name in taken:
            conf[name] = str(value) if isinstance(value, Path) else value
        elif name not in ("split_with_space", "space_symbol"):
            raise ConfigError(f"{name} has no meaning with token_type {token_type} ({cls.__name__})")
    if "bpemodel" in taken and bpemodel is None:
        raise ConfigError("token_type bpe needs bpemodel, the path of a sentencepiece .model file")
    return tables.tokenizer_classes.entry(token_type).key, conf


def build_tokenizer_from_type(
    token_type: str,
    token_list: TokenListSource | None = None,
    bpemodel: str | Path | None = None,
    **options: Any,
) -> AbsTokenizer:
    """The tokenizer that `tokenizer_config` describes, which see for `options`.

    Raises ConfigError or DataError for what is wrong with an option or the file it names.
    """
    name, conf = tokenizer_config(token_type, token_list, bpemodel, **options)
    build: Callable[..., AbsTokenizer] = tables.tokenizer_classes[name]
    return build(**conf)

"""The tokenizer of a language model, from a folder in the layout of the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from funasr.register import tables
from funasr.tokenizers.abs_tokenizer import AbsTokenizer
from funasr.utils.errors import ConfigError, DataError


@tables.register("tokenizer_classes", "HuggingfaceTokenizer")
class HuggingfaceTokenizer(AbsTokenizer):
    """What `transformers.AutoTokenizer` makes of `init_param_path`.

    Has all that the tokenizer of transformers has (`eos_token_id`, `apply_chat_template`, `batch_decode`, ...; `encode`
    and `decode` with its options), so that the code of a model that was written for it runs.

    Args:
        init_param_path: a folder with `tokenizer.json`, or the older files, and `tokenizer_config.json`.  Nothing is
            fetched, and Python code in the folder is not run.

    Raises:
        ConfigError: there is no such folder, or it holds no tokenizer that transformers knows.
        ImportError: transformers is not installed; names the extra.
    """

    def __init__(self, init_param_path: str | Path) -> None:
        super().__init__(None)
        self.init_param_path = str(init_param_path)
        self.inner = _load(Path(init_param_path))

    @cached_property
    def _strings(self) -> list[str]:
        vocabulary: dict[str, int] = self.inner.get_vocab()
        strings = [f"<unused {index}>" for index in range(max(vocabulary.values(), default=-1) + 1)]
        for token, index in vocabulary.items():
            strings[index] = token
        return strings

    @property
    def token_list(self) -> list[str]:
        return self._strings

    def text2tokens(self, text: str) -> list[str]:
        """The tokens of a text."""
        return list(self.inner.tokenize(text))

    def tokens2text(self, tokens: Sequence[str]) -> str:
        """The text of a token sequence."""
        return str(self.inner.convert_tokens_to_string(list(tokens)))

    def tokens2ids(self, tokens: Iterable[str]) -> list[int]:
        """Ids of tokens; unknown ones get that of the unknown token.  DataError if the tokenizer has none."""
        tokens = list(tokens)
        ids = self.inner.convert_tokens_to_ids(tokens)
        missing = [token for token, index in zip(tokens, ids, strict=True) if index is None]
        if missing:
            raise DataError(f"'{missing[0]}' is no token of {self.init_param_path}")
        return list(ids)

    def encode(self, text: str, **options: Any) -> list[int]:
        """Ids of a text; options are those of transformers (`add_special_tokens`, ...)."""
        return list(self.inner.encode(text, **options))

    def decode(self, ids: Iterable[int], **options: Any) -> str:
        """Text of ids; options are those of transformers (`skip_special_tokens`, ...)."""
        return str(self.inner.decode([int(index) for index in ids], **options))

    def __call__(self, *args: Any, **options: Any) -> Any:
        """As the tokenizer of transformers."""
        return self.inner(*args, **options)

    def __len__(self) -> int:
        return len(self.inner)

    def __getattr__(self, name: str) -> Any:
        if name == "inner" or name.startswith("__"):  # while it is being unpickled
            raise AttributeError(name)
        return getattr(self.inner, name)


def _load(folder: Path) -> Any:
    if not folder.is_dir():
        raise ConfigError(f"HuggingfaceTokenizer: init_param_path {folder} is not a folder; it must hold a tokenizer")
    try:
        from transformers import AutoTokenizer
    except ImportError:
        raise ImportError(f"for the tokenizer in {folder}: pip install 'funasr[llm]'") from None
    load: Callable[..., Any] = AutoTokenizer.from_pretrained
    try:
        return load(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers has many kinds; the cause is chained
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ConfigError(f"{folder} holds no tokenizer that can be used: {reason}") from error

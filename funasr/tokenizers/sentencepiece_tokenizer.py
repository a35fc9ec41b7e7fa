"""Sub-words of a sentencepiece model (Kudo and Richardson, "SentencePiece", EMNLP 2018)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from funasr.register import tables
from funasr.tokenizers.abs_tokenizer import AbsTokenizer, TokenListSource
from funasr.tokenizers.token_list import BLANK, EOS, SOS, UNK
from funasr.utils.errors import ConfigError


@tables.register("tokenizer_classes", "SentencepiecesTokenizer", aliases=("bpe",))
class SentencepiecesTokenizer(AbsTokenizer):
    """Pieces of the sentencepiece model file `bpemodel`.

    With a `token_list` a piece's id is its place there (`<blank>` 0, ...), as models trained here want it; without
    one it is the id in the sentencepiece model, as SenseVoice and other released models want it, and `unk_symbol` has
    no say.  `split_with_space` stands in released configurations and is accepted, but sentencepiece treats spaces
    itself.

    The model is loaded at the first use and never pickled, so the tokenizer can travel to worker processes.
    """

    def __init__(
        self,
        bpemodel: str | Path | None = None,
        token_list: TokenListSource | None = None,
        unk_symbol: str = UNK,
        split_with_space: bool = False,
    ) -> None:
        super().__init__(token_list, unk_symbol)
        if bpemodel is None:
            raise ConfigError("SentencepiecesTokenizer needs bpemodel, the path of a sentencepiece .model file")
        if not Path(bpemodel).is_file():
            raise ConfigError(f"bpemodel {bpemodel} does not exist or is not a file")
        self.bpemodel = str(bpemodel)

    @cached_property
    def processor(self) -> Any:
        """The `sentencepiece.SentencePieceProcessor`.  Raises ConfigError if the file is no such model."""
        import sentencepiece

        processor = sentencepiece.SentencePieceProcessor()
        try:
            processor.Load(self.bpemodel)
        except (OSError, RuntimeError) as error:
            raise ConfigError(f"bpemodel {self.bpemodel} is not a sentencepiece model: {error}") from None
        return processor

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("processor", "model_tokens")}

    @cached_property
    def model_tokens(self) -> list[str]:
        """The pieces of the sentencepiece model, by its own ids."""
        return [self.processor.IdToPiece(index) for index in range(self.processor.GetPieceSize())]

    @property
    def token_list(self) -> list[str]:
        return self.model_tokens if self._tokens is None else self._tokens

    def text2tokens(self, text: str) -> list[str]:
        return self.processor.EncodeAsPieces(text)

    def tokens2ids(self, tokens: Iterable[str]) -> list[int]:
        if self._tokens is None:
            return [self.processor.PieceToId(token) for token in tokens]
        return super().tokens2ids(tokens)

    def tokens2text(self, tokens: Sequence[str]) -> str:
        """The text; `<blank>`, `<s>`, `</s>` and the unknown symbol are left out."""
        dropped = (BLANK, SOS, EOS, self.unk_symbol)
        return self.processor.DecodePieces([token for token in tokens if token not in dropped])

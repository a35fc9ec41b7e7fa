"""CT-Transformer for text that is still growing: what was said last is looked at again when more comes."""

from __future__ import annotations

import time
from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor

from funasr.models.abs_model import Result, Stats
from funasr.models.ct_transformer.model import CTTransformer, checked_texts, text_keys
from funasr.models.ct_transformer.windows import LONG_TOKENS, LONGEST_TOKENS, last_sentence_end
from funasr.models.ct_transformer.writer import is_ascii
from funasr.register import tables
from funasr.text.sentences import split_tokens
from funasr.utils.signature import extends

Cache = MutableMapping[str, Any]
"""State of one session, held by the caller, {} at first; `pre_text` are the tokens of the open sentence."""


@tables.register("model_classes", "CTTransformerStreaming", aliases=("vad_realtime",))
class CTTransformerStreaming(CTTransformer):
    """CTTransformer whose encoder (SANMVadEncoder) knows where the last pause was; options as there.

    Texts are always cut into characters.
    """

    @extends(CTTransformer.__init__, without=("jieba_usr_dict",))
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)

    def encode(self, text: Tensor, text_lengths: Tensor, vad_indexes: Tensor | None = None) -> Tensor:
        """As CTTransformer; `vad_indexes` (batch,): first token after a pause, 0 if there is none."""
        hidden, _, _ = self.encoder(self.embed(text), text_lengths, vad_indexes)
        return hidden

    def logits(self, text: Tensor, text_lengths: Tensor, vad_indexes: Tensor | None = None) -> Tensor:
        """Scores (batch, tokens, marks); `vad_indexes`: see `encode`."""
        return self.decoder(self.dropout(self.encode(text, text_lengths, vad_indexes)))

    def forward(  # type: ignore[override]
        self,
        text: Tensor,
        text_lengths: Tensor,
        punc: Tensor,
        punc_lengths: Tensor,
        whole: Tensor | None = None,
        whole_lengths: Tensor | None = None,
        vad: Tensor | None = None,
        vad_lengths: Tensor | None = None,
    ) -> tuple[Tensor, Stats, Tensor]:
        """As CTTransformer; `vad` (batch,) or (batch, 1): first token after a pause.  `vad_lengths` is not needed."""
        pauses = None if vad is None else vad.reshape(text.size(0))
        text = self._readable(text, text_lengths)
        return self._loss(self.encode(text, text_lengths, pauses), text, punc, punc_lengths, whole)

    @torch.no_grad()
    def inference(  # type: ignore[override]
        self,
        data_in: Sequence[str],
        data_lengths: Tensor | None = None,
        key: Sequence[str] | None = None,
        tokenizer: Any = None,
        frontend: Any = None,
        *,
        cache: Cache | None = None,
        split_size: int = 20,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Punctuate pieces of text.

        Args:
            data_in: with `cache` the next pieces of one session, in order; without it independent texts.
            cache: the session's state, {} at first, changed in place.
            split_size: see CTTransformer.

        Returns:
            `key`, `text` and `punc_array` of each piece.  `text` begins with the mark that belongs behind the piece
            before, if any, and does not end with a mark, which only the next piece can decide.  `punc_array` is an
            int64 tensor of mark ids, one for each token of the piece, the last one provisional; None for an empty
            piece, which changes nothing.
        """
        texts = checked_texts(data_in)
        keys = text_keys(key, len(texts))
        started = time.perf_counter()
        if cache is None:
            found = self._push(texts, [{} for _ in texts], tokenizer, split_size)
        else:
            found = [result for text in texts for result in self._push([text], [cache], tokenizer, split_size)]
        results = [{"key": name, **result} for name, result in zip(keys, found)]
        return results, {"decode": time.perf_counter() - started}

    def _push(self, texts: Sequence[str], caches: Sequence[Cache], tokenizer: Any, split_size: int) -> list[Result]:
        """The next piece of each of several sessions."""
        pieces = [split_tokens(text) for text in texts]
        opened = [[token.strip() for token in cache.get("pre_text", ())] for cache in caches]
        joined = [old + new if new else [] for old, new in zip(opened, pieces)]
        found = self._punctuate(joined, tokenizer, split_size, pauses=[len(old) for old in opened])
        results: list[Result] = []
        for tokens, old, cache, blocks in zip(joined, opened, caches, found):
            if not tokens:
                results.append({"text": "", "punc_array": None})
                continue
            marks = [mark for block in blocks for mark in block.marks]
            spaced = _with_spaces(tokens)
            results.append(
                {"text": self._write(spaced, marks, len(old)), "punc_array": torch.tensor(marks[len(old) :])}
            )
            cache["pre_text"] = self._open_sentence(spaced, marks)
        return results

    def _write(self, spaced: Sequence[str], marks: Sequence[int], first: int) -> str:
        """The tokens from `first` on with the marks before and between them."""
        parts = [self.marks.written(marks[first - 1])] if first else []
        for token, mark in zip(spaced[first:], marks[first:]):
            parts += [token, self.marks.written(mark)]
        return "".join(parts[:-1])

    def _open_sentence(self, spaced: list[str], marks: Sequence[int]) -> list[str]:
        """What the next piece will be looked at together with; a sentence without end is cut off at its beginning."""
        end = last_sentence_end(marks, self.marks)
        opened = spaced if end is None else spaced[end + 1 :]
        return opened[-LONG_TOKENS:] if len(opened) > LONGEST_TOKENS else opened


def _with_spaces(tokens: Sequence[str]) -> list[str]:
    """Tokens with a space before each ASCII word that follows another."""
    before = ["", *tokens]
    return [
        f" {token}" if previous and is_ascii(token[0]) and is_ascii(previous[-1]) else token
        for previous, token in zip(before, tokens)
    ]

"""Words and marks of a punctuation corpus -> ids, cut into tokens as the model cuts a text in use."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from funasr.datasets.punc_list import full_width
from funasr.datasets.rng import keyed_generator
from funasr.models.ct_transformer.marks import NOTHING
from funasr.models.ct_transformer.tokens import tokenize_words, word_cutter
from funasr.register import tables
from funasr.tokenizers.abs_tokenizer import AbsTokenizer
from funasr.utils.errors import ConfigError, DamagedUtteranceError


@tables.register("preprocessor_classes", "PuncPreprocessor", aliases=("punc",))
class PuncPreprocessor:
    """`(id, {text, punc}) -> {text, punc}` as int64 ids, one mark for each token; perhaps `whole` and `vad`.

    `text` holds words with spaces between them, `punc` a mark for each word (`_` for none).  A word of several tokens
    has its mark behind the last one.

    Args:
        train: draw anew for each epoch; False: no unknown words, and always the same pauses.
        tokenizer: numbers the tokens.
        punc_list: the marks by id.
        jieba_usr_dict: cut Chinese into words by jieba with this dictionary; None: into characters.
        unk_prob: how often a token is taken for an unknown one, so that the model does not rely on every word; the
            ids before that are `whole`.
        pauses: draw where a pause was, for models that read `vad`: the first token after it, 0 if there was none.
        pause_prob: how often there is one.
        seed: of what is drawn, which depends on (seed, epoch, id) only.
    """

    def __init__(
        self,
        train: bool,
        tokenizer: AbsTokenizer,
        punc_list: Sequence[str],
        jieba_usr_dict: str | None = None,
        unk_prob: float = 0.0,
        pauses: bool = False,
        pause_prob: float = 0.5,
        seed: int = 0,
    ) -> None:
        for name, value in (("unk_prob", unk_prob), ("pause_prob", pause_prob)):
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must be between 0 and 1, not {value}")
        self.train = train
        self.tokenizer = tokenizer
        self.mark_ids = {full_width(mark): index for index, mark in enumerate(punc_list)}
        self.jieba_usr_dict = jieba_usr_dict
        self.unk_prob = unk_prob if train else 0.0
        self.pauses = pauses
        self.pause_prob = pause_prob
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Draw anew for this epoch."""
        if self.train:
            self.epoch = epoch

    def __call__(self, uid: str, values: dict[str, Any]) -> dict[str, Any]:
        values = dict(values)
        text, punc = values.get("text"), values.get("punc")
        if not isinstance(text, str) or not isinstance(punc, str):
            return values
        words, marks = text.split(), [full_width(mark) for mark in punc.split()]
        if not words:
            raise DamagedUtteranceError("the text is empty")
        if len(words) != len(marks):
            raise DamagedUtteranceError(f"{len(words)} words but {len(marks)} marks; `punc` has one for each word")
        unknown = sorted(set(marks) - self.mark_ids.keys())
        if unknown:
            known = " ".join(self.mark_ids)
            raise DamagedUtteranceError(f"mark '{unknown[0]}' is not in punc_list ({known})")
        cut = None if self.jieba_usr_dict is None else word_cutter(self.jieba_usr_dict)
        tokens, owners = tokenize_words(words, cut)
        ids = np.array(self.tokenizer.tokens2ids(tokens), dtype=np.int64)
        rng = keyed_generator(self.seed, self.epoch, uid)
        if self.unk_prob:
            values["whole"] = ids.copy()
            ids[rng.random(len(ids)) < self.unk_prob] = self.tokenizer.token_ids[self.tokenizer.unk_symbol]
        values["text"] = ids
        values["punc"] = np.array([self.mark_ids[mark] for mark in token_marks(marks, owners)], dtype=np.int64)
        if self.pauses and "vad" not in values:
            paused = len(ids) > 1 and rng.random() < self.pause_prob
            values["vad"] = np.array([rng.integers(1, len(ids)) if paused else 0], dtype=np.int64)
        return values


def token_marks(marks: Sequence[str], owners: Sequence[int]) -> list[str]:
    """The mark behind each token, from the marks behind words.

    Args:
        owners: for each token the position of the word in which it ends (`tokenize_words`).  Of several tokens in one
            word the last has its mark; a token over several words has the last mark found in them.
    """
    found: list[str] = []
    begin = 0
    for position, owner in enumerate(owners):
        if position + 1 < len(owners) and owners[position + 1] == owner:
            found.append(NOTHING)
            continue
        inside = [mark for mark in marks[begin : owner + 1] if mark != NOTHING]
        found.append(inside[-1] if inside else NOTHING)
        begin = owner + 1
    return found

"""CT-Transformer for whole texts: one mark, or none, after each token."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.layers.mask import length_mask
from funasr.models.abs_model import FunASRModel, Result, Stats
from funasr.models.ct_transformer.marks import Marks
from funasr.models.ct_transformer.tokens import Cutter, spread_over_characters, tokenize_words, word_cutter
from funasr.models.ct_transformer.windows import Block, Window, walk_texts
from funasr.models.ct_transformer.writer import close_last, write_text
from funasr.register import tables
from funasr.utils.errors import ConfigError

PADDED_TOKENS_AT_ONCE = 8192  # bounds the memory of one pass through the model
BUSY_TOKENS = 256  # keep matrix products busy: from here on a larger batch gains less than its padding costs
PADDING_SHARE = 0.4  # which is paid by attention alone: linear layers leave padding out
LENGTH_STEP = 4  # fewer different shapes: matrix libraries prepare for each at its first use


@tables.register("model_classes", "CTTransformer", aliases=("target_delay", "punc"))
class CTTransformer(FunASRModel):
    """Embedding, encoder and a classifier over marks (Chen et al., 2020, see SANMVadEncoder).

    Args:
        encoder: built part.
        vocab_size: number of tokens.
        punc_list: the marks by id, `_` for none.
        punc_weight: weight of each mark in the loss (default: 1 each).
        embed_unit: width of the token embeddings, which is the encoder's input size.
        att_unit: width of the encoder output.
        dropout_rate: on the encoder output, while training.
        ignore_id: label that is no target.
        sentence_end_id: the mark that closes a text.
        jieba_usr_dict: file of words (one per line); with it Chinese is cut into words by jieba, not into characters.
        guess_weight: in training, weight of a second loss: to guess the words that were taken for unknown ones, by
            their likeness to the embeddings (which asks for att_unit = embed_unit).  It teaches what words have in
            common when there is little text to learn from.
    """

    input_kind = "text"
    punc_weight: Tensor | None

    def __init__(
        self,
        encoder: nn.Module,
        vocab_size: int,
        punc_list: Sequence[str],
        punc_weight: Sequence[float] | None = None,
        embed_unit: int = 128,
        att_unit: int = 256,
        dropout_rate: float = 0.5,
        ignore_id: int = -1,
        sentence_end_id: int = 3,
        jieba_usr_dict: str | None = None,
        guess_weight: float = 0.0,
    ) -> None:
        super().__init__()
        if guess_weight and att_unit != embed_unit:
            raise ConfigError(f"guess_weight needs att_unit ({att_unit}) equal to embed_unit ({embed_unit})")
        if punc_weight is not None and len(punc_weight) != len(punc_list):
            raise ConfigError(f"punc_weight has {len(punc_weight)} values for {len(punc_list)} marks of punc_list")
        if jieba_usr_dict is not None and not Path(jieba_usr_dict).is_file():
            raise ConfigError(f"jieba_usr_dict {jieba_usr_dict} does not exist or is not a file")
        self.embed = nn.Embedding(vocab_size, embed_unit)
        # The encoder scales by sqrt(embed_unit): larger embeddings would drown what the first blocks add to them.
        nn.init.normal_(self.embed.weight, std=embed_unit**-0.5)
        self.encoder = encoder
        self.decoder = nn.Linear(att_unit, len(punc_list))
        self.dropout = nn.Dropout(dropout_rate)
        self.marks = Marks(punc_list, sentence_end_id)
        self.ignore_id = ignore_id
        self.jieba_usr_dict = jieba_usr_dict
        self.guess_weight = guess_weight
        self.register_buffer(
            "punc_weight", None if punc_weight is None else torch.tensor(punc_weight), persistent=False
        )

    @property
    def punc_list(self) -> tuple[str, ...]:
        """The marks by id, full-width."""
        return self.marks.symbols

    def encode(self, text: Tensor, text_lengths: Tensor) -> Tensor:
        """Encoder output (batch, tokens, att_unit) of token ids (batch, tokens); text_lengths: (batch,)."""
        hidden, _, _ = self.encoder(self.embed(text), text_lengths, isolate=True)
        return hidden

    def logits(self, text: Tensor, text_lengths: Tensor) -> Tensor:
        """Scores (batch, tokens, marks) of token ids (batch, tokens); text_lengths: (batch,)."""
        return self.decoder(self.dropout(self.encode(text, text_lengths)))

    def forward(  # type: ignore[override]
        self,
        text: Tensor,
        text_lengths: Tensor,
        punc: Tensor,
        punc_lengths: Tensor,
        whole: Tensor | None = None,
        whole_lengths: Tensor | None = None,
    ) -> tuple[Tensor, Stats, Tensor]:
        """Cross entropy per labelled token.

        Args:
            text: token ids (batch, tokens); text_lengths: (batch,).
            punc: mark id after each token (batch, tokens); punc_lengths: (batch,), equal to text_lengths.
            whole: for `guess_weight`, `text` before some of it was taken for unknown; its lengths are not needed.

        Returns:
            loss, stats (`loss`, `acc` over the labelled tokens, `f1` of all marks in this batch), number of labelled
            tokens.
        """
        text = self._readable(text, text_lengths)
        return self._loss(self.encode(text, text_lengths), text, punc, punc_lengths, whole)

    @staticmethod
    def _readable(text: Tensor, lengths: Tensor) -> Tensor:
        """Token ids with padding of any value replaced by one that the embedding takes."""
        return text.masked_fill(~length_mask(lengths, text.size(1)), 0)

    def _loss(
        self, hidden: Tensor, text: Tensor, punc: Tensor, lengths: Tensor, whole: Tensor | None
    ) -> tuple[Tensor, Stats, Tensor]:
        logits = self.decoder(self.dropout(hidden))
        valid = length_mask(lengths, punc.size(1))
        labels = punc.masked_fill(~valid, self.ignore_id)
        labelled = labels != self.ignore_id
        total = F.cross_entropy(
            logits.float().transpose(1, 2), labels, self.punc_weight, ignore_index=self.ignore_id, reduction="sum"
        )
        count = labelled.sum()
        loss = total / count.clamp(min=1)
        found = logits.detach().argmax(dim=-1)
        correct = (found == labels) & labelled
        written = labelled & (labels != self.marks.nothing)
        put = labelled & (found != self.marks.nothing)
        f1 = 2 * (correct & written).sum() / (written.sum() + put.sum()).clamp(min=1)
        stats: Stats = {"loss": loss.detach(), "acc": correct.sum() / count.clamp(min=1), "f1": f1}
        if self.guess_weight and whole is not None:
            guess = self._guess_loss(hidden, whole, valid & (text != whole))
            loss = loss + self.guess_weight * guess
            stats |= {"loss": loss.detach(), "loss_guess": guess.detach()}
        return loss, stats, count

    def _guess_loss(self, hidden: Tensor, whole: Tensor, taken: Tensor) -> Tensor:
        """Cross entropy per token of guessing those `taken` (batch, tokens) out of the text."""
        scores = F.linear(self.dropout(hidden[taken]), self.embed.weight).float()
        return F.cross_entropy(scores, whole[taken], reduction="sum") / taken.sum().clamp(min=1)

    def collect_feats(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        """Nothing: a text has no features, and the statistics pass only counts its tokens."""
        return {}

    @torch.no_grad()
    def inference(  # type: ignore[override]
        self,
        data_in: Sequence[str],
        data_lengths: Tensor | None = None,
        key: Sequence[str] | None = None,
        tokenizer: Any = None,
        frontend: Any = None,
        *,
        split_size: int = 20,
    ) -> tuple[list[Result], dict[str, Any]]:
        """Punctuate texts, each as if it were alone.

        Args:
            data_in: texts, with spaces between English words.  `data_lengths` and `frontend` are of no use to a text.
            tokenizer: numbers the tokens (`tokens2ids`).
            split_size: how many tokens the model reads on at a time, at least 2; other sizes give other marks.

        Returns:
            `key`, `text` and `punc_array` of each: an int64 tensor of mark ids, one per Chinese character and other
            token; an empty text has None.  TypeError for an input that is not a text.
        """
        texts = checked_texts(data_in)
        keys = text_keys(key, len(texts))
        started = time.perf_counter()
        cut = self._cutter()
        token_lists = [tokenize_words(text.split(), cut)[0] for text in texts]
        results: list[Result] = []
        for name, tokens, blocks in zip(keys, token_lists, self._punctuate(token_lists, tokenizer, split_size)):
            if not tokens:
                results.append({"key": name, "text": "", "punc_array": None})
                continue
            found = [mark for block in blocks for mark in block.marks]
            written, found = write_text(tokens, found, {block.begin for block in blocks}, self.marks)
            if cut is not None:
                found = spread_over_characters(tokens, found, self.marks.nothing)
            results.append({"key": name, "text": written, "punc_array": torch.tensor(found)})
        return results, {"decode": time.perf_counter() - started}

    @torch.no_grad()
    def mark_words(self, texts: Sequence[Sequence[str]], tokenizer: Any, *, split_size: int = 20) -> list[list[int]]:
        """One mark id (see `punc_list`) for each word of each text; the words stay as they are.

        The last word of a text always closes a sentence.  A word of several tokens has the last mark found in it.
        """
        cut = self._cutter()
        tokenized = [tokenize_words(words, cut) for words in texts]
        found = self._punctuate([tokens for tokens, _ in tokenized], tokenizer, split_size)
        marked = []
        for words, (tokens, owners), blocks in zip(texts, tokenized, found):
            of_words = [self.marks.nothing] * len(words)
            for owner, mark in zip(owners, (mark for block in blocks for mark in block.marks)):
                if self.marks.is_mark(mark):
                    of_words[owner] = mark
            if tokens:
                last = owners[-1]
                of_words[last] = close_last(tokens[-1], of_words[last], self.marks)
            marked.append(of_words)
        return marked

    def _cutter(self) -> Cutter | None:
        return None if self.jieba_usr_dict is None else word_cutter(str(self.jieba_usr_dict))

    def _punctuate(
        self,
        token_lists: Sequence[Sequence[str]],
        tokenizer: Any,
        split_size: int,
        pauses: Sequence[int] | None = None,
    ) -> list[list[Block]]:
        """Final marks of token lists; `pauses`: the vad index of each, if the encoder takes one."""
        if tokenizer is None:
            raise ConfigError("a punctuation model needs a tokenizer with its token list")
        ids = [torch.tensor(tokenizer.tokens2ids(tokens), dtype=torch.long) for tokens in token_lists]

        def evaluate(windows: Sequence[Window]) -> list[list[int]]:
            found: list[list[int]] = [[] for _ in windows]
            for rows in _batches([window.end - window.begin for window in windows]):
                pieces = [ids[windows[row].text][windows[row].begin : windows[row].end] for row in rows]
                batch = nn.utils.rnn.pad_sequence(pieces, batch_first=True)
                batch = F.pad(batch, (0, -batch.size(1) % LENGTH_STEP)).to(self.device)
                lengths = torch.tensor([len(piece) for piece in pieces], device=self.device)
                pause = () if pauses is None else (torch.tensor([pauses[windows[row].text] for row in rows]),)
                best = self.logits(batch, lengths, *pause).argmax(dim=-1).tolist()
                for row, piece, marks in zip(rows, pieces, best):
                    found[row] = marks[: len(piece)]
            return found

        return walk_texts([len(tokens) for tokens in token_lists], evaluate, self.marks, split_size)


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions of `lengths` in groups of similar length, large enough to be worth a pass and bounded in size."""
    group: list[int] = []
    tokens = 0
    for position in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        longest = lengths[position]
        padded = (len(group) + 1) * longest
        wasteful = tokens >= BUSY_TOKENS and padded - tokens - longest > PADDING_SHARE * padded
        if group and (wasteful or padded > PADDED_TOKENS_AT_ONCE):
            yield group
            group, tokens = [], 0
        group.append(position)
        tokens += longest
    if group:
        yield group


def checked_texts(data_in: Sequence[str]) -> list[str]:
    """The inputs as a list of texts (a single text is one); TypeError names what is none."""
    texts = [data_in] if isinstance(data_in, str) else list(data_in)
    for text in texts:
        if not isinstance(text, str):
            raise TypeError(f"a punctuation model reads text (str), not {type(text).__name__}")
    return texts


def text_keys(key: Sequence[str] | None, count: int) -> list[str]:
    """The given names of `count` texts, or `text_0`, `text_1`, ..."""
    return list(key) if key is not None else [f"text_{i}" for i in range(count)]

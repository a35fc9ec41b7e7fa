"""Beam search over the Whisper decoder, for a batch of utterances; a beam of one is greedy search."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from funasr.models.whisper.network import TextDecoder
from funasr.models.whisper.tokens import SpecialIds
from funasr.utils.errors import ConfigError

FIRST_TIMESTAMP_LIMIT = 50  # speech begins within the first second


@dataclass(frozen=True)
class SearchOptions:
    """How to search.

    beam_size: hypotheses per utterance; max_tokens: of an answer, without prompt and end.
    timestamps: answers hold time stamps; suppressed: ids never said; not_first: ids not said first.
    """

    beam_size: int = 1
    max_tokens: int = 224
    timestamps: bool = False
    suppressed: tuple[int, ...] = ()
    not_first: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.beam_size < 1 or self.max_tokens < 1:
            raise ConfigError(f"beam_size {self.beam_size} and max_tokens {self.max_tokens} must be at least 1")


@dataclass(frozen=True)
class Answer:
    """Ids after the prompt, without the end token, and the sum of their log-probabilities (the end's included)."""

    ids: tuple[int, ...]
    score: float

    @property
    def mean_score(self) -> float:
        """Log-probability per token; answers of different lengths are compared by it."""
        return self.score / (len(self.ids) + 1)


def detect_languages(decoder: TextDecoder, memory: list[Tensor], special: SpecialIds) -> Tensor:
    """The likeliest language id (batch,) after <|startoftranscript|>."""
    start = torch.full((memory[0].size(0), 1), special.sot, device=memory[0].device)
    logits, _ = decoder(start, memory)
    first = special.languages.start
    return logits[:, 0, first : special.languages.stop].argmax(dim=-1) + first


def search(
    decoder: TextDecoder, memory: list[Tensor], prompts: Tensor, special: SpecialIds, options: SearchOptions
) -> list[Answer]:
    """The best answer of each utterance, the same as if it were alone.

    Args:
        memory: of `TextDecoder.project_memory` for (batch, frames, dim); prompts: ids (batch, length).
    """
    batch, width = prompts.size(0), options.beam_size
    tokens = prompts.new_zeros(batch, width, 0)
    scores = torch.full((batch, width), -torch.inf, device=prompts.device)
    scores[:, 0] = 0.0  # all hypotheses are the same at first, so only one counts
    done: list[list[Answer]] = [[] for _ in range(batch)]
    logits, past = decoder(prompts.repeat_interleave(width, dim=0), memory)
    for _ in range(options.max_tokens):
        allowed = apply_rules(logits[:, -1], tokens.flatten(0, 1), special, options)
        log_probs = F.log_softmax(allowed, dim=-1).unflatten(0, (batch, width))
        tokens, scores, source = _extend(tokens, scores, log_probs, done, special.eot)
        if all(len(found) >= width for found in done):
            break
        flat = (torch.arange(batch, device=source.device)[:, None] * width + source).flatten()
        past = [keys_values.index_select(0, flat) for keys_values in past]
        logits, past = decoder(tokens.flatten(0, 1)[:, -1:], memory, past)
    for row, found in enumerate(done):
        if len(found) < width:  # the open ones compete too
            pairs = zip(tokens[row].tolist(), scores[row].tolist())
            found.extend(Answer(tuple(ids), score) for ids, score in pairs if score > -torch.inf)
    return [max(found, key=lambda answer: answer.mean_score) for found in done]


def _extend(
    tokens: Tensor, scores: Tensor, log_probs: Tensor, done: list[list[Answer]], eot: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations: tokens (batch, width, length + 1), scores (batch, width), their parents (batch, width).

    Better hypotheses that end move to `done`, until it holds a beam's worth for the utterance.
    """
    _, width, vocab = log_probs.shape
    best = (scores[..., None] + log_probs).flatten(1).topk(min(2 * width, width * vocab), dim=1)
    parents, new = torch.div(best.indices, vocab, rounding_mode="floor"), best.indices % vocab
    ends = new == eot
    among_best = (~ends).cumsum(dim=1) < width  # fewer than a beam of open ones are better
    for row, column in (ends & among_best & best.values.isfinite()).nonzero().tolist():
        if len(done[row]) < width:
            ids = tuple(tokens[row, parents[row, column]].tolist())
            done[row].append(Answer(ids, float(best.values[row, column])))
    order = ends.to(torch.uint8).argsort(dim=1, stable=True)[:, :width]
    parents, new = parents.gather(1, order), new.gather(1, order)
    grown = tokens.gather(1, parents[..., None].expand(-1, -1, tokens.size(2)))
    return torch.cat([grown, new[..., None]], dim=2), best.values.gather(1, order), parents


def apply_rules(logits: Tensor, said: Tensor, special: SpecialIds, options: SearchOptions) -> Tensor:
    """Logits (rows, vocab) with what may not follow `said` (rows, length) at -inf; a new tensor."""
    logits = logits.clone()
    begin = special.first_timestamp
    logits[:, list({*special.never_said, *options.suppressed})] = -torch.inf
    if said.size(1) == 0:
        logits[:, list({special.eot, *options.not_first})] = -torch.inf
    if not options.timestamps:
        logits[:, begin:] = -torch.inf
        return logits
    if said.size(1) == 0:
        logits[:, :begin] = -torch.inf
        logits[:, begin + FIRST_TIMESTAMP_LIMIT + 1 :] = -torch.inf
        return logits
    return _timestamp_rules(logits, said, special)


def _timestamp_rules(logits: Tensor, said: Tensor, special: SpecialIds) -> Tensor:
    """Time stamps come in pairs (end of a segment, begin of the next), never go back, and beat text together."""
    begin = special.first_timestamp
    ids = torch.arange(logits.size(1), device=logits.device)
    after_stamp = said[:, -1:] >= begin
    after_pair = after_stamp if said.size(1) < 2 else after_stamp & (said[:, -2:-1] >= begin)
    is_stamp, is_text = ids >= begin, ids < special.eot
    banned = (after_pair & is_stamp) | (after_stamp & ~after_pair & is_text)
    latest = said.masked_fill(said < begin, begin - 1).max(dim=1, keepdim=True).values
    # The second of a pair may repeat the first; any other must be later.
    earliest = torch.where(after_stamp & ~after_pair, latest, latest + 1)
    logits = logits.masked_fill(banned | (is_stamp & (ids < earliest)), -torch.inf)
    stamps_win = logits[:, begin:].logsumexp(dim=1) > logits[:, :begin].max(dim=1).values
    return logits.masked_fill(stamps_win[:, None] & ~is_stamp, -torch.inf)

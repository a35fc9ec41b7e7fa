"""Word and character error rates: alignment, counts, confusions, speakers, confidence interval.

Pure functions on token lists; `report.py` writes what they find.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rapidfuzz.distance import Levenshtein

from funasr.utils.errors import ConfigError, DataError

UNITS = ("word", "char", "mixed")
"""`mixed`: CJK characters one by one, everything else by words."""

# What FunASR 0.x takes out of both sides before it counts characters.
_NOT_CHARACTERS = re.compile(r"</s>|<s>|<unk>|@|\s", re.IGNORECASE)
_CJK_RANGES = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f\u3040-\u30ff"
_MIXED_UNIT = re.compile(rf"[{_CJK_RANGES}]|[^\s{_CJK_RANGES}]+")


@dataclass(frozen=True)
class Pair:
    """One column of an alignment: `op` is C (correct), S, D or I; the absent side is None."""

    op: str
    ref: str | None
    hyp: str | None


@dataclass(frozen=True)
class ErrorRate:
    """Counts over utterances.  `corr + sub + dele` are the reference words."""

    corr: int = 0
    sub: int = 0
    dele: int = 0
    ins: int = 0
    sentences: int = 0
    wrong_sentences: int = 0

    def __add__(self, other: ErrorRate) -> ErrorRate:
        return ErrorRate(
            self.corr + other.corr,
            self.sub + other.sub,
            self.dele + other.dele,
            self.ins + other.ins,
            self.sentences + other.sentences,
            self.wrong_sentences + other.wrong_sentences,
        )

    @property
    def words(self) -> int:
        """Reference words."""
        return self.corr + self.sub + self.dele

    @property
    def errors(self) -> int:
        """Substitutions, deletions and insertions."""
        return self.sub + self.dele + self.ins

    def percent(self, count: int) -> float:
        """`count` in per cent of the reference words; of one word if there is none."""
        return 100.0 * count / max(self.words, 1)

    @property
    def rate(self) -> float:
        """Error rate, per cent.  Without reference words each insertion counts 100."""
        return self.percent(self.errors)

    @property
    def sentence_rate(self) -> float:
        """Sentences with an error, per cent."""
        return 100.0 * self.wrong_sentences / max(self.sentences, 1)


@dataclass(frozen=True)
class ScoredUtterance:
    """One reference with its hypothesis; `missing` if there was none, so that all of it is deleted."""

    key: str
    pairs: tuple[Pair, ...]
    counts: ErrorRate
    missing: bool = False
    speaker: str | None = None


@dataclass(frozen=True)
class Score:
    """A scored set.  `extra` are hypotheses without a reference, which count for nothing."""

    name: str
    unit: str
    utterances: tuple[ScoredUtterance, ...]
    extra: tuple[str, ...]

    @property
    def total(self) -> ErrorRate:
        """Counts of all utterances."""
        return sum_counts(self.utterances)

    @property
    def missing(self) -> tuple[str, ...]:
        """Ids of the references without a hypothesis."""
        return tuple(utterance.key for utterance in self.utterances if utterance.missing)

    def by_speaker(self) -> dict[str, ErrorRate]:
        """Counts of each speaker, by name; empty if no speakers are known."""
        groups: dict[str, list[ScoredUtterance]] = {}
        for utterance in self.utterances:
            if utterance.speaker is not None:
                groups.setdefault(utterance.speaker, []).append(utterance)
        return {speaker: sum_counts(groups[speaker]) for speaker in sorted(groups)}


def split_units(text: str, unit: str, case_sensitive: bool = False) -> list[str]:
    """What is counted in a text: words, characters, or CJK characters and words (see `UNITS`).

    Lower-cased unless `case_sensitive`.  For characters `<s> </s> <unk> @` and white space are taken out first.
    """
    if not case_sensitive:
        text = text.lower()
    if unit == "word":
        return text.split()
    if unit == "char":
        return list(_NOT_CHARACTERS.sub("", text))
    if unit == "mixed":
        return _MIXED_UNIT.findall(text)
    raise ConfigError(f"unknown unit '{unit}'; known: {', '.join(UNITS)}")


def align(ref: Sequence[str], hyp: Sequence[str]) -> tuple[Pair, ...]:
    """A cheapest alignment (Levenshtein distance, all errors cost 1) of two token lists of any length."""
    pairs: list[Pair] = []
    for op in Levenshtein.opcodes(ref, hyp):
        refs, hyps = ref[op.src_start : op.src_end], hyp[op.dest_start : op.dest_end]
        if op.tag == "insert":
            pairs.extend(Pair("I", None, token) for token in hyps)
        elif op.tag == "delete":
            pairs.extend(Pair("D", token, None) for token in refs)
        else:
            letter = "C" if op.tag == "equal" else "S"
            pairs.extend(Pair(letter, one, other) for one, other in zip(refs, hyps))
    return tuple(pairs)


def count_errors(pairs: Iterable[Pair]) -> ErrorRate:
    """The counts of one aligned utterance."""
    ops = Counter(pair.op for pair in pairs)
    wrong = ops["S"] + ops["D"] + ops["I"] > 0
    return ErrorRate(ops["C"], ops["S"], ops["D"], ops["I"], 1, int(wrong))


def sum_counts(utterances: Iterable[ScoredUtterance]) -> ErrorRate:
    """The counts of several utterances."""
    return sum((utterance.counts for utterance in utterances), ErrorRate())


def score(
    refs: Mapping[str, str],
    hyps: Mapping[str, str],
    unit: str = "word",
    *,
    utt2spk: Mapping[str, str] | None = None,
    case_sensitive: bool = False,
    name: str = "test",
) -> Score:
    """Score hypotheses (id -> text) against references, in the order of the references.

    A missing hypothesis is an empty one.  Raises DataError if there is no reference or one has no speaker.
    """
    if not refs:
        raise DataError("there is no reference to score against")
    utterances = []
    for key, text in refs.items():
        if utt2spk is not None and key not in utt2spk:
            raise DataError(f"utt2spk names no speaker for '{key}'")
        hyp = hyps.get(key, "")
        pairs = align(split_units(text, unit, case_sensitive), split_units(hyp, unit, case_sensitive))
        speaker = utt2spk[key] if utt2spk is not None else None
        counts = count_errors(pairs)
        if key not in hyps:  # wrong even if the reference is empty: nothing was recognised
            counts = ErrorRate(counts.corr, counts.sub, counts.dele, counts.ins, 1, 1)
        utterances.append(ScoredUtterance(key, pairs, counts, key not in hyps, speaker))
    return Score(name, unit, tuple(utterances), tuple(key for key in hyps if key not in refs))


def confusions(utterances: Iterable[ScoredUtterance], top: int = 10) -> dict[str, list[tuple[str, str, int]]]:
    """The most frequent "sub" (ref, hyp, count), "del" (ref, "", count) and "ins" ("", hyp, count)."""
    names = {"S": "sub", "D": "del", "I": "ins"}
    counters: dict[str, Counter[tuple[str, str]]] = {name: Counter() for name in names.values()}
    for utterance in utterances:
        for pair in utterance.pairs:
            if pair.op in names:
                counters[names[pair.op]][(pair.ref or "", pair.hyp or "")] += 1
    return {
        name: [(*pair, count) for pair, count in sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:top]]
        for name, counter in counters.items()
    }


def bootstrap_interval(
    utterances: Sequence[ScoredUtterance], resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Confidence interval of the error rate, per cent: utterances drawn with replacement `resamples` times.

    Percentile bootstrap (Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance
    evaluation", ICASSP 2004).  The same seed gives the same interval.
    """
    if resamples < 1 or not 0.0 < confidence < 1.0:
        raise ConfigError("bootstrap: resamples must be at least 1 and confidence between 0 and 1")
    errors = np.array([utterance.counts.errors for utterance in utterances], dtype=np.int64)
    words = np.array([utterance.counts.words for utterance in utterances], dtype=np.int64)
    generator = np.random.default_rng(seed)
    rates = np.empty(resamples)
    for index in range(resamples):  # one draw at a time keeps memory at one number per utterance
        drawn = generator.integers(0, len(errors), len(errors))
        rates[index] = 100.0 * errors[drawn].sum() / max(words[drawn].sum(), 1)
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(rates, (tail, 1.0 - tail))
    return float(low), float(high)


def score_to_dict(scored: Score, top: int = 20, resamples: int = 1000, seed: int = 0) -> dict[str, Any]:
    """All that is known of a scored set, for JSON: counts, rates (per cent), interval, speakers, confusions."""
    total = scored.total
    return {
        "name": scored.name,
        "unit": scored.unit,
        **_counts_to_dict(total),
        "interval_95": [round(x, 4) for x in bootstrap_interval(scored.utterances, resamples, seed=seed)],
        "missing": list(scored.missing),
        "extra": list(scored.extra),
        "speakers": {speaker: _counts_to_dict(counts) for speaker, counts in scored.by_speaker().items()},
        "confusions": confusions(scored.utterances, top),
    }


def _counts_to_dict(counts: ErrorRate) -> dict[str, Any]:
    return {
        "sentences": counts.sentences,
        "words": counts.words,
        "corr": counts.corr,
        "sub": counts.sub,
        "del": counts.dele,
        "ins": counts.ins,
        "errors": counts.errors,
        "error_rate": round(counts.rate, 4),
        "wrong_sentences": counts.wrong_sentences,
        "sentence_error_rate": round(counts.sentence_rate, 4),
    }

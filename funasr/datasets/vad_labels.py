"""Where speech is: labels for voice activity detection, from RTTM, segments, CTM, or the energy of clean speech.

A label table has a line `ID [[start_ms, end_ms], ...]` for each recording, `[]` where nobody speaks: what a detector
writes, so references and results look the same.  In memory a label is a list of spans (start, end) in seconds, in
order and without overlap.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from funasr.utils.data_dir import read_lines, read_table
from funasr.utils.errors import DataError
from funasr.utils.rttm import Span, merge_spans, read_rttm, speech_spans

logger = logging.getLogger(__name__)

OVERHANG_S = 0.1  # labels may end this much behind their recording: times are often rounded
NO_WORDS = frozenset({"<eps>", "sil", "<sil>", "sp", "silence", "<silence>", "!sil"})
ENERGY_SHARE = 0.3  # the threshold lies this far from the level of pauses towards that of speech, in dB
LEAST_CONTRAST_DB = 10.0
QUIETEST_DB = -70.0  # below it, relative to full scale, nobody speaks

Labels = dict[str, list[Span]]


def parse_segments(text: str) -> list[Span]:
    """`[[290, 3320], [4130, 6150]]` in ms as spans in s.  ValueError for anything else."""
    try:
        pairs = json.loads(text)
        spans = [(float(start) / 1000.0, float(end) / 1000.0) for start, end in pairs]
    except (ValueError, TypeError):
        raise ValueError(f"'{text[:60]}' must read [[start_ms, end_ms], ...]") from None
    if any(not (math.isfinite(end) and 0 <= start < end) for start, end in spans):
        raise ValueError(f"'{text[:60]}': every start must lie before its end, and not below 0")
    return merge_spans(spans)


def format_segments(spans: Iterable[Span]) -> str:
    """The reverse of `parse_segments`, rounded to ms."""
    return json.dumps([[round(1000 * start), round(1000 * end)] for start, end in spans])


def read_label_table(path: str | Path) -> Labels:
    """Recording -> spans.  DataError names the file and id of what is no label."""
    labels: Labels = {}
    for key, value in read_table(path).items():
        try:
            labels[key] = parse_segments(value)
        except ValueError as error:
            raise DataError(f"{path}: {key}: {error}") from None
    return labels


def labels_from_rttm(path: str | Path) -> Labels:
    """Where at least one speaker speaks.  DataError if there is no SPEAKER record at all."""
    turns = read_rttm(path)
    if not turns:
        raise DataError(f"{path} has no SPEAKER record with a duration; recordings without speech need --no_speech")
    return {recording: speech_spans(found) for recording, found in turns.items()}


def labels_from_segments(path: str | Path) -> Labels:
    """The union of the utterances of each recording in a Kaldi `segments` file."""
    spans: Labels = {}
    for number, line in read_lines(path):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 4:
            raise DataError(f"{path}:{number}: must read `utterance recording start end`")
        start, end = _times(fields[2], fields[3], f"{path}:{number}")
        if end <= start:
            raise DataError(f"{path}:{number}: the end {fields[3]} must lie behind the start {fields[2]}")
        spans.setdefault(fields[1], []).append((start, end))
    return _merged(spans, path, "segment")


def labels_from_ctm(path: str | Path, max_gap_s: float = 0.2) -> Labels:
    """The words of a time-marked transcript; pauses of at most `max_gap_s` between them count as speech."""
    spans: Labels = {}
    for number, line in read_lines(path):
        fields = line.split()
        if not fields or fields[0].startswith(";;"):
            continue
        if len(fields) < 5:
            raise DataError(f"{path}:{number}: must read `recording channel start duration word`")
        start, duration = _times(fields[2], fields[3], f"{path}:{number}")
        known = spans.setdefault(fields[0], [])
        if fields[4].lower() not in NO_WORDS and duration > 0:
            known.append((start, start + duration))
    return {key: fill_gaps(found, max_gap_s) for key, found in _merged(spans, path, "word").items()}


def labels_from_energy(wave: np.ndarray, fs: int, max_gap_s: float = 0.3, pad_s: float = 0.05) -> list[Span]:
    """Speech in a clean recording of one voice, by its level: a start for corpora without labels.

    The threshold lies between the level of the pauses (10th percentile) and that of speech (95th).  Pauses of at most
    `max_gap_s` are filled, bursts below 60 ms dropped, the rest widened by `pad_s` on both sides.  A recording with
    less than 10 dB between both levels is speech throughout, one that is hardly audible has none.

    Args:
        wave: (samples,) in [-1, 1]; fs: Hz.
    """
    window, step = max(1, fs // 40), max(1, fs // 100)
    if len(wave) < window:
        return []
    sums = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    starts = np.arange(0, len(wave) - window + 1, step)
    level = 10 * np.log10((sums[starts + window] - sums[starts]) / window + 1e-10)
    low, high = np.percentile(level, (10, 95))
    duration = len(wave) / fs
    if high < QUIETEST_DB:
        return []
    if high - low < LEAST_CONTRAST_DB:
        return [(0.0, duration)]
    loud = level > low + ENERGY_SHARE * (high - low)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], loud, [False]]).astype(np.int8)))
    # a frame stands for its middle step
    spans = [((begin * step + (window - step) / 2) / fs, (end * step + (window - step) / 2) / fs)
             for begin, end in edges.reshape(-1, 2)]  # fmt: skip
    spans = [(start, end) for start, end in fill_gaps(spans, 0.03) if end - start >= 0.06]
    padded = [(max(0.0, start - pad_s), min(duration, end + pad_s)) for start, end in fill_gaps(spans, max_gap_s)]
    return merge_spans(padded)


def fill_gaps(spans: Sequence[Span], max_gap_s: float) -> list[Span]:
    """The union of spans, joined over gaps of at most `max_gap_s`."""
    filled: list[Span] = []
    for start, end in merge_spans(spans):
        if filled and start - filled[-1][1] <= max_gap_s:
            filled[-1] = (filled[-1][0], end)
        else:
            filled.append((start, end))
    return filled


def fit_labels(
    labels: Labels, durations: Mapping[str, float], source: str, missing_is_silence: bool = False, clip: bool = False
) -> Labels:
    """Labels for the recordings of `durations` (s), in that order, none of them reaching over its end.

    Args:
        source: where the labels come from, for messages.
        missing_is_silence: a recording without labels has no speech; else it is an error.
        clip: cut what reaches over the end of a recording by more than rounding; else it is an error.

    Raises DataError naming recordings; also if labels and recordings have nothing in common.
    """
    missing = [key for key in durations if key not in labels]
    unknown = [key for key in labels if key not in durations]
    if len(missing) > (len(durations) - 1 if missing_is_silence else 0):
        hint = f"; it knows {_some(unknown)}, which are no recordings of wav.scp" if unknown else ""
        advice = "" if len(missing) == len(durations) else "; --missing_is_silence true if nobody speaks there"
        raise DataError(f"{source} has no labels for {_some(missing)}{hint}{advice}")
    if unknown:
        logger.warning("%s: labels of %s are not used: no such recording in wav.scp", source, _some(unknown))
    fitted: Labels = {}
    for key, duration in durations.items():
        spans = labels.get(key, [])
        last = max((end for _, end in spans), default=0.0)
        if last > duration + OVERHANG_S and not clip:
            raise DataError(
                f"{source}: {key} has speech until {last:.3f} s, but the recording ends at {duration:.3f} s. If it is "
                "the right recording, --clip true cuts the label"
            )
        fitted[key] = [(start, min(end, duration)) for start, end in spans if start < duration]
    return fitted


def _merged(spans: Labels, path: str | Path, what: str) -> Labels:
    if not spans:
        raise DataError(f"{path} has no {what}")
    return {key: merge_spans(found) for key, found in spans.items()}


def _times(first: str, second: str, where: str) -> Span:
    try:
        start, end = float(first), float(second)
    except ValueError:
        raise DataError(f"{where}: '{first}' and '{second}' must be times in s") from None
    if not (math.isfinite(start) and math.isfinite(end)) or start < 0 or end < 0:
        raise DataError(f"{where}: times must not be negative: {first}, {second}")
    return start, end


def _some(keys: Sequence[str], count: int = 3) -> str:
    more = f" and {len(keys) - count} more" if len(keys) > count else ""
    return ", ".join(keys[:count]) + more

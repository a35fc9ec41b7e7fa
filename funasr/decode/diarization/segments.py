"""From labelled windows to who spoke when: segments, speakers of sentences and words, centres of speakers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

OVERLAP_TOLERANCE_S = 1e-4
SHORTEST_SEGMENT_S = 0.7
SENTENCE_FALLBACK = 0  # speaker of a sentence that no segment touches

Span = Sequence[float]


@dataclass(frozen=True)
class SpeakerSegment:
    """A stretch of one speaker, times in seconds."""

    start_s: float
    end_s: float
    speaker: int


def renumber(labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """The same partition with labels 0, 1, ... in order of first appearance."""
    values, first, inverse = np.unique(np.asarray(labels), return_index=True, return_inverse=True)
    rank = np.empty(len(values), dtype=np.int64)
    rank[np.argsort(first)] = np.arange(len(values))
    return rank[inverse]


def speaker_segments(times: np.ndarray, labels: Sequence[int] | np.ndarray) -> list[SpeakerSegment]:
    """Segments of labelled windows.

    Neighbouring windows of one speaker are joined; where windows of two speakers overlap, the border is the midpoint
    of the overlap; what is shorter than 0.7 s goes to the nearer neighbour.

    Args:
        times: (windows, 2) start and end in seconds, sorted by start.
        labels: one per window; speakers are renumbered by first appearance.

    Returns: segments sorted by time that do not overlap, in hundredths of a second unless there is only one.
    """
    windows = [
        SpeakerSegment(float(start), float(end), int(speaker))
        for (start, end), speaker in zip(np.asarray(times).reshape(-1, 2), renumber(labels))
    ]
    return _smoothed(_without_overlap(_joined(windows)))


def _joined(segments: Sequence[SpeakerSegment]) -> list[SpeakerSegment]:
    out: list[SpeakerSegment] = []
    for segment in segments:
        if out and out[-1].speaker == segment.speaker and segment.start_s <= out[-1].end_s:
            out[-1] = replace(out[-1], end_s=segment.end_s)
        else:
            out.append(segment)
    return out


def _without_overlap(segments: Sequence[SpeakerSegment]) -> list[SpeakerSegment]:
    out = list(segments)
    for i in range(1, len(out)):
        if out[i - 1].end_s > out[i].start_s + OVERLAP_TOLERANCE_S:
            border = (out[i].start_s + out[i - 1].end_s) / 2
            out[i - 1] = replace(out[i - 1], end_s=border)
            out[i] = replace(out[i], start_s=border)
    return out


def _smoothed(segments: Sequence[SpeakerSegment]) -> list[SpeakerSegment]:
    if len(segments) < 2:
        return list(segments)
    out = list(segments)
    for i, segment in enumerate(out):
        current = replace(segment, start_s=round(segment.start_s, 2), end_s=round(segment.end_s, 2))
        if current.end_s - current.start_s < SHORTEST_SEGMENT_S:
            current = replace(current, speaker=_nearer_neighbour(out, i, current).speaker)
        out[i] = current
    return _joined(out)


def _nearer_neighbour(segments: Sequence[SpeakerSegment], i: int, current: SpeakerSegment) -> SpeakerSegment:
    """The neighbour in time of segment `i`; of two equally near ones the left."""
    if i == 0:
        return segments[1]
    if i == len(segments) - 1:
        return segments[i - 1]
    left, right = segments[i - 1], segments[i + 1]
    return left if current.start_s - left.end_s <= right.start_s - current.end_s else right


def sentence_speakers(spans_ms: Sequence[Span], segments: Sequence[SpeakerSegment]) -> list[int]:
    """The speaker of each sentence, by the rule of released FunASR.

    Segments are taken in order; one takes the sentence over if it overlaps more than the best so far, where the
    overlap of the segment in possession counts double.  So of two speakers who share a sentence about equally, the
    first has it.  A sentence that touches no segment goes to speaker 0.

    Args:
        spans_ms: [start_ms, end_ms] of each sentence.
        segments: as from `speaker_segments`.
    """
    starts, ends, _ = _columns(segments)
    speakers = []
    for start_ms, end_ms in spans_ms:
        first, last = _touching(starts, ends, start_ms / 1000, end_ms / 1000)
        speaker, best = SENTENCE_FALLBACK, 0.0
        for segment in segments[first:last]:
            overlap = min(end_ms / 1000, segment.end_s) - max(start_ms / 1000, segment.start_s)
            if overlap > best:
                speaker, best = segment.speaker, overlap
            if overlap > 0 and segment.speaker == speaker:
                best += overlap
        speakers.append(speaker)
    return speakers


def word_speakers(spans_ms: Sequence[Span], segments: Sequence[SpeakerSegment]) -> list[int]:
    """The speaker of each word: the one it overlaps most in total, or else the one nearest in time.

    Args:
        spans_ms: [start_ms, end_ms] of each word.
        segments: as from `speaker_segments`; without any, all words are of speaker 0.
    """
    if not segments:
        return [0] * len(spans_ms)
    starts, ends, labels = _columns(segments)
    speakers = []
    for start_ms, end_ms in spans_ms:
        start, end = start_ms / 1000, end_ms / 1000
        first, last = _touching(starts, ends, start, end)
        overlaps = np.minimum(end, ends[first:last]) - np.maximum(start, starts[first:last])
        if overlaps.size and overlaps.max() > 0:
            totals = np.bincount(labels[first:last], weights=overlaps.clip(min=0))
            speakers.append(int(totals.argmax()))
        else:
            near = slice(max(0, first - 1), last + 1)
            gaps = np.maximum(starts[near] - end, start - ends[near])
            speakers.append(int(labels[near][gaps.argmin()]))
    return speakers


def _columns(segments: Sequence[SpeakerSegment]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    starts = np.array([segment.start_s for segment in segments], dtype=np.float64)
    ends = np.array([segment.end_s for segment in segments], dtype=np.float64)
    return starts, ends, np.array([segment.speaker for segment in segments], dtype=np.int64)


def _touching(starts: np.ndarray, ends: np.ndarray, start: float, end: float) -> tuple[int, int]:
    """The range of sorted segments that reach into [start, end]; found by bisection, a recording has thousands."""
    return int(np.searchsorted(ends, start, side="left")), int(np.searchsorted(starts, end, side="right"))


def speaker_centers(embeddings: np.ndarray, labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Mean embedding of each speaker.

    Args:
        embeddings: (windows, dim); labels: one per window, renumbered as in `speaker_segments`.

    Returns: (speakers, dim); row i belongs to speaker i of the segments.
    """
    numbers = renumber(labels)
    sums = np.zeros((int(numbers.max(initial=-1)) + 1, embeddings.shape[1]), dtype=np.float64)
    np.add.at(sums, numbers, embeddings)
    return (sums / np.bincount(numbers)[:, None]).astype(embeddings.dtype) if len(numbers) else sums

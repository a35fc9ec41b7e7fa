"""From the words of a recording to the dict that `generate` returns."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from funasr.decode.diarization.segments import SpeakerSegment, sentence_speakers, word_speakers
from funasr.models.abs_model import Result
from funasr.text.sentences import Sentence, join_segments, segment_sentences
from funasr.text.words import (
    Word,
    clauses,
    raw_text,
    result_words,
    surface_clauses,
    timestamps,
    with_marks,
    with_written_text,
    written_text,
)

logger = logging.getLogger(__name__)

SPK_MODES = ("default", "punc_segment", "vad_segment")
_OF_WORDS = frozenset({"key", "text", "timestamp", "timestamps", "words", "spk_embedding"})


@dataclass(frozen=True)
class Segment:
    """What was recognised in a stretch of audio.

    start_ms, end_ms: of the stretch in its recording.
    tags: `<|zh|>...` in front of the text.
    timed: whether the model gives times.
    on_surface: whether the model says how its words are written, so that marks are put in and nothing else changed.
    extra: other fields of the model's result.
    """

    start_ms: int
    end_ms: int
    words: tuple[Word, ...]
    tags: str = ""
    timed: bool = False
    on_surface: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """As recognised, with tags."""
        return self.tags + raw_text(self.words)


@dataclass(frozen=True)
class Speakers:
    """Who speaks when; centers: mean embedding of each speaker (speakers, dim)."""

    turns: Sequence[SpeakerSegment]
    centers: np.ndarray


@dataclass(frozen=True)
class View:
    """Which views on the words a result has; see `AutoModel.generate`."""

    sentence_timestamp: bool = False
    return_raw_text: bool = False
    en_post_proc: bool = False
    return_spk_res: bool = True
    return_spk_center: bool = False
    return_word_info: bool = False
    return_segments: bool = False
    spk_mode: str = "punc_segment"


@dataclass(frozen=True)
class Transcript:
    """Everything known about one recording: segments in order of time with their words."""

    key: str
    segments: tuple[Segment, ...]
    punctuated: bool = False
    speakers: Speakers | None = None

    @property
    def words(self) -> list[Word]:
        """All words in order."""
        return [word for segment in self.segments for word in segment.words]

    @property
    def on_surface(self) -> bool:
        return any(segment.on_surface for segment in self.segments)

    @property
    def raw_text(self) -> str:
        """As recognised, with tags; one space between segments."""
        return " ".join(text for text in (segment.text for segment in self.segments) if text)

    @property
    def spoken(self) -> str:
        """What a punctuation model reads."""
        return join_segments([raw_text(segment.words) for segment in self.segments])

    def with_words(self, words: Sequence[Word], **changes: Any) -> Transcript:
        """The same segments with other words, one for each."""
        segments, start = [], 0
        for segment in self.segments:
            end = start + len(segment.words)
            segments.append(replace(segment, words=tuple(words[start:end])))
            start = end
        return replace(self, segments=tuple(segments), **changes)

    def punctuated_as(self, text: str) -> Transcript:
        """With the marks of a punctuated text; unchanged, with a warning, if the text is not made of the words."""
        try:
            return self.with_words(with_written_text(self.words, text), punctuated=True)
        except ValueError as error:
            logger.warning("%s is left without punctuation: %s", self.key, error)
            return self

    def marked_with(self, marks: Sequence[str]) -> Transcript:
        """With a mark, or "", behind each word, and otherwise written as recognised."""
        words: list[Word] = []
        for segment in self.segments:
            first, rest = segment.words[:1], segment.words[1:]
            if first and words:  # join as the segments' texts are joined for the punctuation model
                apart = len(join_segments([words[-1].text[-1:], first[0].text[:1]])) > 2
                first = (replace(first[0], lead=" " if apart else ""),)
            words += [*first, *rest]
        return self.with_words(with_marks(words, marks), punctuated=True)

    def spoken_by(self, speakers: Speakers) -> Transcript:
        """With a speaker for each word that has a time."""
        words = self.words
        spans = [(word.start_ms or 0, word.end_ms or 0) for word in words]
        numbers = word_speakers(spans, speakers.turns)
        labelled = [replace(w, speaker=number if w.timed else None) for w, number in zip(words, numbers)]
        return self.with_words(labelled, speakers=speakers)


def make_segment(result: Mapping[str, Any], start_ms: int, end_ms: int) -> Segment:
    """The words of a model's result for a stretch of audio, with times counted in the recording."""
    tags, words = result_words(result, start_ms)
    return Segment(
        start_ms,
        end_ms,
        tuple(words),
        tags,
        timed="timestamp" in result or "timestamps" in result,
        on_surface=bool(result.get("words")),
        extra={name: value for name, value in result.items() if name not in _OF_WORDS},
    )


def transcript_result(transcript: Transcript, view: View) -> Result:
    """The result dict: `key`, `text`, and as asked `timestamp`, `raw_text`, `words`, `sentence_info`, ..."""
    words = transcript.words
    result: Result = {"key": transcript.key}
    result["text"] = written_text(words) if transcript.punctuated else transcript.raw_text
    if any(segment.timed for segment in transcript.segments) or not transcript.segments:
        result["timestamp"] = timestamps(words)
    if transcript.punctuated and view.return_raw_text:
        result["raw_text"] = transcript.raw_text
    if transcript.on_surface:
        result["words"] = [word.text for word in words]
    result |= _joined_extras([segment.extra for segment in transcript.segments])
    by_speaker = transcript.speakers is not None and view.return_spk_res
    if by_speaker and view.return_spk_center and transcript.speakers is not None:
        result["spk_embedding_center"] = torch.from_numpy(transcript.speakers.centers)
    if (by_speaker or view.sentence_timestamp) and transcript.segments:
        result["sentence_info"] = _sentence_info(transcript, view, by_speaker)
    if view.return_segments:
        result["value"] = [[segment.start_ms, segment.end_ms] for segment in transcript.segments]
    if view.return_word_info:
        result["word_info"] = [_word_info(word) for word in words]
    return result


def _sentence_info(transcript: Transcript, view: View, by_speaker: bool) -> list[Sentence]:
    words = transcript.words
    if not words:
        return []
    timed = bool(timestamps(words))
    by_clause = transcript.punctuated and timed and not (by_speaker and view.spk_mode == "vad_segment")
    if by_clause and transcript.on_surface:
        entries = surface_clauses(words)
        if not view.return_raw_text:
            entries = [{name: value for name, value in entry.items() if name != "raw_text"} for entry in entries]
    elif by_clause:
        entries = clauses(words, return_raw_text=view.return_raw_text, english=view.en_post_proc)
    elif by_speaker or not timed:
        entries = _segment_entries(transcript.segments, by_speaker)
    else:
        logger.warning("%s: sentence_timestamp needs a punc_model to find sentences; there are none", transcript.key)
        entries = []
    if by_speaker and transcript.speakers is not None:
        spans = [(entry["start"], entry["end"]) for entry in entries]
        numbers = sentence_speakers(spans, transcript.speakers.turns)
        entries = [{**entry, "spk": number} for entry, number in zip(entries, numbers)]
    return entries


def _segment_entries(segments: Sequence[Segment], as_detected: bool) -> list[Sentence]:
    """One entry per segment that has text; with its own times, or else those of its words."""
    spoken = [segment for segment in segments if segment.words]
    spans = [(segment.start_ms, segment.end_ms) for segment in spoken]
    texts = [segment.text for segment in spoken]
    entries = segment_sentences(spans, texts, [timestamps(segment.words) for segment in spoken])
    if as_detected:
        entries = [{**entry, "start": start, "end": end} for entry, (start, end) in zip(entries, spans)]
    return entries


def _word_info(word: Word) -> dict[str, Any]:
    """The fields of a word that are known, under the names that results use."""
    names = {"start_ms": "start", "end_ms": "end", "speaker": "spk"}
    values = {names.get(name, name): value for name, value in asdict(word).items() if name not in ("lead", "written")}
    return {name: value for name, value in values.items() if value is not None}


def _joined_extras(extras: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Other fields of the segments' results: lists and texts one after the other, numbers added.

    Fields of another type are kept if there is one segment only.
    """
    if len(extras) == 1:
        return dict(extras[0])
    joined: dict[str, Any] = {}
    for name in dict.fromkeys(name for extra in extras for name in extra):
        values = [extra[name] for extra in extras if name in extra]
        if all(isinstance(value, list) for value in values):
            joined[name] = [item for value in values for item in value]
        elif all(isinstance(value, str) for value in values):
            joined[name] = " ".join(filter(None, values))
        elif all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
            joined[name] = sum(values)
    return joined

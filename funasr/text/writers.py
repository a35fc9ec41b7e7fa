"""Results as files: text, JSON, subtitles, tables, RTTM, CTM and Praat TextGrid.

Each writer takes one result (`key`, `text`, `timestamp`, `sentence_info`, ...; times in ms) and gives the text of a
file.  A result without text gives a file without entries.  What a format cannot hold is said, never made up:
ValueError if it needs times or speakers that the result does not have.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from funasr.text.sentences import split_tokens
from funasr.text.words import result_words

Result = Mapping[str, Any]

PAUSE_MS = 800  # a subtitle ends at a pause this long ...
CUE_MS = 7000  # ... or before it gets longer than this, if there are no sentences to go by


class Span(NamedTuple):
    """A piece of text in time: a word, a sentence or a subtitle."""

    start_ms: int
    end_ms: int
    text: str
    speaker: str = ""


@dataclass(frozen=True)
class Format:
    """How results are written, and what they must have for it."""

    suffix: str
    write: Callable[[Result], str]
    joinable: bool = True
    """Whether files of several results, one behind the other, are such a file again."""
    needs_times: bool = False
    needs_speakers: bool = False


def format_result(result: Result, format: str) -> str:
    """One result in the format of that name (see FORMATS).  Raises ValueError naming the result and what it lacks."""
    return FORMATS[format].write(result)


def to_text(result: Result) -> str:
    """The text on one line."""
    return _line(str(result.get("text") or "")) + "\n"


def to_json(result: Result) -> str:
    """The whole result as one line of JSON; arrays and tensors become lists."""
    return json.dumps(dict(result), ensure_ascii=False, default=_plain) + "\n"


def to_srt(result: Result) -> str:
    """SubRip: numbered subtitles; a speaker stands before the text (`spk0: ...`)."""
    blocks = []
    for number, cue in enumerate(subtitles(result), 1):
        speaker = f"{cue.speaker}: " if cue.speaker else ""
        times = f"{_clock(cue.start_ms, ',')} --> {_clock(cue.end_ms, ',')}"
        blocks.append(f"{number}\n{times}\n{speaker}{_line(cue.text)}\n")
    return "\n".join(blocks)


def to_vtt(result: Result) -> str:
    """WebVTT: `&`, `<` and `>` escaped, speakers as voice spans (`<v spk0>`)."""
    blocks = ["WEBVTT\n"]
    for cue in subtitles(result):
        voice = f"<v {_escape(_line(cue.speaker))}>" if cue.speaker else ""
        times = f"{_clock(cue.start_ms, '.')} --> {_clock(cue.end_ms, '.')}"
        blocks.append(f"{times}\n{voice}{_escape(_line(cue.text))}\n")
    return "\n".join(blocks)


def to_tsv(result: Result) -> str:
    """Lines `key start_ms end_ms speaker text` between tabs, one for each sentence (or subtitle), without a header."""
    key = _line(str(result.get("key", "")))
    rows = [(key, str(s.start_ms), str(s.end_ms), _line(s.speaker), _line(s.text)) for s in subtitles(result)]
    return "".join("\t".join(row) + "\n" for row in rows)


def to_rttm(result: Result) -> str:
    """NIST RTTM: `SPEAKER file 1 start duration <NA> <NA> speaker <NA> <NA>`, seconds, one for each sentence."""
    if not str(result.get("text") or "").strip():
        return ""
    sentences = _sentences(result)
    if not sentences or not all(sentence.speaker for sentence in sentences):
        raise ValueError(f"'{result.get('key', '')}' has no speakers; rttm needs a speaker model (spk_model, --spk)")
    file = _field(result.get("key", ""))
    return "".join(
        f"SPEAKER {file} 1 {_seconds(s.start_ms)} {_seconds(s.end_ms - s.start_ms)} <NA> <NA> {_field(s.speaker)} "
        "<NA> <NA>\n"
        for s in sentences
    )


def to_ctm(result: Result) -> str:
    """NIST CTM: `file 1 start duration word`, seconds, one for each word or Chinese character."""
    file = _field(result.get("key", ""))
    return "".join(
        f"{file} 1 {_seconds(word.start_ms)} {_seconds(word.end_ms - word.start_ms)} {_field(word.text)}\n"
        for word in timed_words(result)
    )


def to_textgrid(result: Result) -> str:
    """Praat TextGrid (long form, UTF-8): tiers `sentences`, `speakers` and `words`, as far as the result has them."""
    sentences = _sentences(result)
    tiers = {"sentences": sentences} if sentences else {}
    if any(sentence.speaker for sentence in sentences):
        tiers["speakers"] = [sentence._replace(text=sentence.speaker) for sentence in sentences]
    if result.get("timestamp") or result.get("timestamps") or not sentences:
        tiers["words"] = timed_words(result)
    end_ms = max([span.end_ms for spans in tiers.values() for span in spans], default=1)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_seconds(end_ms)}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, spans) in enumerate(tiers.items(), 1):
        intervals = _without_gaps(spans, end_ms)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {_seconds(end_ms)}"]
        lines += [f"        intervals: size = {len(intervals)}"]
        for position, span in enumerate(intervals, 1):
            quoted = _line(span.text).replace('"', '""')
            lines += [f"        intervals [{position}]:", f"            xmin = {_seconds(span.start_ms)}"]
            lines += [f"            xmax = {_seconds(span.end_ms)}", f'            text = "{quoted}"']
    return "\n".join(lines) + "\n"


FORMATS: dict[str, Format] = {
    "text": Format(".txt", to_text),
    "json": Format(".json", to_json),
    "srt": Format(".srt", to_srt, joinable=False, needs_times=True),
    "vtt": Format(".vtt", to_vtt, joinable=False, needs_times=True),
    "tsv": Format(".tsv", to_tsv, needs_times=True),
    "rttm": Format(".rttm", to_rttm, needs_times=True, needs_speakers=True),
    "ctm": Format(".ctm", to_ctm, needs_times=True),
    "textgrid": Format(".TextGrid", to_textgrid, joinable=False, needs_times=True),
}


def subtitles(result: Result) -> list[Span]:
    """The sentences of a result; without `sentence_info`, its words grouped by pauses and length.

    Raises ValueError if the result has text but no times.
    """
    sentences = _sentences(result)
    if sentences or not str(result.get("text") or "").strip():
        return sentences
    groups: list[list[Span]] = []
    for word in timed_words(result):
        last = groups[-1] if groups else None
        if last and word.start_ms - last[-1].end_ms < PAUSE_MS and word.end_ms - last[0].start_ms <= CUE_MS:
            last.append(word)
        else:
            groups.append([word])
    if len(groups) == 1 and any(map(_is_mark, str(result["text"]))):  # the text as it is written, with its marks
        return [Span(groups[0][0].start_ms, groups[0][-1].end_ms, str(result["text"]))]
    return [Span(group[0].start_ms, group[-1].end_ms, _joined([w.text for w in group])) for group in groups]


def timed_words(result: Result) -> list[Span]:
    """Words (or Chinese characters) with their times, without punctuation.

    Raises ValueError if the result has text but no times, or not one for each word.
    """
    text = str(result.get("text") or "")
    if not text.strip():
        return []
    times = result.get("timestamp") or []
    if result.get("timestamps") or any(len(item) != 2 for item in times):
        found = result_words(result)[1]
        return [_span(w.start_ms, w.end_ms, w.text) for w in found if w.start_ms is not None and w.end_ms is not None]
    if not times:
        inner = [sentence for sentence in result.get("sentence_info") or () if sentence.get("timestamp")]
        if not inner:
            raise ValueError(
                f"'{result.get('key', '')}' has no times; ask for them (output_timestamp=True, --timestamps) and use a "
                "model that gives them"
            )
        return [word for sentence in inner for word in timed_words({**sentence, "key": result.get("key", "")})]
    written = [str(word) for word in result.get("words") or ()]
    for words in (written, *(split(source) for source in _texts(result) for split in (_tokens, str.split))):
        if len(words) == len(times):
            return [_span(start, end, word) for word, (start, end) in zip(words, times)]
    raise ValueError(f"'{result.get('key', '')}' has {len(times)} times for {len(_tokens(text))} words")


def _texts(result: Result) -> list[str]:
    return [str(result[name]) for name in ("raw_text", "text") if result.get(name)]


def _tokens(text: str) -> list[str]:
    """Words and Chinese characters without the punctuation at their ends."""
    bare = [_stripped(token) for token in split_tokens(text)]
    return [token for token in bare if token]


def _stripped(token: str) -> str:
    start, end = 0, len(token)
    while start < end and _is_mark(token[start]):
        start += 1
    while end > start and _is_mark(token[end - 1]):
        end -= 1
    return token[start:end]


def _is_mark(char: str) -> bool:
    """Punctuation, but not what stands in for a sound (`@`, `%`, `&`) or an apostrophe (`'em`)."""
    return unicodedata.category(char).startswith("P") and char not in "@%&'#*"


def _joined(words: Sequence[str]) -> str:
    """Words with spaces between them, Chinese characters without."""
    text = ""
    for word in words:
        text += " " + word if text and (text[-1].isascii() or word[:1].isascii()) else word
    return text


def _sentences(result: Result) -> list[Span]:
    spans = []
    for sentence in result.get("sentence_info") or ():
        text = sentence.get("text", sentence.get("sentence", ""))
        if str(text).strip():
            spans.append(_span(sentence["start"], sentence["end"], str(text), _speaker(sentence.get("spk"))))
    return spans


def _span(start: float, end: float, text: str, speaker: str = "") -> Span:
    start_ms = max(0, round(start))
    return Span(start_ms, max(start_ms, round(end)), text.strip(), speaker)


def _speaker(value: Any) -> str:
    if value is None or value == "":
        return ""
    return value if isinstance(value, str) else f"spk{int(value)}"


def _without_gaps(spans: Sequence[Span], end_ms: int) -> list[Span]:
    """Intervals one after the other from 0 to the end, empty ones between; of two that overlap the second is cut."""
    intervals: list[Span] = []
    at = 0
    for span in sorted(spans, key=lambda span: span.start_ms):
        start = max(span.start_ms, at)
        if span.end_ms <= start:
            continue
        if start > at:
            intervals.append(Span(at, start, ""))
        intervals.append(Span(start, span.end_ms, span.text))
        at = span.end_ms
    return [*intervals, Span(at, end_ms, "")] if at < end_ms else intervals


def _clock(ms: int, point: str) -> str:
    seconds, ms = divmod(ms, 1000)
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{point}{ms:03d}"


def _seconds(ms: int) -> str:
    return f"{ms // 1000}.{ms % 1000:03d}"


def _line(text: str) -> str:
    """Text without what would end a line, a cell or a subtitle."""
    return " ".join(text.split())


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _field(value: Any) -> str:
    """A field of a table whose columns are separated by spaces."""
    return "_".join(str(value).split()) or "<NA>"


def _plain(value: Any) -> Any:
    """Arrays, tensors and numpy numbers for JSON."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} cannot be written as JSON")

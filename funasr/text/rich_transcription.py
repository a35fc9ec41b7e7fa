"""Tags of rich transcriptions (`<|zh|><|HAPPY|><|BGM|><|withitn|>...`, SenseVoice) into text with symbols, or away."""

from __future__ import annotations

import re

LANGUAGES = ("zh", "en", "yue", "ja", "ko", "nospeech")
EMOTIONS = {
    "NEUTRAL": "",
    "HAPPY": "😊",
    "SAD": "😔",
    "ANGRY": "😡",
    "FEARFUL": "😰",
    "DISGUSTED": "🤢",
    "SURPRISED": "😮",
}
"""Emotion tag -> symbol; of two equally frequent ones the earlier is meant."""
EVENTS = {
    "BGM": "🎼",
    "Speech": "",
    "Applause": "👏",
    "Laughter": "😀",
    "Cry": "😭",
    "Sneeze": "🤧",
    "Breath": "",
    "Cough": "🤧",
}
"""Event tag -> symbol."""
SILENT_TAGS = ("EMO_UNKNOWN", "Sing", "Speech_Noise", "withitn", "woitn", "GBG", "Event_UNK")
NOTHING_HEARD = "❓"

_LANGUAGE_TAG = re.compile(r"<\|(?:" + "|".join(LANGUAGES) + r")\|>")
_KNOWN_TAG = re.compile(r"<\|(" + "|".join([*EMOTIONS, *EVENTS, *SILENT_TAGS]) + r")\|>")
_ANY_TAG = re.compile(r"<\|[^<>|]*\|>")
_EMOTION_SYMBOLS = frozenset(filter(None, EMOTIONS.values()))
_EVENT_SYMBOLS = frozenset(filter(None, EVENTS.values()))
_SPACED_SYMBOL = re.compile(" *([" + "".join(sorted(_EMOTION_SYMBOLS | _EVENT_SYMBOLS)) + "]) *")


def strip_tags(text: str) -> str:
    """The text without any `<|...|>` tag and without spaces at its ends."""
    return _ANY_TAG.sub("", text).strip()


def is_tag(word: str) -> bool:
    """Whether a word is one `<|...|>` tag and nothing else."""
    return _ANY_TAG.fullmatch(word) is not None


def rich_transcription_postprocess(text: str) -> str:
    """Display text: known tags become symbols (events in front, the prevailing emotion at the end) or go.

    The text is cut at its language tags; an event or emotion that goes on from one part to the next is shown once.
    The word `The.`, which the released model writes for noise, becomes a space.
    """
    text = text.replace("<|nospeech|><|Event_UNK|>", NOTHING_HEARD)
    shown, running_event = "", ""
    for part in map(_with_symbols, _LANGUAGE_TAG.split(text)):
        if not part:
            continue
        event = part[0] if part[0] in _EVENT_SYMBOLS else ""
        new = part[1:] if event and event == running_event else part
        running_event = event
        if new and shown and new[-1] in _EMOTION_SYMBOLS and new[-1] == shown[-1]:
            shown = shown[:-1]
        shown += new.strip()
    return shown.replace("The.", " ").strip()


def _with_symbols(part: str) -> str:
    """One part, its known tags replaced by symbols."""
    found = _KNOWN_TAG.findall(part)
    emotion = max(EMOTIONS, key=found.count)
    events = [symbol for name, symbol in EVENTS.items() if name in found]
    part = "".join(reversed(events)) + _KNOWN_TAG.sub("", part) + EMOTIONS[emotion]
    return _SPACED_SYMBOL.sub(r"\1", part).strip()

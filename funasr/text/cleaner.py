"""Clean-up of transcripts before they are tokenised (`--cleaner`)."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

from funasr.register import nearest_names
from funasr.utils.errors import ConfigError

_ABBREVIATIONS = {
    "mrs": "misess",
    "mr": "mister",
    "dr": "doctor",
    "st": "saint",
    "co": "company",
    "jr": "junior",
    "maj": "major",
    "gen": "general",
    "drs": "doctors",
    "rev": "reverend",
    "lt": "lieutenant",
    "hon": "honorable",
    "sgt": "sergeant",
    "capt": "captain",
    "esq": "esquire",
    "ltd": "limited",
    "col": "colonel",
    "ft": "fort",
}
_ABBREVIATION = re.compile(rf"\b({'|'.join(_ABBREVIATIONS)})\.", re.IGNORECASE)


def clean_english(text: str) -> str:
    """Abbreviations written out (`Mr.` -> `MISTER`), upper case, single spaces.  Numbers are left as they are."""
    text = _ABBREVIATION.sub(lambda match: _ABBREVIATIONS[match.group(1).lower()], text)
    return " ".join(text.upper().split())


def clean_japanese(text: str) -> str:
    """Width, dashes and long vowels unified by the `jaconv` package."""
    try:
        import jaconv
    except ImportError:
        raise ConfigError("cleaner 'jaconv' needs the jaconv package: pip install jaconv") from None
    return jaconv.normalize(text)


def clean_vietnamese(text: str) -> str:
    """Composed accents (Unicode NFC), lower case, punctuation removed, single spaces."""
    text = unicodedata.normalize("NFC", text).lower()
    return " ".join("".join(" " if unicodedata.category(c)[0] == "P" else c for c in text).split())


_CLEANERS: dict[str, Callable[[str], str]] = {
    "tacotron": clean_english,
    "jaconv": clean_japanese,
    "vietnamese": clean_vietnamese,
}

CLEANER_TYPES = ("none", *_CLEANERS)


class TextCleaner:
    """Apply the named cleaners one after another: `TextCleaner("tacotron")("Mr.  Smith") == "MISTER SMITH"`.

    `cleaner_types` is a name, several names or None; "none" does nothing.  Raises ConfigError for an unknown name.
    """

    def __init__(self, cleaner_types: str | Sequence[str] | None = None) -> None:
        names = [cleaner_types] if isinstance(cleaner_types, str) else list(cleaner_types or ())
        for name in names:
            if name not in CLEANER_TYPES:
                near = nearest_names(name, list(CLEANER_TYPES))
                hint = f" Did you mean {near[0]}?" if near else ""
                raise ConfigError(f"unknown cleaner '{name}'.{hint} Known: {', '.join(CLEANER_TYPES)}.")
        self.cleaner_types = [name for name in names if name != "none"]

    def __call__(self, text: str) -> str:
        for name in self.cleaner_types:
            text = _CLEANERS[name](text)
        return text

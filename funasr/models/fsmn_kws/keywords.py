"""From keywords as people write them to token ids."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Any

from funasr.utils.errors import ConfigError

logger = logging.getLogger(__name__)

BLANK = 0
BLANK_SYMBOL = "<blank>"
SILENCE = "<sil>"
PIECES = re.compile(r"<sil>|[A-Za-z!?,<>()']+|.", re.IGNORECASE)
PUNCTUATION = re.compile(r"[!?,<>()']")

Keywords = dict[str, tuple[int, ...]]


def parse_keywords(keywords: str | Sequence[str] | None, tokenizer: Any) -> Keywords:
    """Keyword -> token ids, in the order given.

    Args:
        keywords: a list, or one string with commas between them; spaces in it do not count.

    Raises ConfigError if there is none.
    """
    listed = keywords.split(",") if isinstance(keywords, str) else list(keywords or [])
    words = [word for word in ("".join(item.split()) for item in listed) if word]
    if not words:
        raise ConfigError('which keywords? Pass keywords="hello,computer" or a list')
    return {word: tuple(keyword_ids(word, tokenizer)) for word in words}


def keyword_ids(keyword: str, tokenizer: Any) -> list[int]:
    """Token ids of a keyword.

    It may be a token itself; else its pieces (Latin words, single characters) are looked up in lower case as tokens,
    in the lexicon, and at last character by character.  What is unknown becomes `<unk>` (or blank), with a warning.
    """
    ids: dict[str, int] = tokenizer.token_ids
    if keyword in ids:
        return [ids[keyword]]
    lexicon = getattr(tokenizer, "seg_dict", None) or {}
    unknown = ids.get(tokenizer.unk_symbol, ids.get(BLANK_SYMBOL, BLANK))
    found: list[int] = []
    missing: list[str] = []
    for piece in PIECES.findall(keyword.lower()):
        if piece == SILENCE:
            found.append(ids.get(SILENCE, BLANK))
            continue
        units = [piece] if piece in ids else lexicon.get(piece) or list(PUNCTUATION.sub("", piece))
        missing += [unit for unit in units if unit not in ids]
        found += [ids.get(unit, unknown) for unit in units]
    if missing:
        logger.warning("keyword '%s' can hardly be found: no token for %s", keyword, ", ".join(missing))
    return found

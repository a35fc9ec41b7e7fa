"""The marks a punctuation model knows: `--punc_list`, and what other marks become in its terms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from funasr.models.ct_transformer.marks import NOTHING
from funasr.utils.data_dir import read_lines
from funasr.utils.errors import ConfigError

UNKNOWN = "<unk>"
PUNC_LIST = (UNKNOWN, NOTHING, "，", "。", "？", "、")
"""The marks of the released models by id, which the pipeline of AutoModel expects."""

SENTENCE_ENDS = "。？！"

_FULL_WIDTH = {",": "，", "﹐": "，", ".": "。", "｡": "。", "?": "？", "!": "！", ";": "；", ":": "：", "､": "、"}
# As is usual since Che et al. 2016, "Punctuation Prediction for Unsegmented Transcript Based on Word Vector": the comma
# takes in colons and dashes, the full stop exclamation marks and semicolons.
_NEAREST = {"？": "。", "！": "。", "；": "。", "…": "，", "—": "，", "：": "，", "、": "，"}


def full_width(mark: str) -> str:
    """`,` as `，`; what has no full-width form as it is."""
    return _FULL_WIDTH.get(mark, mark)


def read_punc_list(source: str | Path | Sequence[Any]) -> tuple[list[str], list[float] | None]:
    """The marks by id, full-width, and the weight of each in the loss; None if no weight is given.

    Args:
        source: a file with one `mark` or `mark:weight` per line, or a list of such entries (`{mark: weight}` too).

    Raises ConfigError if the list cannot be learned: see `check_punc_list`.
    """
    where = "punc_list"
    if isinstance(source, (str, Path)):
        where = str(source)
        if not Path(source).is_file():
            raise ConfigError(f"punc_list {source} does not exist or is not a file")
        source = [line.strip() for _, line in read_lines(source) if line.strip()]
    marks: list[str] = []
    weights: list[float | None] = []
    for entry in source:
        mark, weight = _entry(entry, where)
        marks.append(full_width(mark))
        weights.append(weight)
    check_punc_list(marks, where)
    if all(weight is None for weight in weights):
        return marks, None
    return marks, [1.0 if weight is None else weight for weight in weights]


def _entry(entry: Any, where: str) -> tuple[str, float | None]:
    if isinstance(entry, dict) and len(entry) == 1:
        ((entry, number),) = entry.items()
    elif isinstance(entry, str):
        before, colon, number = entry.rpartition(":")
        if not colon or not before:
            return entry, None
        entry = before
    else:
        raise ConfigError(f"{where}: {entry!r} must be a mark, or mark:weight such as `，:1.0`")
    try:
        weight = float(number)
    except (TypeError, ValueError):
        raise ConfigError(f"{where}: the weight of '{entry}' must be a number, not '{number}'") from None
    if not 0 <= weight < float("inf"):
        raise ConfigError(f"{where}: the weight of '{entry}' must be at least 0, not {number}")
    return entry, weight


def check_punc_list(marks: Sequence[str], where: str = "punc_list") -> None:
    """Raise ConfigError if marks cannot be learned: no `_`, no sentence end, a mark twice."""
    said = f"{where} ({' '.join(marks)})"
    if NOTHING not in marks:
        raise ConfigError(f"{said} lacks '{NOTHING}', the sign for no mark")
    if not any(mark in SENTENCE_ENDS for mark in marks):
        raise ConfigError(f"{said} has no mark that ends a sentence; add 。")
    twice = sorted({mark for mark in marks if marks.count(mark) > 1})
    if twice:
        raise ConfigError(f"{said} has {', '.join(twice)} twice")


class MarkMap:
    """What each written mark becomes in the terms of a punc_list."""

    def __init__(self, punc_list: Sequence[str] = PUNC_LIST) -> None:
        self.symbols = tuple(full_width(mark) for mark in punc_list)
        check_punc_list(self.symbols)

    def __getitem__(self, mark: str) -> str:
        """The mark of the list that stands for `mark` (`，`, `!`, ...); `_` if none is near."""
        wanted = full_width(mark)
        while wanted not in self.symbols:
            if wanted not in _NEAREST:
                return NOTHING
            wanted = _NEAREST[wanted]
        return wanted

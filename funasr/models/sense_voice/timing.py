"""Times of words from the best CTC path of SenseVoiceSmall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

BLANK = 0
_SPACE = "▁"  # opens a piece that begins a word


@dataclass(frozen=True)
class Run:
    """Neighbouring frames [start, end) of a CTC path that have the same label, which is not blank."""

    label: int
    start: int
    end: int


def label_runs(path: Sequence[int]) -> list[Run]:
    """The runs of a CTC path (one label per frame); their labels are the decoded ids."""
    changes = [0, *(i for i in range(1, len(path)) if path[i] != path[i - 1]), len(path)]
    return [Run(path[a], a, b) for a, b in pairwise(changes) if b > a and path[a] != BLANK]


def run_times(runs: Sequence[Run], query_frames: int, frame_ms: float) -> list[list[int]]:
    """[start_ms, end_ms] of each run, counted from the end of the query frames.

    A frame stands half a frame earlier, as in released FunASR; so does the way through seconds, cut off to whole ms
    (2009 for 2010).
    """

    def ms(frame: int) -> int:
        return int(max((frame - query_frames - 0.5) * frame_ms / 1000.0, 0.0) * 1000.0)

    return [[ms(run.start), ms(run.end)] for run in runs]


def join_pieces(pieces: Sequence[str], times: Sequence[Sequence[int]]) -> tuple[list[str], list[list[int]]]:
    """Words and their times from sentencepiece pieces and theirs.

    A piece that begins with a space begins a word; any other is joined to the word before if both consist of ASCII
    letters, else it is a word of its own (a Chinese character, a sign, a tag).
    """
    words: list[str] = []
    spans: list[list[int]] = []
    after_space = True
    for piece, (start, end) in zip(pieces, times):
        text = piece.removeprefix(_SPACE)
        opens = after_space or text != piece
        after_space = text == ""
        if not text:
            continue
        if not opens and _is_ascii_word(text) and _is_ascii_word(words[-1]):
            words[-1] += text
            spans[-1][1] = end
        else:
            words.append(text)
            spans.append([start, end])
    return words, spans


def _is_ascii_word(text: str) -> bool:
    return text.isascii() and text.isalpha()

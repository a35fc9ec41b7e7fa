"""Texts of any length through a model that sees one window at a time, many windows at once.

A text is read in steps of `split_size` tokens.  Each step gives the model what the steps before left over plus the
next tokens; what it finds up to the last sentence end is final, the rest is left over for the next step.  So a step
depends on the one before, but only on where its left-over begins: (step, begin) determines all that follows.
Scouts therefore start at several places of a long text as if nothing were left over there.  As soon as the true walk
comes to a (step, begin) that a scout has been at, it takes over the scout's results.  Each result is one that
the plain walk would have computed; scouts only decide which are computed together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from funasr.models.ct_transformer.marks import Marks

LONG_TOKENS = 200  # from here on a comma is good enough to end a window
LONGEST_TOKENS = 1000  # from here on no mark is needed: a left-over must not grow with the text
WINDOWS_AT_ONCE = 32
MAX_SCOUTS = 15  # per text
STEPS_PER_SCOUT = 8  # at least: a scout costs the few steps until the true walk meets it


@dataclass(frozen=True)
class Window:
    """Tokens begin...end - 1 of text number `text`."""

    text: int
    begin: int
    end: int


@dataclass(frozen=True)
class Block:
    """Final marks of the tokens from `begin` on, one id per token."""

    begin: int
    marks: list[int]


Evaluate = Callable[[Sequence[Window]], Sequence[list[int]]]
"""Mark ids (one per token) of windows."""

_State = tuple[int, int]  # (step, begin)


def final_marks(found: Sequence[int], marks: Marks) -> list[int]:
    """The leading part of a window's mark ids that is final although more text follows; maybe none of them.

    It ends at the last sentence end; the first two tokens and the last one do not count.  If there is none in a long
    window, the last comma becomes one; a very long window gives up all but its last tokens as they are.
    """
    end = last_sentence_end(found, marks)
    if end is not None:
        return list(found[: end + 1])
    if len(found) > LONG_TOKENS:
        for position in range(len(found) - 2, 1, -1):
            if found[position] in marks.commas:
                return [*found[:position], marks.sentence_end]
    return list(found[:-LONG_TOKENS]) if len(found) > LONGEST_TOKENS else []


def last_sentence_end(found: Sequence[int], marks: Marks) -> int | None:
    """Position of the last sentence end, the first two tokens and the last one left out; None if there is none."""
    return next((i for i in range(len(found) - 2, 1, -1) if found[i] in marks.ends), None)


def walk_texts(lengths: Sequence[int], evaluate: Evaluate, marks: Marks, split_size: int) -> list[list[Block]]:
    """Final marks of texts with `lengths` tokens, in blocks as the steps released them.

    Args:
        evaluate: is given at most WINDOWS_AT_ONCE windows at a time.
        split_size: tokens of a step, at least 2.  Other steps give other marks.

    Raises ValueError for a smaller split_size.
    """
    if split_size < 2:
        raise ValueError(f"split_size must be at least 2, not {split_size}")
    walks = [_Walk(length, split_size) for length in lengths]
    active = [number for number, walk in enumerate(walks) if walk.proceed()]
    while active:
        # True walks first: with many texts at hand nobody needs a scout.
        wanted = [(number, walks[number].state) for number in active]
        wanted += [(number, state) for number in active for state in walks[number].scouted()]
        del wanted[WINDOWS_AT_ONCE:]
        windows = [Window(number, begin, walks[number].end_of(step)) for number, (step, begin) in wanted]
        for (number, (step, begin)), found in zip(wanted, evaluate(windows)):
            walks[number].learn((step, begin), found, marks)
        for number in {number for number, _ in wanted}:
            walks[number].move_scouts()
        active = [number for number in active if walks[number].proceed()]
    return [walk.blocks for walk in walks]


@dataclass
class _Scout:
    state: _State
    last_step: int  # until another meets it; one that nobody meets must not walk to the end of the text


@dataclass
class _Walk:
    """One text: how far its true walk has come, its scouts, and what is known of (step, begin)."""

    length: int
    split_size: int
    state: _State = (0, 0)
    blocks: list[Block] = field(default_factory=list)
    known: dict[_State, list[int]] = field(default_factory=dict)
    scouts: list[_Scout] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.steps = -(-self.length // self.split_size)
        stretches = min(MAX_SCOUTS + 1, self.steps // STEPS_PER_SCOUT)
        for number in range(1, stretches):
            first = self.steps * number // stretches
            last = min(first + 2 * (self.steps // stretches), self.steps - 1)
            self.scouts.append(_Scout((first, first * self.split_size), last))

    def end_of(self, step: int) -> int:
        return min((step + 1) * self.split_size, self.length)

    def proceed(self) -> bool:
        """Go as far as results are known; False at the end of the text."""
        while self.state in self.known:
            (step, begin), found = self.state, self.known.pop(self.state)
            if found:
                self.blocks.append(Block(begin, found))
            self.state = (step + 1, begin + len(found))
        return self.state[0] < self.steps

    def scouted(self) -> list[_State]:
        """Where the scouts ahead of the true walk want results."""
        self.scouts = [scout for scout in self.scouts if scout.state[0] > self.state[0]]
        return [scout.state for scout in self.scouts]

    def learn(self, state: _State, found: Sequence[int], marks: Marks) -> None:
        self.known[state] = list(found) if state[0] == self.steps - 1 else final_marks(found, marks)

    def move_scouts(self) -> None:
        """One step for each scout whose result has come; a scout on another's way has done its work."""
        taken = {scout.state for scout in self.scouts}
        staying = []
        for scout in self.scouts:
            step, begin = scout.state
            if scout.state in self.known:
                scout.state = (step + 1, begin + len(self.known[scout.state]))
                if scout.state in self.known or scout.state in taken or step + 1 > scout.last_step:
                    continue
            taken.add(scout.state)
            staying.append(scout)
        self.scouts = staying

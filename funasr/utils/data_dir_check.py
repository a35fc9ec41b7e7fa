"""Find what is wrong with a Kaldi-style data directory, and mend what can be mended without guessing.

`check_data_dir` names every fault; `fix_data_dir` keeps the utterances that all files know, sorts, and derives
`spk2utt` anew.  Sorted means the C locale: by the bytes of the id.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from funasr.utils.data_dir import read_lines, split_record
from funasr.utils.errors import DataError
from funasr.utils.io import write_text

UTTERANCE_TABLES = ("text", "utt2spk", "utt2category", "feats.scp", "utt2num_samples", "utt2dur", "utt2lang")
"""Tables by utterance; so is `wav.scp` unless there is a `segments` file, which makes it a table by recording."""

RECORDING_TABLES = ("wav.scp", "reco2file_and_channel", "reco2dur")
SPEAKER_TABLES = ("spk2utt", "spk2gender")

_OVERHANG_S = 0.05
"""A segment may end this much behind its recording: durations are often rounded."""

_NAMED_AT_MOST = 3


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong, where; a warning does not make the directory unusable."""

    where: str
    message: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{'warning: ' if self.warning else ''}{self.where}: {self.message}"


@dataclass
class _Table:
    """The records of one file with their line numbers."""

    path: Path
    values: dict[str, str] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)


def check_data_dir(directory: str | Path, need_text: bool = True, allow_empty_text: bool = False) -> list[Fault]:
    """Everything that is wrong with a data directory, file by file; an empty list if it is in order.

    Args:
        directory: holds `wav.scp` or `feats.scp` and other tables.
        need_text: a missing `text` file is a fault.
        allow_empty_text: an utterance without transcript is none.

    Raises DataError only if `directory` is no directory.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(f"{directory} is not a directory")
    faults: list[Fault] = []
    names = ("segments", *RECORDING_TABLES, *UTTERANCE_TABLES, *SPEAKER_TABLES)
    tables = {name: _scan(directory / name, faults) for name in names if (directory / name).is_file()}
    if "wav.scp" not in tables and "feats.scp" not in tables:
        faults.append(Fault(str(directory), "has neither wav.scp nor feats.scp"))
    if need_text and "text" not in tables:
        faults.append(Fault(str(directory), "has no text"))
    for name, table in tables.items():
        _check_values(name, table, allow_empty_text, faults)
    _check_ids(tables, faults)
    if "segments" in tables:
        _check_segments(tables, faults)
    _check_speakers(tables, faults)
    return faults


def fix_data_dir(directory: str | Path, keep_empty_text: bool = False) -> list[str]:
    """Mend a data directory in place; each file that changes is first copied to `.backup/`.

    Keeps the utterances that every table knows (in `text`: with a transcript, unless `keep_empty_text`) and, with
    `segments`, whose segment is sound; sorts; drops repeated lines; writes `spk2utt` from `utt2spk`.  Returns one line
    per changed file.  Raises DataError, and changes nothing, for what needs a decision: one id with two values, text
    that is not UTF-8, no utterance left.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise DataError(f"{directory} is not a directory")
    names = ("segments", *RECORDING_TABLES, *UTTERANCE_TABLES, "spk2gender")
    tables = {name: _read_merging(directory / name) for name in names if (directory / name).is_file()}
    by_utterance = _utterance_tables(tables)
    if not by_utterance:
        raise DataError(f"{directory} holds no table of a data directory (wav.scp, text, ...)")
    keep = set.intersection(*(set(tables[name]) for name in by_utterance))
    if "text" in tables and not keep_empty_text:
        keep = {key for key in keep if tables["text"][key]}
    if "segments" in tables:
        keep = {key for key in keep if _segment_fault(tables["segments"][key], tables) is None}
    if not keep:
        raise DataError(f"{directory}: no utterance is in all of {', '.join(by_utterance)}; nothing was changed")
    wanted = _wanted_ids(tables, keep)
    contents = {
        name: {key: table[key] for key in sorted(table) if key in wanted.get(name, keep)}
        for name, table in tables.items()
    }
    if "utt2spk" in contents:
        contents["spk2utt"] = {speaker: " ".join(keys) for speaker, keys in sorted(invert(contents["utt2spk"]).items())}
    changes = []
    for name, table in contents.items():
        text = "".join(f"{key} {value}".rstrip(" ") + "\n" for key, value in table.items())
        path = directory / name
        before = path.read_bytes() if path.is_file() else None
        if before == text.encode("utf-8"):
            continue
        if before is not None:
            _back_up(path)
        write_text(path, text)
        number = len(tables[name]) if name in tables else len(table)
        changes.append(f"{path}: {len(table)} of {number} records kept" if name in tables else f"{path}: written anew")
    return changes


def invert(utt2spk: dict[str, str]) -> dict[str, list[str]]:
    """Speaker -> utterances, in the order given."""
    speakers: dict[str, list[str]] = {}
    for key, speaker in utt2spk.items():
        speakers.setdefault(speaker, []).append(key)
    return speakers


def _scan(path: Path, faults: list[Fault]) -> _Table:
    """Read a table, noting instead of raising what `read_table` would stop at, and wrong order."""
    table = _Table(path)
    previous = ""
    try:
        for number, line in read_lines(path):
            where = f"{path}:{number}"
            key, value = split_record(line)
            if not key:
                faults.append(Fault(where, "empty line"))
                continue
            if key in table.values:
                faults.append(Fault(where, f"id '{key}' was given before, on line {table.lines[key]}"))
                continue
            if key < previous:
                faults.append(Fault(where, f"id '{key}' comes after '{previous}'; sort with LC_ALL=C"))
            previous = key
            table.values[key], table.lines[key] = value, number
    except DataError as error:  # not UTF-8; the rest of the file cannot be judged
        where, _, message = str(error).partition(": ")
        faults.append(Fault(where, message))
    return table


def _check_values(name: str, table: _Table, allow_empty_text: bool, faults: list[Fault]) -> None:
    if not table.values:
        faults.append(Fault(str(table.path), "holds no record"))
    for key, value in table.values.items():
        where = f"{table.path}:{table.lines[key]}"
        if not value and not (name == "text" and allow_empty_text):
            faults.append(Fault(where, f"'{key}' has {'an empty transcript' if name == 'text' else 'no value'}"))
        elif name in ("utt2spk", "utt2category") and len(value.split()) > 1:
            faults.append(Fault(where, f"'{key}' has more than one value: '{value}'"))


def _check_ids(tables: dict[str, _Table], faults: list[Fault]) -> None:
    """All tables by utterance have the ids of the first of them."""
    names = _utterance_tables(tables)
    for name in names[1:]:
        first, other = tables[names[0]], tables[name]
        for one, two in ((first, other), (other, first)):
            absent = [key for key in one.values if key not in two.values]
            if absent:
                message = f"{len(absent)} ids of {one.path.name} are missing: {_some(absent)}"
                faults.append(Fault(str(two.path), message))


def _check_segments(tables: dict[str, _Table], faults: list[Fault]) -> None:
    segments = tables["segments"]
    values = {name: table.values for name, table in tables.items()}
    for key, value in segments.values.items():
        fault = _segment_fault(value, values)
        if fault is not None:
            faults.append(Fault(f"{segments.path}:{segments.lines[key]}", f"'{key}': {fault}"))


def _segment_fault(value: str, tables: dict[str, dict[str, str]]) -> str | None:
    """What is wrong with `RECORDING start_s end_s`, or None."""
    fields = value.split()
    if len(fields) != 3:
        return f"'{value}' is not `RECORDING start_s end_s`"
    recording = fields[0]
    start, end = _number(fields[1]), _number(fields[2])
    if start is None or end is None or not 0.0 <= start < end:
        return f"start {fields[1]} and end {fields[2]} must be seconds with 0 <= start < end"
    if "wav.scp" in tables and recording not in tables["wav.scp"]:
        return f"recording '{recording}' is not in wav.scp"
    duration = _number(tables.get("reco2dur", {}).get(recording, ""))
    if duration is not None and end > duration + _OVERHANG_S:
        return f"ends at {end} s, but recording '{recording}' is {duration} s long"
    return None


def _check_speakers(tables: dict[str, _Table], faults: list[Fault]) -> None:
    """`spk2utt` is the inverse of `utt2spk`; ids begin with the speaker (a warning, for sorting by speaker)."""
    if "utt2spk" not in tables:
        if "spk2utt" in tables:
            faults.append(Fault(str(tables["spk2utt"].path), "there is no utt2spk beside it"))
        return
    utt2spk = tables["utt2spk"]
    speakers = invert(utt2spk.values)
    if "spk2utt" in tables:
        table = tables["spk2utt"]
        listed = {speaker: value.split() for speaker, value in table.values.items()}
        for speaker in sorted(speakers.keys() | listed.keys()):
            if sorted(speakers.get(speaker, ())) != sorted(listed.get(speaker, ())):
                where = f"{table.path}:{table.lines[speaker]}" if speaker in listed else str(table.path)
                faults.append(Fault(where, f"the utterances of speaker '{speaker}' are not those of utt2spk"))
    if "spk2gender" in tables:
        absent = [speaker for speaker in speakers if speaker not in tables["spk2gender"].values]
        if absent:
            message = f"{len(absent)} speakers of utt2spk are missing: {_some(absent)}"
            faults.append(Fault(str(tables["spk2gender"].path), message))
    stray = [key for key, speaker in utt2spk.values.items() if not key.startswith(speaker)]
    if stray:
        message = f"{len(stray)} ids do not begin with their speaker: {_some(stray)}"
        faults.append(Fault(str(utt2spk.path), message, warning=True))


def _read_merging(path: Path) -> dict[str, str]:
    """A table in which a line may be repeated word for word; DataError for one id with two values."""
    records: dict[str, tuple[str, int]] = {}
    for number, line in read_lines(path):
        key, value = split_record(line)
        before, first = records.setdefault(key, (value, number))
        if before != value:
            raise DataError(f"{path}:{number}: id '{key}' has another value on line {first}; delete one of the two")
    return {key: value for key, (value, _) in records.items() if key}


def _utterance_tables(tables: Iterable[str]) -> list[str]:
    """Names of the tables by utterance, the one that defines the ids first."""
    present = set(tables)
    first = ("segments",) if "segments" in present else ("wav.scp",)
    return [name for name in (*first, *UTTERANCE_TABLES) if name in present]


def _wanted_ids(tables: dict[str, dict[str, str]], keep: set[str]) -> dict[str, set[str]]:
    """Which ids the tables by recording and by speaker keep: those that a kept utterance needs."""
    wanted: dict[str, set[str]] = {}
    recordings = {tables["segments"][key].split()[0] for key in keep} if "segments" in tables else keep
    for name in RECORDING_TABLES:
        wanted[name] = recordings
    if "utt2spk" in tables:
        wanted["spk2gender"] = {tables["utt2spk"][key] for key in keep}
    else:
        wanted["spk2gender"] = set(tables.get("spk2gender", ()))
    return wanted


def _back_up(path: Path) -> None:
    """Copy to `.backup/NAME`, or `.backup/NAME.1`, ...: an earlier backup is never overwritten."""
    folder = path.parent / ".backup"
    folder.mkdir(exist_ok=True)
    target, number = folder / path.name, 0
    while target.exists():
        number += 1
        target = folder / f"{path.name}.{number}"
    shutil.copy2(path, target)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:_NAMED_AT_MOST]) + (", ..." if len(keys) > _NAMED_AT_MOST else "")

"""Results of a call as files: one file for each field, one line `KEY VALUE` for each input."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from funasr.utils.io import atomic_path, write_text

Result = Mapping[str, Any]

_SPACED = frozenset({"token", "token_int", "words"})  # lists that are written with spaces between their items
_SEGMENTS = "value"


def write_results(directory: str | Path, found: Sequence[Sequence[Result]], model: str = "") -> None:
    """Write results, each file whole at once.

    {k}best_recog/FIELD has the field of the k-th best result of each input: texts as they are, tokens with spaces
    between them, other lists as JSON.  The segments of a detector alone are in `text`, those of a pipeline in
    `segments`.  Arrays are {KEY}.npy, those beside the embedding or the features {KEY}.FIELD.npy.  Inputs that could
    not be read are only in `error`.  Keyword spotting writes `detect`, an aligner `tp_res/timestamp_list` and
    `tp_res/timestamp_str`, as released FunASR does.

    Args:
        found: results of each input, best first.
        model: name of the model's class.
    """
    directory = Path(directory)
    lines: dict[str, list[str]] = defaultdict(list)
    for results in found:
        for rank, result in enumerate(results, 1):
            key = str(result["key"])
            failed = {"error": result["error"]} if result.get("error") else result
            for name, value in failed.items():
                if isinstance(value, np.ndarray) or hasattr(value, "detach"):
                    _save_array(directory / _array_name(key, name), value)
                elif name != "key" and value is not None:
                    lines[_file_of(name, rank, result, model)].append(f"{key} {_written(name, value)}".rstrip())
            if model == "MonotonicAligner" and "timestamp" in result:
                lines["tp_res/timestamp_str"].append(f"{key} {_spans(result)}".rstrip())
    for file, entries in lines.items():
        write_text(directory / file, "".join(f"{line}\n" for line in entries))


def file_name(key: str) -> str:
    """A key as the name of a file in a directory and nowhere else."""
    name = key.replace("/", "_").replace("\\", "_").replace("\0", "_")
    return "_" + name if name.startswith(".") or not name else name


def _file_of(name: str, rank: int, result: Result, model: str) -> str:
    if model == "FsmnKWS" and name == "text":
        return "detect"
    if model == "MonotonicAligner" and name == "timestamp":
        return "tp_res/timestamp_list"
    if name == _SEGMENTS:
        name = "segments" if "text" in result else "text"
    return f"{rank}best_recog/{name}"


def _written(name: str, value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, (str, int)):
        return " ".join(str(value).splitlines())
    if name in _SPACED:
        return " ".join(map(str, value))
    return json.dumps(value, ensure_ascii=False, default=lambda item: np.asarray(item).tolist())


def _array_name(key: str, field: str) -> str:
    return f"{file_name(key)}.npy" if field in ("feats", "spk_embedding") else f"{file_name(key)}.{field}.npy"


def _save_array(path: Path, array: Any) -> None:
    array = array.detach().cpu().numpy() if hasattr(array, "detach") else array
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.save(file, array)


def _spans(result: Result) -> str:
    """`word start end;` for each word, in s."""
    words = str(result.get("text", "")).split()
    return "".join(f"{w} {start / 1000:.3f} {end / 1000:.3f};" for w, (start, end) in zip(words, result["timestamp"]))

"""Recorded results of whole pipelines, and how ours are held against them.

Differences that are meant, all named in the specification as bugs or limits of the recording toolkit:

* times end with the audio (there: with the last feature frame), and do not go back around a word that is glued
  together across a Chinese character;
* where two segments meet between Chinese characters, the clauses of the recording come apart from its own text;
* `merge_length_s` counts in a call, and with `fs` other than the model's the audio is resampled once;
* plain Paraformer's times are read from the right curves, and no padding leaks between the members of a batch.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from funasr import AutoModel

PARITY = Path(__file__).parents[1] / "parity"
FRAME_MS = 60
MOVED_SHARE = 0.04
MOVED_MS = 4000
SUB_MODELS = {
    "vad_model": {"vad": "FsmnVADStreaming"},
    "spk_model": {"spk": "CAMPPlus"},
    "punc_model": {"punc": "CTTransformer"},
}
"""The recorded pipelines share these models with other recordings, so there is one copy of each."""


def recorded(name: str) -> list[dict[str, Any]]:
    text = (PARITY / f"Pipeline-{name}" / "expected" / "expected.json").read_text(encoding="utf-8")
    return [
        case for case in json.loads(text)["cases"] if case.get("value") is not None and case.get("kwargs") is not None
    ]


class Pipelines:
    """The models of one recording, each combination built once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.root = PARITY / f"Pipeline-{name}"
        self._built: dict[str, AutoModel] = {}

    def model(self, **init: Any) -> AutoModel:
        made = json.dumps(init, sort_keys=True)
        if made not in self._built:
            paths = {"model": str(self.root / init["model"])}
            for kind, folders in SUB_MODELS.items():
                if kind in init:
                    folder = folders[init[kind]]
                    if self.name == "seaco" and kind == "punc_model":
                        folder = "CTTransformer-jieba"
                    paths[kind] = str(PARITY / folder / "model")
            self._built[made] = AutoModel(device="cpu", **{**init, **paths})
        return self._built[made]

    def wave(self, name: str) -> np.ndarray:
        return soundfile.read(self.root / "audio" / name, dtype="float32")[0]

    def input(self, description: Any) -> Any:
        """What a case was run on, from its description."""
        if isinstance(description, list):
            return [str(self.root / item) for item in description]
        short, long = self.wave("short.wav"), self.wave("long.flac")
        encoded = (self.root / "audio" / "short.wav").read_bytes()
        made = {
            "samples of short.wav": short,
            "torch samples of short.wav": torch.from_numpy(short),
            "bytes of the file short.wav": encoded,
            "bytes of short.wav": encoded,
            "bytes after the 44-byte header": encoded[44:],
            "short, short[:20000], short[5000:40000]": [short, short[:20000], short[5000:40000]],
            "short[::2]": short[::2],
            "np.repeat(short,3)": np.repeat(short, 3),
            "long[:160000]": long[:160000],
            "long[:160000:2]": long[:160000:2],
        }
        return made[description] if description in made else str(self.root / description)


def near(ours: list[int], theirs: list[int]) -> bool:
    """The same span, but for an end that the recording puts behind the end of the audio."""
    return abs(ours[0] - theirs[0]) <= 1 and -1 <= theirs[1] - ours[1] <= FRAME_MS


def check_times(ours: list[list[int]], theirs: list[list[int]]) -> None:
    """Spans of words: all as recorded, but for the few around glued words, which are moved by a word or two."""
    assert len(ours) == len(theirs)
    moved = [(one, other) for one, other in zip(ours, theirs) if not near(one, other)]
    assert len(moved) <= MOVED_SHARE * len(ours) + 4
    assert all(abs(one[0] - other[0]) <= MOVED_MS for one, other in moved), moved


def flat(text: str) -> str:
    """Text for comparing what marks stand where: no spaces, no capitals, one width, and the last mark a full stop."""
    text = re.sub(r"\s", "", text).lower()
    for mark, wide in ((",", "，"), ("、", "，"), (".", "。"), ("?", "？")):
        text = text.replace(mark, wide)
    return text.rstrip("，。")


def check_sentences(ours: dict[str, Any], theirs: dict[str, Any], timed: bool) -> None:
    """`sentence_info` of one result."""
    mine, wanted = ours["sentence_info"], theirs["sentence_info"]
    assert len(mine) == len(wanted)
    by_clause = bool(wanted) and "sentence" not in wanted[0]
    agrees = not by_clause or flat("".join(s["text"] for s in wanted)) == flat(theirs["text"])
    if by_clause:
        assert flat("".join(s["text"] for s in mine)) == flat(ours["text"])
    for one, other in zip(mine, wanted):
        assert set(one) == set(other)
        assert one.get("spk") == other.get("spk")
        if agrees:
            assert {k: v for k, v in one.items() if isinstance(v, str)} == {
                k: v for k, v in other.items() if isinstance(v, str)
            }
        if timed:
            assert abs(one["start"] - other["start"]) <= MOVED_MS and abs(one["end"] - other["end"]) <= MOVED_MS
            check_times(one["timestamp"], other["timestamp"])


def check_result(ours: dict[str, Any], theirs: dict[str, Any], timed: bool = True) -> None:
    """One result of a recorded case; `timed`: whether the recorded times are right."""
    assert set(ours) == set(theirs)
    for name in ("key", "text", "raw_text"):
        if name in theirs and not str(theirs[name]).startswith("rand_key"):
            assert ours[name] == theirs[name]
    if "timestamp" in theirs:
        assert len(ours["timestamp"]) == len(theirs["timestamp"])
        if timed:
            check_times(ours["timestamp"], theirs["timestamp"])
    if "spk_embedding_center" in theirs:
        np.testing.assert_allclose(ours["spk_embedding_center"], theirs["spk_embedding_center"], atol=1e-3)
    if "sentence_info" in theirs:
        check_sentences(ours, theirs, timed)

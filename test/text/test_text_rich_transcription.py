"""Tag clean-up: recorded cases of released FunASR 1.4.16, and the rules one by one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from funasr.text.rich_transcription import is_tag, rich_transcription_postprocess, strip_tags

RECORDED = Path(__file__).parents[1] / "parity" / "text-postprocess" / "expected" / "expected.json"


@pytest.mark.parametrize("case", json.loads(RECORDED.read_text(encoding="utf-8"))["rich_transcription_postprocess"])
def test_recorded(case: dict[str, str]) -> None:
    assert rich_transcription_postprocess(case["input"]) == case["output"]


@pytest.mark.parametrize(
    "text, shown",
    [
        ("<|zh|><|BGM|>一<|zh|><|BGM|>二<|en|><|BGM|>three", "🎼一二three"),  # one event that goes on
        ("<|zh|><|BGM|>一<|zh|>二<|zh|><|BGM|>三", "🎼一二🎼三"),
        ("<|zh|><|HAPPY|>一<|zh|><|HAPPY|>二<|zh|><|SAD|>三", "一二😊三😔"),
        ("<|HAPPY|><|NEUTRAL|>x", "x"),  # neutral wins a tie
        ("<|SAD|><|HAPPY|>x", "x😊"),  # then the earlier in the list
        ("<|unheard_of|>x", "<|unheard_of|>x"),
    ],
)
def test_rules(text: str, shown: str) -> None:
    assert rich_transcription_postprocess(text) == shown


def test_tags_can_be_taken_out_altogether() -> None:
    assert strip_tags("<|zh|><|HAPPY|><|unheard_of|> 你好 a < b|> c") == "你好 a < b|> c"
    assert is_tag("<|zh|>") and not is_tag("zh") and not is_tag("<|zh|>x")

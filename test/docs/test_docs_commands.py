"""What the documentation shows exists: options, modules, scripts and files."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

from funasr.bin import asr_inference
from funasr.cli import get_parser
from funasr.tasks.asr import ASRTask

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


def sources(*patterns: str) -> list[Path]:
    return [path for pattern in patterns for path in ROOT.glob(pattern)]


@cache
def known_options() -> set[str]:
    """Options that parsers put together, those that stand in the sources of commands, and those of shell scripts."""
    parsers = (ASRTask.get_parser(), asr_inference.get_parser(), get_parser())
    names = {option for parser in parsers for action in parser._actions for option in action.option_strings}
    for path in sources("funasr/bin/*.py", "funasr/tasks/*.py", "egs/*/*/*.py", "egs/*/*/local/*.py"):
        names |= set(re.findall(r'"(--[a-z][a-z_]*)"', path.read_text(encoding="utf-8")))
    for path in sources("egs/common/*.sh", "egs/common/tasks/*.sh", "egs/*/*/local/*.sh"):
        variables = re.findall(r"^([a-z_]+)=", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        names |= {f"--{name}" for name in variables}
    return names | {f"--{task}_train_config" for task in ("vad", "punc", "sv", "kws")} | {"--help"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_exist(page: Path) -> None:
    shown = set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", page.read_text(encoding="utf-8")))
    assert shown <= known_options(), shown - known_options()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_modules_and_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for module in set(re.findall(r"-m (funasr[\w.]+)", text)):
        assert importlib.util.find_spec(module), module
    tracked = re.findall(r"(?<![\w/])((?:egs|docs|benchmarks|funasr)/[\w./-]+\.(?:sh|md|py|yaml))", text)
    tracked += re.findall(r"\]\(([\w./]+)\)", text)
    for name in set(tracked):
        here = (page.parent / name).exists() or (ROOT / name).exists()
        assert here or "mine" in name, f"{page.name}: {name}"


@pytest.mark.parametrize("recipe", sorted(ROOT.glob("egs/*/*/run.sh")), ids=lambda path: path.parts[-3])
def test_recipes_show_their_options(recipe: Path) -> None:
    shown = subprocess.run(["bash", recipe, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--stage" in shown and "--corpus_dir" in shown

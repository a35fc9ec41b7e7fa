"""parse_options.sh: every variable set before it is an option, and nothing else is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

COMMON = Path(__file__).parents[2] / "egs" / "common"
SCRIPT = """#!/usr/bin/env bash
# What the script is for.
#   --train_set NAME  a set
set -euo pipefail
train_set=train
nj=4
use_cmvn=true
tag=
. "{common}/parse_options.sh"
echo "train_set=${{train_set}} nj=${{nj}} use_cmvn=${{use_cmvn}} tag=${{tag}} rest=$*"
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "some_script.sh"
    path.write_text(SCRIPT.format(common=COMMON))
    return path


def run(script: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", str(script), *words], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "train_set=train nj=4 use_cmvn=true tag= rest="),
        (["--nj", "8", "--train-set", "a b"], "train_set=a b nj=8 use_cmvn=true tag= rest="),
        (["--nj=8", "--use_cmvn=false"], "train_set=train nj=8 use_cmvn=false tag= rest="),
        (["--tag", "x", "more", "--nj"], "train_set=train nj=4 use_cmvn=true tag=x rest=more --nj"),
        (["--tag", "", "--", "--more"], "train_set=train nj=4 use_cmvn=true tag= rest=--more"),
        (["--tag", "--max_epoch 3"], "train_set=train nj=4 use_cmvn=true tag=--max_epoch 3 rest="),
        (["--tag", "$(touch x) `id` 'q'"], "train_set=train nj=4 use_cmvn=true tag=$(touch x) `id` 'q' rest="),
    ],
)
def test_options_set_variables(script: Path, words: list[str], expected: str) -> None:
    done = run(script, *words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == expected.strip()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tran_set", "x"], "unknown option --tran_set. Did you mean --train_set?"),
        (["--PATH", "x"], "unknown option --PATH"),
        (["--nj"], "--nj needs a value"),
        (["--use_cmvn", "yes"], "--use_cmvn is true or false, not 'yes'"),
    ],
)
def test_wrong_options_are_errors(script: Path, words: list[str], message: str) -> None:
    done = run(script, *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stdout == ""


def test_help_prints_the_head_of_the_script(script: Path) -> None:
    done = run(script, "--help")
    assert done.returncode == 0
    assert done.stdout == "What the script is for.\n  --train_set NAME  a set\n"


@pytest.mark.parametrize("recipe", sorted(path.parent for path in COMMON.parent.glob("*/*/run.sh")))
def test_recipes_explain_themselves_and_refuse_typos(recipe: Path, tmp_path: Path) -> None:
    def call(*words: str) -> subprocess.CompletedProcess[str]:
        words = (str(recipe / "run.sh"), *words)
        return subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)

    done = call("--help")
    assert done.returncode == 0 and "--stop_stage" in done.stdout
    done = call("--stop_stag", "3")
    assert done.returncode == 1 and "Did you mean --stop_stage" in done.stderr
    if (recipe / "conf" / "train.yaml").exists() or list((recipe / "conf").glob("train_*.yaml")):
        done = call("--train_config", "none.yaml", "--stop_stage", "0")
        assert done.returncode == 1 and "none.yaml" in done.stderr
    done = call("--corpus_dir", "nowhere", "--stop_stage", "0")
    assert done.returncode == 1 and "nowhere" in done.stderr

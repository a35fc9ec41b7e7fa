"""A task that is not the package's: how its processes start, what may be empty, and which file goes with the model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from funasr.datasets.dataset import Damaged, SpeechTextDataset
from funasr.register import tables
from funasr.tasks.asr import ASRTask
from funasr.tasks.run import own_code, program_arguments
from funasr.train.class_choices import ClassChoices
from funasr.utils.errors import ConfigError

PART = """
from torch import nn
from funasr.register import tables


@tables.register("normalize_classes", "{name}")
class {name}(nn.Module):
    pass
"""


def test_a_program_is_started_again_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["kws_task.py", "--nproc", "2"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "utf8", "kws_task.py", "--nproc", "2"])
    assert program_arguments(ASRTask, ["--nproc", "2"]) == ["-X", "utf8", "kws_task.py", "--nproc", "2"]


def test_a_task_called_with_options_is_imported() -> None:
    words = program_arguments(ASRTask, ["--max_epoch", "zero"])
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "argument --max_epoch" in done.stderr


def test_a_task_that_cannot_be_imported_says_so() -> None:
    class HereTask(ASRTask):
        """Known to this function alone."""

    with pytest.raises(ConfigError, match="HereTask"):
        program_arguments(HereTask, ["--nproc", "2"])


def test_what_may_be_empty_is_not_damaged(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a 1\nb 2\n")
    triplets = [(str(tmp_path / "text"), "text", "text_int")]

    def drop(uid: str, values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"text": values["text"][1:]}

    assert isinstance(SpeechTextDataset(triplets, drop)["a"], Damaged)
    _, values = SpeechTextDataset(triplets, drop, may_be_empty=("text",))["a"]  # type: ignore[misc]
    assert values["text"].shape == (0,)


def test_the_file_of_ones_own_parts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("OwnA", "OwnB"):
        (tmp_path / f"{name}.py").write_text(PART.format(name=name))
        tables.load_file(tmp_path / f"{name}.py")
    args = ASRTask.get_parser().parse_args(["--normalize", "OwnA"])
    assert own_code(ASRTask, args) == tmp_path / "OwnA.py"
    assert own_code(ASRTask, ASRTask.get_parser().parse_args([])) is None

    class TwoTask(ASRTask):
        """Takes parts of two files."""

        class_choices_list = (*ASRTask.class_choices_list, ClassChoices("second", tables.normalize_classes))

    args = TwoTask.get_parser().parse_args(["--normalize", "OwnA", "--second", "OwnB"])
    assert own_code(TwoTask, args) is None
    assert "OwnA.py" in caplog.text and "OwnB.py" in caplog.text


def test_a_copy_of_a_file_that_is_loaded_is_not_loaded_again(tmp_path: Path) -> None:
    (tmp_path / "first.py").write_text(PART.format(name="OwnC"))
    (tmp_path / "copy.py").write_text(PART.format(name="OwnC"))
    tables.load_file(tmp_path / "first.py")
    before = tables.normalize_classes["OwnC"]
    tables.load_file(tmp_path / "copy.py")
    assert tables.normalize_classes["OwnC"] is before

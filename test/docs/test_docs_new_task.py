"""docs/new_task.md from its first command to its last, on a corpus where each word is two tones."""

from __future__ import annotations

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from funasr import AutoModel
from funasr.utils.config import parse_yaml
from funasr.utils.errors import ConfigError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "new_task.md").read_text(encoding="utf-8")
RECIPE = ROOT / "egs" / "wake_words" / "kws"
FS = 16000
WORDS = {"alexa": (300, 900), "computer": (1400, 3000), "jarvis": (2000, 450)}
QUICK = (
    " --num_threads 1 --num_workers 0 --scheduler_conf warmup_steps=5 --optim_conf lr=0.003 --batch_size 4"
    " --use_tensorboard false --use_matplotlib false --keep_nbest_models 2"
)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def commands(word: str) -> list[str]:
    """The commands of the page that hold `word`."""
    lines = [line for block in blocks("sh") for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if word in line]


def record(path: Path, tones: tuple[int, ...], rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(FS // 5) / FS
    pieces = [0.3 * np.sin(2 * np.pi * tone * rng.uniform(0.97, 1.03) * time) for tone in tones]
    # The word begins anywhere: CTC would else learn to answer before it, from which training seldom comes back.
    before, after = (np.zeros(int(seconds * FS)) for seconds in rng.uniform(0.3, 0.6, 2))
    wave = np.concatenate([before, *pieces, after])
    soundfile.write(path, wave + rng.normal(0, 0.003, len(wave)), FS)


def shell(command: str, cwd: Path, **variables: str) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    done = subprocess.run(
        ["bash", "-ec", command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-3000:])
    return done.stdout


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the recipe, away from the package, with a corpus of keywords and other speech."""
    root = tmp_path_factory.mktemp("toolkit")
    shutil.copytree(ROOT / "egs" / "common", root / "egs" / "common")
    made = shutil.ignore_patterns("data", "dump", "exp", "downloads", "__pycache__")
    shutil.copytree(RECIPE, root / "egs" / "wake_words" / "kws", ignore=made)
    for name in ("funasr", "tools"):
        (root / name).symlink_to(ROOT / name)
    directory = root / "egs" / "wake_words" / "kws"
    rng = np.random.default_rng(0)
    for word, tones in WORDS.items():
        for number in range(20):
            record(directory / "corpora" / "wake_words" / "audio" / word / f"{number}.wav", tones, rng)
    for who in range(20):
        path = directory / "corpora" / "LibriSpeech" / "dev" / f"{who}" / "1" / f"{who}-1-0000.wav"
        record(path, tuple(rng.choice([300, 600, 900, 1400, 2000], 2, replace=False)), rng)
    talk = directory / "corpora" / "wake_words" / "audio" / "computer" / "19.wav"
    shutil.copy(talk, directory / "talk.wav")
    shell(commands("local/data.sh")[0], directory)
    shell(commands("compute_cmvn")[0], directory)
    return directory


@pytest.fixture(scope="module")
def trained(here: Path) -> Path:
    (train,) = commands("--output_dir exp/kws --cmvn_file")
    small = (
        '--encoder_conf "{fsmn_layers: 2, input_affine_dim: 64, linear_dim: 128, proj_dim: 64, output_affine_dim: 64}"'
    )
    shell(f"{train} {QUICK} --max_epoch 30 {small}", here)
    return here / "exp" / "kws"


def test_the_page_shows_the_files_as_they_are() -> None:
    assert blocks("python")[0] == (RECIPE / "kws_task.py").read_text(encoding="utf-8")
    assert blocks("yaml")[0] == (RECIPE / "conf" / "train.yaml").read_text(encoding="utf-8")


def test_data_sets_share_no_recording(here: Path) -> None:
    sets = [set((here / "data" / name / "text").read_text().splitlines()) for name in ("train", "dev", "test")]
    assert not sets[0] & sets[1] and not sets[1] & sets[2] and not sets[0] & sets[2]
    assert sum(map(len, sets)) == 80
    for lines in sets:
        assert {line.split()[1] for line in lines} == {*WORDS, "<other>"}


def test_print_config(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(here)
    (show,) = commands("--print_config")
    task = runpy.run_path("kws_task.py")["KWSTask"]
    task.main(cmd=shlex.split(show)[2:])
    shown = parse_yaml(capsys.readouterr().out)
    assert shown["keyword"] == list(WORDS) and shown["model"] == "FsmnKWS" and shown["encoder_conf"]["rorder"] == 2
    with pytest.raises(SystemExit) as raised:
        task.main(cmd=["--keywrd", "alexa"])
    assert raised.value.code == 2 and "did you mean --keyword" in capsys.readouterr().err


def test_resume(here: Path, trained: Path) -> None:
    (resume,) = commands("--resume true")
    shell(resume.replace("epoch 18", "epoch 31"), here)
    log = (trained / "log" / "train.log").read_text()
    assert "31epoch results" in log and log.count(" 1epoch results") == 1


def test_keywords_are_found_and_scored(here: Path, trained: Path) -> None:
    spot, score = commands("local/spot.py")[0], commands("local/score.py")[0]
    shell(f"{spot} --num_workers 0", here)
    shell(f"{score} --output result.json", here)
    ((row,),) = [table["rows"] for table in json.loads((here / "result.json").read_text())["tables"]]
    assert row[0] == "18" and float(row[-1].split()[0]) > 70, row


def test_the_directory_is_a_model(here: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not (trained / "model.py").exists()  # all classes are the package's
    monkeypatch.chdir(here)
    names: dict[str, Any] = {}
    exec(blocks("python")[1], names)
    model = names["model"]
    (result,) = model.generate("talk.wav", keywords="computer, jarvis")
    assert result["text"].startswith("detected computer ")
    assert model.generate("talk.wav", keywords=["jarvis"])[0]["text"] == "rejected"


def test_a_part_of_ones_own_in_two_processes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers run the user's file again, and it travels with the model."""
    before = "\n\nclass KeywordPreprocessor"
    source = (here / "kws_task.py").read_text()
    part = blocks("python")[2]
    (here / "own.py").write_text(source.replace(before, f"\n{part}{before}"))
    (train,) = commands("--output_dir exp/kws --cmvn_file")
    command = train.replace("kws_task.py", "own.py").replace("exp/kws", "exp/gru")
    (encoder,) = (block for block in blocks("yaml") if "gru" in block)
    config = (here / "conf" / "train.yaml").read_text()
    (here / "gru.yaml").write_text(re.sub(r"^encoder:.*?\n\n", f"{encoder}\n", config, flags=re.DOTALL | re.MULTILINE))
    command = command.replace("conf/train.yaml", "gru.yaml")
    shell(f"{command} {QUICK} --max_epoch 1 --nproc 2", here)
    assert (here / "exp" / "gru" / "model.py").read_text() == (here / "own.py").read_text()
    with pytest.raises(ConfigError, match=r"model\.py would run.*trust_remote_code=True"):
        AutoModel(model=here / "exp" / "gru", device="cpu")
    (use,) = [block for block in blocks("python") if 'model="exp/gru"' in block]
    monkeypatch.chdir(here)
    names: dict[str, Any] = {"AutoModel": AutoModel}
    exec(use, names)
    assert names["model"].generate("talk.wav", keywords="jarvis")[0]["text"]


@pytest.mark.slow
def test_the_recipe(here: Path) -> None:
    (run,) = commands("./run.sh")
    shell(f"{run} --nj 1 --num_threads 1 --train_args '--max_epoch 20 {QUICK}'", here)
    assert list(here.glob("exp/kws_*/*.tar.gz"))
    (results,) = here.glob("exp/kws_*/RESULTS.md")
    assert "Keyword spotting (%)" in results.read_text()

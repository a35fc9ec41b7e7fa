"""From a command line to a model directory that AutoModel and the decoding command read alike."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from funasr import AutoModel
from funasr.bin import asr_inference
from funasr.tasks.asr import ASRTask
from funasr.utils.config import read_yaml


@pytest.fixture(scope="module")
def experiment(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exp")
    ASRTask.main(cmd=[*options, "--output_dir", str(directory), "--max_epoch", "20"])
    return directory


def lines(path: Path) -> dict[str, str]:
    return dict(line.partition(" ")[::2] for line in path.read_text().splitlines())


def test_training_writes_a_model_directory_that_works(experiment: Path, corpus: Path) -> None:
    for name in ("config.yaml", "configuration.json", "model.pt", "checkpoint/last.pt", "log/train.log"):
        assert (experiment / name).is_file(), name
    text = lines(corpus / "dev" / "text")
    results = AutoModel(model=experiment, device="cpu").generate(str(corpus / "dev" / "wav.scp"), batch_size=4)
    right = sum(result["text"] == text[result["key"]] for result in results)
    assert right >= 10, f"{right} of {len(text)} right"


def test_decoding_command_and_automodel_agree(experiment: Path, corpus: Path, tmp_path: Path) -> None:
    asr_inference.main(
        [
            "--asr_train_config", str(experiment / "config.yaml"), "--output_dir", str(tmp_path), "--batch_size", "5",
            "--data_path_and_name_and_type", f"{corpus}/dev/wav.scp,speech,sound", "--num_workers", "0", "--nbest", "2",
        ]
    )  # fmt: skip
    decoded = lines(tmp_path / "1best_recog" / "text")
    model = AutoModel(model=experiment, device="cpu")
    alone = {r["key"]: r["text"] for r in model.generate(str(corpus / "dev" / "wav.scp"))}
    assert decoded == alone
    ids = lines(tmp_path / "1best_recog" / "token_int")
    scores, second = (lines(tmp_path / f"{rank}best_recog" / "score") for rank in (1, 2))
    assert all(len(ids[key].split()) == len(text.split()) for key, text in decoded.items())
    assert all(float(scores[key]) >= float(second[key]) for key in second)


def test_wav_scp_entries_that_cannot_be_read_are_left_out(
    experiment: Path, corpus: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = (corpus / "dev" / "wav.scp").read_text().splitlines()[:2]
    (tmp_path / "wav.scp").write_text("\n".join([good[0], f"zz-missing {tmp_path}/none.wav", good[1]]) + "\n")
    asr_inference.main(
        [
            "--asr_train_config", str(experiment / "config.yaml"), "--output_dir", str(tmp_path / "out"),
            "--data_path_and_name_and_type", f"{tmp_path}/wav.scp,speech,sound", "--num_workers", "0",
        ]
    )  # fmt: skip
    assert set(lines(tmp_path / "out" / "1best_recog" / "text")) == {line.split()[0] for line in good}


def test_config_yaml_reproduces_the_run(experiment: Path, tmp_path: Path) -> None:
    ASRTask.main(cmd=["--config", str(experiment / "config.yaml"), "--output_dir", str(tmp_path)])
    first, second = (torch.load(d / "model.pt", weights_only=True) for d in (experiment, tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_killed_and_resumed_run_ends_bit_equal(
    options: list[str], kill_at_first_checkpoint: Callable[..., None], tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = [*options, "--save_interval_steps", "1", "--max_epoch", "4", "--resume", "true"]
    ASRTask.main(cmd=[*command, "--output_dir", str(whole)])
    program = [sys.executable, "-m", "funasr.bin.asr_train", *command, "--output_dir", str(broken)]
    kill_at_first_checkpoint(program, broken)
    assert not (broken / "model.pt").exists()
    ASRTask.main(cmd=[*command, "--output_dir", str(broken)])
    first, second = (torch.load(d / "checkpoint" / "last.pt", weights_only=True)["model"] for d in (whole, broken))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_on_cpu(options: list[str], corpus: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "funasr.bin.asr_train", *options, "--output_dir", str(tmp_path), "--nproc", "2"]
    subprocess.run([*program, "--max_epoch", "1"], check=True, capture_output=True, timeout=120)
    assert AutoModel(model=tmp_path, device="cpu").generate(str(corpus / "dev" / "wav.scp"))


def test_damaged_utterances_are_skipped_and_named(options: list[str], corpus: Path, tmp_path: Path) -> None:
    data = Path(shutil.copytree(corpus / "train", tmp_path / "train"))
    names = sorted((data / "wav").iterdir())
    names[0].write_bytes(names[0].read_bytes()[:1000])  # truncated
    names[1].write_text("not audio")
    scp = (data / "wav.scp").read_text().replace(str(corpus / "train"), str(data))
    text = (data / "text").read_text().splitlines()
    text[2] = text[2].split()[0]  # empty transcript
    (data / "wav.scp").write_text(scp)
    (data / "text").write_text("\n".join(text) + "\n")
    changed = [word.replace(str(corpus / "train"), str(data)) for word in options]
    ASRTask.main(cmd=[*changed, "--output_dir", str(tmp_path / "exp"), "--max_epoch", "1"])
    log = (tmp_path / "exp" / "log" / "train.log").read_text()
    for index in range(3):
        assert f"train-{index:03d} is skipped" in log
    assert "3 of 200 utterances were damaged and skipped" in log


def test_feature_input_needs_no_frontend(options: list[str], corpus: Path, tmp_path: Path) -> None:
    import numpy as np

    rng = np.random.default_rng(0)
    for name in ("train", "dev"):
        (tmp_path / name).mkdir()
        rows = []
        for uid in lines(corpus / name / "text"):
            np.save(tmp_path / name / f"{uid}.npy", rng.normal(size=(30, 24)).astype(np.float32))
            rows.append(f"{uid} {tmp_path / name / uid}.npy\n")
        (tmp_path / name / "feats.scp").write_text("".join(rows))
    words = [
        w.replace(f"{corpus}/train/wav.scp,speech,sound", f"{tmp_path}/train/feats.scp,speech,npy") for w in options
    ]
    words = [w.replace(f"{corpus}/dev/wav.scp,speech,sound", f"{tmp_path}/dev/feats.scp,speech,npy") for w in words]
    ASRTask.main(cmd=[*words, "--input_size", "24", "--output_dir", str(tmp_path / "exp"), "--max_epoch", "1"])
    assert read_yaml(tmp_path / "exp" / "config.yaml")["input_size"] == 24


def test_collect_stats(options: list[str], corpus: Path, tmp_path: Path) -> None:
    ASRTask.main(cmd=[*options, "--output_dir", str(tmp_path), "--collect_stats", "true"])
    shapes = lines(tmp_path / "train" / "speech_shape")
    assert set(shapes) == set(lines(corpus / "train" / "text"))
    assert (tmp_path / "train" / "feats_stats.npz").is_file() and (tmp_path / "valid" / "text_shape").is_file()

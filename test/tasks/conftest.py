"""A corpus that a tiny model learns in seconds: each word is a tone of its own, in noise."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

WORDS = {"low": 300.0, "mid": 900.0, "high": 2200.0}
FS = 8000


def make_set(directory: Path, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    (directory / "wav").mkdir(parents=True)
    scp, text = [], []
    for index in range(count):
        words = rng.choice(list(WORDS), size=rng.integers(1, 4)).tolist()
        pieces = [np.zeros(800)]
        for word in words:
            time = np.arange(int(FS * rng.uniform(0.12, 0.18))) / FS
            pieces += [0.3 * np.sin(2 * np.pi * WORDS[word] * rng.uniform(0.97, 1.03) * time), np.zeros(500)]
        wave = np.concatenate(pieces) + rng.normal(0, 0.005, sum(map(len, pieces)))
        name = f"{directory.name}-{index:03d}"
        soundfile.write(directory / "wav" / f"{name}.wav", wave, FS)
        scp.append(f"{name} {directory / 'wav' / name}.wav\n")
        text.append(f"{name} {' '.join(words)}\n")
    (directory / "wav.scp").write_text("".join(scp))
    (directory / "text").write_text("".join(text))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with train/, dev/ (Kaldi style) and tokens.txt."""
    root = tmp_path_factory.mktemp("corpus")
    make_set(root / "train", 200, seed=1)
    make_set(root / "dev", 12, seed=2)
    (root / "tokens.txt").write_text("<blank>\n<s>\n</s>\nhigh\nlow\nmid\n<unk>\n")
    return root


@pytest.fixture(scope="session")
def options(corpus: Path) -> list[str]:
    """Options of a tiny hybrid model on this corpus, without --output_dir."""
    words = [
        "--token_list", f"{corpus}/tokens.txt", "--token_type", "word",
        "--frontend", "wav_frontend", "--frontend_conf", "fs=8000", "--frontend_conf", "n_mels=24",
        "--frontend_conf", "dither=0.0", "--frontend_conf", "lfr_m=3", "--frontend_conf", "lfr_n=3",
        "--normalize", "utterance_mvn",
        "--encoder", "transformer", "--encoder_conf", "{output_size: 32, attention_heads: 2, linear_units: 64}",
        "--encoder_conf", "num_blocks=2", "--encoder_conf", "input_layer=linear", "--encoder_conf", "dropout_rate=0.05",
        "--decoder", "transformer", "--decoder_conf", "{attention_heads: 2, linear_units: 64, num_blocks: 1}",
        "--model_conf", "ctc_weight=0.5", "--optim_conf", "lr=4e-3", "--batch_type", "unsorted", "--batch_size", "12",
        "--max_epoch", "2", "--keep_nbest_models", "2", "--num_workers", "0", "--use_tensorboard", "false",
        "--use_matplotlib", "false", "--num_threads", "1",
    ]  # fmt: skip
    for phase, name in (("train", "train"), ("valid", "dev")):
        for entry in ("wav.scp,speech,sound", "text,text,text"):
            words += [f"--{phase}_data_path_and_name_and_type", f"{corpus}/{name}/{entry}"]
    return words


@pytest.fixture
def kill_at_first_checkpoint() -> Callable[[list[str], Path], None]:
    """Run a training program that writes to a directory, and kill it when its first state is there."""

    def run(program: list[str], directory: Path) -> None:
        with subprocess.Popen(program, stderr=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 90
            while not (directory / "checkpoint" / "last.pt").is_file() and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)

    return run

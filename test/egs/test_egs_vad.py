"""The VAD recipes: made noise and recordings are the same on every run, sets are disjoint, labels fit the audio."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from funasr.datasets.vad_labels import read_label_table

ROOT = Path(__file__).parents[2]
LOCAL = ROOT / "egs" / "mini" / "vad" / "local"
PREPARE = ROOT / "egs" / "ami" / "vad" / "local" / "prepare.py"


def call(script: Path, cwd: Path, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(script), *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, env=environment)


def digest(directory: Path) -> dict[str, str]:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def table(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines())


def test_made_noise_is_the_same_on_every_run_and_audible(tmp_path: Path) -> None:
    words = ("--output_dir", "noise", "--count", 12, "--seconds", 2)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        done = call(LOCAL / "make_noise.py", tmp_path / name, *words)
        assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "a") == digest(tmp_path / "b")
    waves = table(tmp_path / "a" / "noise" / "wav.scp")
    assert len(waves) == 12 and len({name.split("-")[0] for name in waves}) == 6
    for path in waves.values():
        samples, rate = soundfile.read(tmp_path / "a" / path)
        assert (len(samples), rate) == (32000, 16000) and np.isfinite(samples).all()
        assert np.abs(samples).max() == pytest.approx(0.5, abs=0.01)


def test_recordings_have_pauses_and_labels(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    words = ("--num_train", 2, "--num_dev", 2, "--num_test", 6, "--seconds", 4, "--nj", 2)
    done = call(LOCAL / "make_recordings.py", tmp_path, *words)
    assert done.returncode == 0, done.stderr
    speakers = set()
    for name in ("train", "dev", "test", "noise"):
        labels, waves = (tmp_path / "data" / name / file for file in ("speech_segments", "wav.scp"))
        assert len(table(waves)) == {"train": 2, "dev": 2, "test": 6, "noise": 6}[name]
        for key, spans in read_label_table(labels).items():
            samples, rate = soundfile.read(tmp_path / table(waves)[key])
            assert rate == 16000 and bool(spans) == (name != "noise")
            if name != "train":
                continue
            inside = np.zeros(len(samples), dtype=bool)
            for start, end in spans:
                inside[int(start * rate) : int(end * rate)] = True
            assert np.square(samples[inside]).mean() > 1e4 * np.square(samples[~inside]).mean()
        speakers |= {(name, speaker) for speaker in table(tmp_path / "data" / name / "utt2spk").values()}
    voices = [speaker for _, speaker in speakers]
    assert len(voices) == len(set(voices)), "no voice is in two sets"


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """The corpora that the recipe needs, in small; recordings differ, so that a set can be told from another."""
    root, rng = tmp_path / "corpora", np.random.default_rng(0)

    def write(path: Path, seconds: float = 3.0) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        wave = 0.1 * rng.standard_normal(int(seconds * 16000)) * (np.arange(int(seconds * 16000)) // 8000 % 2)
        soundfile.write(path, wave, 16000)

    for subset, names in (("train", [f"trñ0{i}" for i in range(10)]), ("development", ["dev00", "dev01"])):
        for name in names:
            write(root / "ami" / f"{name.replace('ñ', 'n')}.flac")
        lines = [f"SPEAKER {name} 1 0.5 1.0 <NA> <NA> x <NA> <NA>\n" for name in names]
        (root / "ami" / f"debug.{subset}.rttm").write_text("".join(lines), encoding="utf-8")
    for number in range(1, 4):
        for source, take in ((10, "A"), (11, "A"), (11, "B"), (12, "A")):
            write(root / "ESC" / f"00{number} - Kind {number}" / f"3-{number}{source}-{take}.ogg")
    for title in ("a trumpet", "Hungarian_Dance", "song"):
        write(root / "music" / f"{title}.ogg", 6.0)
    for speaker in ("19", "26"):
        write(root / "LibriSpeech" / "train" / speaker / "198" / f"{speaker}-198-0000.flac")
    return root


def test_held_back_noise_is_in_no_other_set(corpora: Path, tmp_path: Path) -> None:
    done = call(PREPARE, tmp_path, "--corpus_dir", corpora, "--ami_copies", 2)
    assert done.returncode == 0, done.stderr
    data = tmp_path / "data"
    sets = {name: read_label_table(data / name / "speech_segments") for name in ("train", "valid", "dev", "noise")}
    assert sets["dev"] == {"dev00": [(0.5, 1.5)], "dev01": [(0.5, 1.5)]}
    assert len([key for key in sets["train"] if key.startswith("ami-")]) == 16
    assert {key for key in sets["valid"] if key.startswith("ami-")} == {"ami-trn04", "ami-trn08"}
    assert all(not spans for spans in sets["noise"].values())
    assert {f"3-{n}12-A" for n in (1, 2, 3)} | {"Hungarian_Dance"} == set(sets["noise"])
    clean = {key: spans for key, spans in sets["train"].items() if key.startswith("clean-")}
    assert len(clean) == 2 and all(spans for spans in clean.values())
    noise = (data / "mix" / "noise.list").read_text().split()
    sources = {Path(path).stem.split("-")[1] for path in noise}
    valid = {key.split("-")[2] for key in sets["valid"] if key.startswith("noise-3-")}
    held = {key.split("-")[1] for key in sets["noise"] if key.startswith("3-")}
    assert valid == {"211"} and not sources & valid and not (sources | valid) & held
    assert (data / "mix" / "music.list").read_text().count("\n") == 1


def test_what_is_missing_is_said(corpora: Path, tmp_path: Path) -> None:
    for path in (corpora / "ESC").rglob("*.ogg"):
        path.unlink()
    done = call(PREPARE, tmp_path, "--corpus_dir", corpora)
    assert done.returncode == 1 and "no ESC-10 below it" in done.stderr
    done = call(PREPARE, tmp_path, "--corpus_dir", corpora / "music")
    assert done.returncode == 1 and "debug.train.rttm" in done.stderr


def test_baselines_say_what_to_install(corpora: Path, tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_text(f"a {corpora}/ami/dev00.flac\n")
    (tmp_path / "webrtcvad.py").write_text("raise ImportError('not here')\n")
    script = ROOT / "tools" / "vad_baselines.py"
    code = (
        f"import runpy, sys; sys.path.insert(0, {str(tmp_path)!r}); runpy.run_path({str(script)!r}, None, '__main__')"
    )
    words = ["--wav_scp", "wav.scp", "--output_dir", "out", "--systems", "webrtc"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 2 and "funasr[bench]" in done.stderr, done.stderr


@pytest.mark.slow
def test_all_stages_of_the_embedded_recipe(tmp_path: Path) -> None:
    pytest.importorskip("espeakng_loader")
    words = [
        "--local_data_opts", "--num_train 12 --num_dev 4 --num_test 4 --num_noise 12", "--nj", "1", "--nproc", "1",
        "--train_args", "--max_epoch 2 --scheduler_conf warmup_steps=1 --num_workers 0",
    ]  # fmt: skip
    places = []
    for option in ("datadir", "dumpdir", "expdir"):
        places += [f"--{option}", str(tmp_path / option)]
    done = subprocess.run(
        ["bash", ROOT / "egs" / "mini" / "vad" / "run.sh", *places, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (experiment,) = (tmp_path / "expdir").glob("vad_train*")
    results = (experiment / "RESULTS.md").read_text()
    assert "### Voice activity, %" in results and "/noise|fsmn|" in results
    assert list(experiment.glob("*.tar.gz"))

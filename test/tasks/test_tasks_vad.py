"""VADTask from a command line to a directory that AutoModel takes as model and as vad_model, and its scores."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from funasr import AutoModel
from funasr.bin import score_vad, vad_inference
from funasr.datasets.vad_labels import format_segments, read_label_table
from funasr.models.fsmn_vad.model import FsmnVADStreaming
from funasr.tasks.vad import VADTask
from funasr.utils.config import parse_yaml, read_yaml
from funasr.utils.rttm import read_rttm

PARITY = Path(__file__).parents[1] / "parity"
FS = 8000


def make_set(directory: Path, count: int, seed: int) -> None:
    """Voices are harmonic tones; 4 s each, with labels."""
    rng = np.random.default_rng(seed)
    directory.mkdir()
    scp, labels = [], []
    for index in range(count):
        wave, spans, at = 0.003 * rng.standard_normal(4 * FS), [], rng.uniform(0.3, 1.0)
        while at < 3.0:
            length = rng.uniform(0.6, 1.2)
            time_s = np.arange(int(length * FS)) / FS
            voice = sum(np.sin(2 * np.pi * k * rng.uniform(120, 250) * time_s) / k for k in range(1, 6))
            wave[int(at * FS) : int(at * FS) + len(time_s)] += 0.1 * voice[: len(wave) - int(at * FS)]
            spans.append((at, min(at + length, 4.0)))
            at += length + rng.uniform(0.7, 1.2)
        key = f"{directory.name}-{index:02d}"
        soundfile.write(directory / f"{key}.wav", wave, FS)
        scp.append(f"{key} {directory}/{key}.wav\n")
        labels.append(f"{key} {format_segments(spans)}\n")
    (directory / "wav.scp").write_text("".join(scp))
    (directory / "speech_segments").write_text("".join(labels))


@pytest.fixture(scope="module")
def vad_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vad")
    make_set(root / "train", 24, seed=1)
    make_set(root / "dev", 6, seed=2)
    soundfile.write(root / "noise.wav", 0.1 * np.random.default_rng(3).standard_normal(2 * FS), FS)
    (root / "noise.list").write_text(f"{root}/noise.wav\n")
    return root


@pytest.fixture(scope="module")
def vad_options(vad_corpus: Path) -> list[str]:
    words = [
        "--frontend_conf", "{fs: 8000, n_mels: 24, lfr_m: 3, dither: 0.0}",
        "--encoder_conf", "{input_affine_dim: 16, fsmn_layers: 2, linear_dim: 32, proj_dim: 16, lorder: 6}",
        "--encoder_conf", "{output_affine_dim: 16, output_dim: 2}", "--model_conf", "sample_rate=8000",
        "--mix_length", "3", "--mix", f"{vad_corpus}/noise.list,0.5,5_20", "--noise_alone_prob", "0.1",
        "--optim_conf", "lr=3e-3", "--batch_type", "shuffled", "--batch_size", "6", "--max_epoch", "2",
        "--best_model_criterion", "valid,loss,min", "--keep_nbest_models", "2", "--num_workers", "0",
        "--use_tensorboard", "false", "--use_matplotlib", "false", "--num_threads", "1",
    ]  # fmt: skip
    for phase, name in (("train", "train"), ("valid", "dev")):
        for entry in ("wav.scp,speech,sound", "speech_segments,segments,text"):
            words += [f"--{phase}_data_path_and_name_and_type", f"{vad_corpus}/{name}/{entry}"]
    return words


@pytest.fixture(scope="module")
def vad_experiment(vad_options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exp")
    VADTask.main(cmd=[*vad_options, "--output_dir", str(directory), "--max_epoch", "10", "--use_tensorboard", "true"])
    return directory


def infer(experiment: Path, corpus: Path, output: Path, *more: str) -> Path:
    vad_inference.main(
        [
            "--vad_train_config", str(experiment / "config.yaml"), "--output_dir", str(output), "--num_workers", "0",
            "--data_path_and_name_and_type", f"{corpus}/dev/wav.scp,speech,sound", *more,
        ]
    )  # fmt: skip
    return output / "1best_recog"


def test_a_trained_directory_finds_the_speech(vad_experiment: Path, vad_corpus: Path, tmp_path: Path) -> None:
    for name in ("config.yaml", "configuration.json", "model.pt", "checkpoint/last.pt", "log/train.log"):
        assert (vad_experiment / name).is_file(), name
    assert list((vad_experiment / "tensorboard").rglob("events*"))
    fixed = ("--max_end_silence_time", "200", "--batch_size", "4", "--write_probabilities", "true")
    found = infer(vad_experiment, vad_corpus, tmp_path, *fixed)
    status = score_vad.main(
        [
            "--ref", f"{vad_corpus}/dev/speech_segments", "--wav_scp", f"{vad_corpus}/dev/wav.scp",
            "--hyp", f"fsmn={found}/text", "--scores", f"fsmn={found}/speech_prob", "--output_dir", str(tmp_path / "s"),
        ]
    )  # fmt: skip
    systems = json.loads((tmp_path / "s" / "result.json").read_text())["systems"]
    assert status == 0 and systems["fsmn (frames)"]["f1"] > 0.9 and systems["fsmn"]["f1"] > 0.8, systems
    assert (tmp_path / "s" / "det.svg").is_file()
    labels = read_label_table(found / "text")
    turns = read_rttm(found / "rttm")
    rows = [line.split() for line in (found / "segments").read_text().splitlines()]
    for key, spans in labels.items():
        in_rttm = [(turn.start, turn.end) for turn in turns.get(key, [])]
        in_segments = [(float(row[2]), float(row[3])) for row in rows if row[1] == key]
        np.testing.assert_allclose(in_rttm, spans, atol=1e-6)
        np.testing.assert_allclose(in_segments, spans, atol=1e-6)


def test_the_command_and_automodel_agree(vad_experiment: Path, vad_corpus: Path, tmp_path: Path) -> None:
    found = infer(vad_experiment, vad_corpus, tmp_path)
    model = AutoModel(model=vad_experiment, device="cpu")
    assert isinstance(model.model, FsmnVADStreaming)
    wanted = {r["key"]: str(r["value"]) for r in model.generate(str(vad_corpus / "dev" / "wav.scp"))}
    assert dict(line.split(" ", 1) for line in (found / "text").read_text().splitlines()) == wanted


def test_probabilities_are_those_of_the_network(vad_experiment: Path, vad_corpus: Path) -> None:
    model = AutoModel(model=vad_experiment, device="cpu")
    wave = soundfile.read(vad_corpus / "dev" / "dev-00.wav", dtype="float32")[0]
    feats, lengths = VADTask.build_frontend(read_options(vad_experiment))(
        torch.from_numpy(wave)[None], torch.tensor([len(wave)])
    )
    with torch.no_grad():
        wanted = 1 - model.model.encoder(feats, lengths)[0][0, :, 0]
    found = model.model.speech_probabilities(wave, model.frontend)
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)


def read_options(experiment: Path):
    args = VADTask.get_parser().parse_args(["--config", str(experiment / "config.yaml")])
    VADTask.resolve_choices(args)
    return args


def test_a_trained_detector_serves_a_pipeline(vad_experiment: Path, vad_corpus: Path) -> None:
    recogniser = PARITY / "Pipeline-paraformer" / "asr"
    model = AutoModel(
        model=recogniser, vad_model=vad_experiment, vad_kwargs={"max_end_silence_time": 300}, device="cpu"
    )
    assert isinstance(model.engines.vad.model, FsmnVADStreaming)
    (result,) = model.generate(str(vad_corpus / "dev" / "dev-00.wav"))
    assert result["key"] == "dev-00" and "text" in result


def test_print_config_gives_the_same_run(
    vad_options: list[str], vad_experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    VADTask.main(cmd=[*vad_options, "--print_config", "--max_epoch", "10"])
    printed = capsys.readouterr().out
    config = parse_yaml(printed, "printed")
    assert (config["encoder"], config["encoder_conf"]["input_dim"]) == ("FSMN", 72)
    assert config["model_conf"]["speech_noise_thres"] == 0.6 and config["model_conf"]["class_weights"] == [1.0, 1.0]
    (tmp_path / "c.yaml").write_text(printed)
    VADTask.main(cmd=["--config", str(tmp_path / "c.yaml"), "--output_dir", str(tmp_path / "exp")])
    first, second = (torch.load(d / "model.pt", weights_only=True) for d in (vad_experiment, tmp_path / "exp"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_killed_run_goes_on_to_the_same_weights(
    vad_options: list[str], kill_at_first_checkpoint: Callable[..., None], tmp_path: Path
) -> None:
    command = [*vad_options, "--save_interval_steps", "1", "--max_epoch", "3", "--resume", "true"]
    VADTask.main(cmd=[*command, "--output_dir", str(tmp_path / "whole"), "--num_workers", "2"])
    broken = tmp_path / "broken"
    program = [sys.executable, "-m", "funasr.bin.vad_train", *command, "--output_dir", str(broken)]
    kill_at_first_checkpoint(program, broken)
    VADTask.main(cmd=[*command, "--output_dir", str(broken)])
    first, second = (
        torch.load(d / "checkpoint" / "last.pt", weights_only=True)["model"] for d in (tmp_path / "whole", broken)
    )
    assert all(torch.equal(first[name], second[name]) for name in first), "neither kill nor workers matter"


def test_two_processes_on_cpu(vad_options: list[str], vad_corpus: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "funasr.bin.vad_train", *vad_options, "--output_dir", str(tmp_path)]
    subprocess.run([*program, "--nproc", "2", "--max_epoch", "1"], check=True, capture_output=True, timeout=120)
    assert AutoModel(model=tmp_path, device="cpu").generate(str(vad_corpus / "dev" / "wav.scp"))


def test_official_layout_and_alignments(vad_options: list[str], vad_corpus: Path, tmp_path: Path) -> None:
    layout = ["--encoder_conf", "output_dim=248", "--max_epoch", "1"]
    classes = [*vad_options, *layout, "--model_conf", "targets=class", "--model_conf", "focal_gamma=1.0"]
    VADTask.main(cmd=[*classes, "--output_dir", str(tmp_path / "c")])
    assert read_yaml(tmp_path / "c" / "config.yaml")["model_conf"]["targets"] == "class"
    weights = torch.load(tmp_path / "c" / "model.pt", weights_only=True)
    assert weights["encoder.out_linear2.linear.weight"].shape == (248, 16)
    for name in ("train", "dev"):
        keys = [line.split()[0] for line in (vad_corpus / name / "wav.scp").read_text().splitlines()]
        units = " ".join(str(unit) for unit in np.arange(398) % 248)
        (tmp_path / f"{name}.ali").write_text("".join(f"{key} {units}\n" for key in keys))
    words = [
        word.replace(f"{vad_corpus}/{name}/speech_segments,segments,text", f"{tmp_path}/{name}.ali,target,text_int")
        for word in vad_options
        for name in ("train" if "/train/" in word else "dev",)
    ]
    VADTask.main(cmd=[*words, *layout, "--output_dir", str(tmp_path / "a")])
    assert (tmp_path / "a" / "model.pt").is_file()


@pytest.mark.parametrize(
    "change, message",
    [
        (["--encoder_conf", "output_dim=248"], "targets=class"),
        (["--frontend", "wav_frontend"], "must be wav_frontend_online"),
        (["--model_conf", "sample_rate=16000"], "8000 Hz"),
        (["--encoder_conf", "input_dim=80"], "the front end gives 72"),
        (["--encoder_conf", "ldim=3"], "linear_dim"),
        (["--model", "paraformer"], "paraformer"),
        (["--mix", "none.list,0.5,0"], "none.list does not exist"),
        (["--noise_alone_prob", "2"], "between 0 and 1"),
    ],
)
def test_wrong_options_are_one_line(
    vad_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], change: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        VADTask.main(cmd=[*vad_options, *change, "--output_dir", str(tmp_path)])
    error = capsys.readouterr().err
    assert caught.value.code == 2 and message.lower() in error.lower() and "Traceback" not in error


def test_labels_are_asked_for(vad_options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [word.replace(",segments,text", ",text,text") for word in vad_options]
    with pytest.raises(SystemExit):
        VADTask.main(cmd=[*words, "--output_dir", str(tmp_path)])
    assert "'text' is unknown" in capsys.readouterr().err
    pairs = [vad_options[i : i + 2] for i in range(0, len(vad_options), 2)]
    without = [word for pair in pairs if ",segments," not in pair[1] for word in pair]
    with pytest.raises(SystemExit):
        VADTask.main(cmd=[*without, "--output_dir", str(tmp_path)])
    assert "one of the data names segments and target, not none" in capsys.readouterr().err


def test_recordings_that_cannot_be_used_are_named(
    vad_experiment: Path, vad_options: list[str], vad_corpus: Path, tmp_path: Path
) -> None:
    data = tmp_path / "train"
    data.mkdir()
    lines = (vad_corpus / "train" / "speech_segments").read_text().splitlines()
    lines[3] = lines[3].split()[0] + " [[100, 9000]]"
    (data / "speech_segments").write_text("\n".join(lines) + "\n")
    words = [word.replace(f"{vad_corpus}/train/speech", f"{data}/speech") for word in vad_options]
    VADTask.main(cmd=[*words, "--output_dir", str(tmp_path / "exp"), "--max_epoch", "1"])
    log = (tmp_path / "exp" / "log" / "train.log").read_text()
    assert "train-03 is skipped: segments until 9.000 s, but the audio lasts 4.000 s" in log

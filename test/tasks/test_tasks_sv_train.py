"""Speaker models from a command line to a model directory, trials and turns: what is trained here loads as official."""

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
from funasr.bin import diarize, make_trials, score_diarization, score_sv, sv_inference
from funasr.models.campplus.model import CAMPPlus
from funasr.models.eres2net.model import ERes2NetV2
from funasr.tasks.sv import SVTask
from funasr.utils.config import parse_yaml, read_yaml
from funasr.utils.rttm import Turn, read_rttm, write_rttm
from funasr.utils.weights import load_weights

FS = 16000
VOICES = {"ann": (210.0, 2600.0), "bob": (110.0, 900.0), "cyd": (170.0, 1700.0), "dan": (130.0, 3400.0)}
SIZES = "{feat_dim: 16, embedding_size: 12, m_channels: 4, num_blocks: [1, 1, 1, 1]}"
WIDER = SIZES.replace("m_channels: 4", "m_channels: 8")  # tells the voices apart from each of 14 seeds
SHOWN = ("--use_tensorboard", "true")
CAMPP_SIZES = "{feat_dim: 16, embedding_size: 8, growth_rate: 4, bn_size: 2, init_channels: 8}"


def voice(name: str, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Harmonics of a wavering pitch, loudest around a formant of the speaker's own."""
    pitch, formant = VOICES[name]
    time_s = np.arange(int(seconds * FS)) / FS
    phase = 2 * np.pi * np.cumsum(pitch * (1 + 0.05 * np.sin(2 * np.pi * rng.uniform(1, 3) * time_s))) / FS
    partials = np.arange(1, int(6000 / pitch))
    gains = np.exp(-(((partials * pitch - formant) / 700) ** 2)) + 0.03
    wave = sum(gain * np.sin(number * phase) for number, gain in zip(partials, gains))
    syllables = 0.6 + 0.4 * np.sin(2 * np.pi * rng.uniform(2, 5) * time_s)
    return (0.1 * wave * syllables + rng.normal(0, 0.004, len(time_s))).astype(np.float32)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train (three speakers, one with a single utterance), dev (the same), test (the fourth and one of them)."""
    root = tmp_path_factory.mktemp("speakers")
    rng = np.random.default_rng(0)
    sets = {
        "train": {"ann": 5, "bob": 5, "cyd": 1},
        "dev": {"ann": 1, "bob": 1, "cyd": 1},
        "test": {"dan": 3, "bob": 3, "cyd": 1},
    }
    for name, speakers in sets.items():
        directory = root / name
        directory.mkdir()
        scp, utt2spk = [], []
        for speaker, count in speakers.items():
            for number in range(count):
                uid = f"{speaker}-{name}{number}"
                soundfile.write(directory / f"{uid}.wav", voice(speaker, 0.9, rng), FS)
                scp.append(f"{uid} {directory}/{uid}.wav\n")
                utt2spk.append(f"{uid} {speaker}\n")
        (directory / "wav.scp").write_text("".join(scp))
        (directory / "utt2spk").write_text("".join(utt2spk))
    return root


def command(corpus: Path, *words: str) -> list[str]:
    data = []
    for phase, name in (("train", "train"), ("valid", "dev")):
        for entry in ("wav.scp,speech,sound", "utt2spk,speaker,text"):
            data += [f"--{phase}_data_path_and_name_and_type", f"{corpus}/{name}/{entry}"]
    return [
        *data, "--model", "eres2netv2", "--model_conf", SIZES, "--frontend_conf", "n_mels=16",
        "--crop_s", "0.5", "--speed_perturb", "0.9",
        "--optim_conf", "lr=0.01", "--batch_type", "shuffled", "--batch_size", "11", "--valid_batch_size", "3",
        "--loss_conf", "{margin: 0.2, scale: 16.0, sub_centers: 2, margin_start: 4, margin_end: 8}",
        "--num_iters_per_epoch", "4", "--max_epoch", "2", "--keep_nbest_models", "2", "--num_workers", "0",
        "--num_threads", "1", "--use_matplotlib", "false", "--use_tensorboard", "false", "--max_cache_size", "10MB",
        *words,
    ]  # fmt: skip


@pytest.fixture(scope="module")
def experiment(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exp")
    long = ("--max_epoch", "6", "--num_iters_per_epoch", "20", "--optim_conf", "lr=0.003", "--crop_s", "0.8")
    SVTask.main(cmd=command(corpus, "--output_dir", str(directory), "--model_conf", WIDER, *long, *SHOWN))
    return directory


def refused(capsys: pytest.CaptureFixture[str], cmd: list[str]) -> str:
    with pytest.raises(SystemExit) as exit_info:
        SVTask.main(cmd=cmd)
    assert exit_info.value.code == 2
    return capsys.readouterr().err


def test_weights_of_an_experiment_are_those_of_the_model_alone(experiment: Path) -> None:
    """Key for key the network: the classifier is in the full state only."""
    sizes = parse_yaml(WIDER)
    with torch.device("meta"):
        own = set(ERes2NetV2(**sizes).state_dict())
    assert set(load_weights(experiment / "model.pt")) == own
    state = load_weights(experiment / "checkpoint" / "last.pt")
    assert set(state) - own == {"classifier.weight", "classifier.batches"}
    assert state["classifier.weight"].shape == (3 * 2 * 2, 12)  # speakers, speeds, sub-centres
    assert int(state["classifier.batches"]) == 120
    assert list((experiment / "tensorboard" / "train").iterdir())
    values = [json.loads(line)["values"] for line in (experiment / "log" / "metrics.jsonl").open()]
    assert {"loss", "acc", "margin", "audio_hours_per_hour"} <= {name for entry in values for name in entry}


def test_the_directory_tells_speakers_apart_as_a_model_of_its_own(
    experiment: Path, corpus: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = AutoModel(model=experiment, device="cpu")
    assert model.fs == FS and not caplog.records
    results = [r for part in ("dev", "test") for r in model.generate(str(corpus / part / "wav.scp"))]
    found = {r["key"]: r["spk_embedding"][0] / r["spk_embedding"][0].norm() for r in results}
    same = float(found["bob-test0"] @ found["bob-test1"])
    assert same > float(found["bob-test0"] @ found["ann-dev0"]) + 0.1
    assert same > float(found["bob-test0"] @ found["dan-test0"]) + 0.1  # never heard in training
    # the full state of the run, with its classifier, loads as well
    resumed = AutoModel(model=experiment, device="cpu", init_param=str(experiment / "checkpoint" / "last.pt"))
    assert resumed.generate(str(corpus / "test" / "wav.scp"))[0]["spk_embedding"].shape == (1, 12)


def test_embeddings_trials_and_scores(
    experiment: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_trials.main(["--speakers", f"{corpus}/test/utt2spk", "--output", f"{tmp_path}/trials"]) == 0
    said = capsys.readouterr()
    assert "6 target trials, 15 others" in said.out
    assert "1 of its speakers have one utterance and can form no target trial: cyd" in said.err
    scp = (corpus / "test" / "wav.scp").read_text()
    soundfile.write(tmp_path / "short.wav", np.zeros(100), FS)
    (tmp_path / "wav.scp").write_text(scp + f"zz-short {tmp_path}/short.wav\n")
    sv_inference.main(
        [
            "--sv_train_config", f"{experiment}/config.yaml", "--output_dir", f"{tmp_path}/out", "--num_workers", "0",
            "--data_path_and_name_and_type", f"{tmp_path}/wav.scp,speech,sound", "--trials", f"{tmp_path}/trials",
            "--batch_size", "4",
        ]
    )  # fmt: skip
    assert "EER" in capsys.readouterr().out
    with np.load(tmp_path / "out" / "embedding.npz") as stored:
        keys, vectors = stored["keys"].tolist(), stored["embeddings"]
    assert keys == [line.split()[0] for line in scp.splitlines()] and vectors.shape == (7, 12)
    text = score_sv.read_embeddings([str(tmp_path / "out" / "1best_recog" / "embedding")])
    np.testing.assert_allclose(np.stack([text[key] for key in keys]), vectors, rtol=1e-5)
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert result["systems"][0]["eer"] <= 0.2 and len((tmp_path / "out" / "scores").read_text().splitlines()) == 21
    words = ["--trials", f"{tmp_path}/trials", "--embeddings", f"{tmp_path}/out/embedding.npz"]
    assert score_sv.main([*words, "--cohort", f"{tmp_path}/out/embedding.npz", "--top_n", "5"]) == 0
    assert "AS-norm" in capsys.readouterr().out
    (tmp_path / "trials").write_text("1 bob-test0 bob-test1\n0 bob-test0 zz-short\n")
    assert score_sv.main(words) == 2
    assert "trials: trial '0 bob-test0 zz-short': there is no embedding of test" in capsys.readouterr().err


def test_who_speaks_when(experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two voices by turns: with the true speech and number of speakers nearly all is right."""
    rng = np.random.default_rng(5)
    order = ["bob", "dan", "bob", "dan"]
    soundfile.write(tmp_path / "talk.wav", np.concatenate([voice(name, 5.0, rng) for name in order]), FS)
    turns = [Turn(5.0 * i, 5.0 * (i + 1), name) for i, name in enumerate(order)]
    write_rttm(tmp_path / "ref.rttm", {"talk": turns})
    ref, out = str(tmp_path / "ref.rttm"), str(tmp_path / "out.rttm")
    words = ["--input", str(tmp_path / "talk.wav"), "--output", out, "--spk_model", str(experiment), "--device", "cpu"]
    assert diarize.main([*words, "--speech_rttm", ref, "--speakers_rttm", ref]) == 0
    assert {turn.speaker for turn in read_rttm(out)["talk"]} == {"spk0", "spk1"}
    words_of_score = ["--ref_rttm", ref, "--hyp_rttm", out, "--output_dir", str(tmp_path / "score")]
    assert score_diarization.main(words_of_score) == 0
    conditions = json.loads((tmp_path / "score" / "result.json").read_text())["conditions"]
    assert [(c["collar"], c["overlap"]) for c in conditions] == [(0.25, False), (0.25, True), (0.0, False), (0.0, True)]
    assert all(condition["der"] < 0.2 for condition in conditions)
    assert diarize.main([*words, "--speech_rttm", ref, "--num_speakers", "1"]) == 0
    capsys.readouterr()
    assert score_diarization.main(words_of_score) == 0
    assert "50.0" in capsys.readouterr().out
    (tmp_path / "all.uem").write_text("other 1 0 20\n")
    assert score_diarization.main([*words_of_score, "--uem", str(tmp_path / "all.uem")]) == 2
    assert "the reference has 1 recording(s) that the UEM does not: talk" in capsys.readouterr().err
    write_rttm(ref, {"other": turns})
    assert diarize.main([*words, "--speech_rttm", ref]) == 2
    assert "--speech_rttm has no recording 'talk'" in capsys.readouterr().err


def test_the_directory_is_a_spk_model_of_the_pipeline(experiment: Path, parity: Path) -> None:
    pipeline = AutoModel(
        model=parity / "Pipeline-paraformer" / "asr",
        vad_model=parity / "FsmnVADStreaming" / "model",
        spk_model=experiment,
        device="cpu",
    )
    audio = sorted((parity / "Pipeline-paraformer" / "audio").glob("*.wav"))[0]
    result = pipeline.generate(str(audio), preset_spk_num=2, return_spk_center=True)[0]
    assert result["spk_embedding_center"].shape == (2, 12)
    assert {entry["spk"] for entry in result["sentence_info"]} <= {0, 1}


def test_campplus_on_noisy_crops_in_bfloat16(corpus: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).normal(0, 0.1, FS), FS)
    (tmp_path / "noise.scp").write_text(f"{tmp_path}/noise.wav\n")
    cmd = command(corpus, "--output_dir", f"{tmp_path}/exp", "--noise_scp", f"{tmp_path}/noise.scp", "--model", "cam++")
    cmd[cmd.index("--model_conf") + 1] = CAMPP_SIZES
    SVTask.main(cmd=[*cmd, "--use_amp", "true", "--amp_dtype", "bf16", "--num_iters_per_epoch", "1"])
    with torch.device("meta"):
        own = set(CAMPPlus(**parse_yaml(CAMPP_SIZES)).state_dict())
    assert set(load_weights(tmp_path / "exp" / "model.pt")) == own
    results = AutoModel(model=tmp_path / "exp", device="cpu").generate(str(corpus / "test" / "wav.scp"))
    assert results[0]["spk_embedding"].shape == (1, 8)


def test_print_config_shows_the_loss_and_repeats_the_run(
    corpus: Path, experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SVTask.main(cmd=["--print_config", "--loss_conf", "margin=0.3"])
    config = parse_yaml(capsys.readouterr().out)
    assert config["loss_conf"]["margin"] == 0.3 and config["loss_conf"]["scale"] == 32.0
    assert config["model"] == "CAMPPlus" and config["frontend"] == "SpeakerFbank"
    assert read_yaml(experiment / "config.yaml")["loss_conf"]["sub_centers"] == 2
    SVTask.main(cmd=["--config", f"{experiment}/config.yaml", "--output_dir", str(tmp_path)])
    first, second = (load_weights(directory / "model.pt") for directory in (experiment, tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_killed_and_resumed_run_ends_bit_equal(
    corpus: Path, kill_at_first_checkpoint: Callable[..., None], tmp_path: Path
) -> None:
    """Crops, speeds and the margin go on where they were."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    cmd = command(corpus, "--save_interval_steps", "1", "--num_iters_per_epoch", "3", "--resume", "true")
    SVTask.main(cmd=[*cmd, "--output_dir", str(whole)])
    program = [sys.executable, "-m", "funasr.bin.sv_train", *cmd, "--output_dir", str(broken)]
    kill_at_first_checkpoint(program, broken)
    assert (broken / "checkpoint" / "last.pt").is_file()
    SVTask.main(cmd=[*cmd, "--output_dir", str(broken)])
    first, second = (load_weights(directory / "checkpoint" / "last.pt") for directory in (whole, broken))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes(corpus: Path, tmp_path: Path) -> None:
    cmd = command(corpus, "--output_dir", str(tmp_path), "--nproc", "2", "--batch_size", "5", "--max_epoch", "1")
    program = [sys.executable, "-m", "funasr.bin.sv_train", *cmd, "--num_iters_per_epoch", "2"]
    subprocess.run(program, check=True, capture_output=True, timeout=150)
    assert int(load_weights(tmp_path / "checkpoint" / "last.pt")["classifier.batches"]) == 2
    assert AutoModel(model=tmp_path, device="cpu").generate(str(corpus / "test" / "wav.scp"))


def test_wrong_data_and_options_are_named(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--output_dir", str(tmp_path / "exp")]

    def with_table(phase: str, lines: list[str]) -> list[str]:
        (tmp_path / "utt2spk").write_text("\n".join(lines) + "\n")
        name = {"train": "train", "valid": "dev"}[phase]
        old = f"{corpus}/{name}/utt2spk,speaker,text"
        return [word.replace(old, f"{tmp_path}/utt2spk,speaker,text") for word in command(corpus, *out)]

    train, dev = ((corpus / name / "utt2spk").read_text().splitlines() for name in ("train", "dev"))
    assert "lacks 1 of the 11 ids" in refused(capsys, with_table("train", train[1:]))
    assert "1 speaker(s); two at least" in refused(capsys, with_table("train", [f"{x.split()[0]} eve" for x in train]))
    strange = refused(capsys, with_table("valid", [*dev[1:], f"{dev[0].split()[0]} eve"]))
    assert "1 of its speakers are not in" in strange and "eve" in strange
    said = refused(capsys, command(corpus, *out, "--loss_conf", "margn=0.1"))
    assert "AAMSoftmax has no option 'margn'. Did you mean margin" in said
    assert "n_mels=16" in refused(capsys, command(corpus, *out, "--frontend_conf", "n_mels=24"))
    recogniser = command(corpus, *out, "--model", "FsmnVAD")
    recogniser[recogniser.index(SIZES)] = "{}"
    assert "no speaker embeddings" in refused(capsys, recogniser)
    no_speaker = [word.replace("utt2spk,speaker", "utt2spk,spk") for word in command(corpus, *out)]
    assert "'speaker' is missing" in refused(capsys, no_speaker)

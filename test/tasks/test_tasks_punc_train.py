"""Punctuation from texts to a model directory that AutoModel, the decoding command and the scores read alike."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from funasr import AutoModel
from funasr.bin import prepare_punc, punc_inference, punc_tokens, score_punc, write_results
from funasr.models.ct_transformer.model import CTTransformer
from funasr.models.ct_transformer.streaming import CTTransformerStreaming
from funasr.tasks.punc import PuncTask

OPENERS = ["then", "now", "today"]
NOUNS = ["cats", "dogs", "birds", "鱼", "马"]
VERBS = ["run", "sleep", "eat", "飞"]


def sentence(rng: np.random.Generator) -> str:
    """`then, cats and dogs run.` or `do birds sleep?`: marks follow from the words before and behind."""
    noun, verb = (str(rng.choice(words)) for words in (NOUNS, VERBS))
    if rng.random() < 0.3:
        return f"Do {noun} {verb}?"
    tail = f", and {rng.choice(NOUNS)} {rng.choice(VERBS)}" if rng.random() < 0.4 else ""
    return f"{rng.choice(OPENERS)}, the {noun} {verb}{tail}.".capitalize()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("punc")
    rng = np.random.default_rng(0)
    lines = ["".join(f"{sentence(rng)} " for _ in range(8)) for _ in range(150)]
    (root / "story.txt").write_text("\n\n".join(lines), encoding="utf-8")
    words = ["--output_dir", f"{root}/data", "--min_window", "4", "--max_window", "40", "--passage", "30"]
    assert prepare_punc.main([str(root / "story.txt"), *words]) == 0
    assert prepare_punc.main(["--check", *(f"{root}/data/{name}" for name in ("train", "dev", "test"))]) == 0
    assert punc_tokens.main(["--text", f"{root}/data/train/text", "--output", f"{root}/tokens.json"]) == 0
    return root


@pytest.fixture(scope="module")
def options(data: Path) -> list[str]:
    """Options of a tiny model, without --output_dir."""
    words = [
        "--token_list", f"{data}/tokens.json", "--model_conf", "{embed_unit: 32, att_unit: 32, dropout_rate: 0.0}",
        "--encoder_conf", "{attention_heads: 2, linear_units: 64, num_blocks: 2, kernel_size: 5, dropout_rate: 0.0}",
        "--optim_conf", "lr=1e-2", "--batch_type", "unsorted", "--batch_size", "16", "--max_epoch", "2",
        "--keep_nbest_models", "2", "--num_workers", "0", "--use_tensorboard", "false", "--use_matplotlib", "false",
        "--num_threads", "1",
    ]  # fmt: skip
    for phase, name in (("train", "train"), ("valid", "dev")):
        for entry in ("text", "punc"):
            words += [f"--{phase}_data_path_and_name_and_type", f"{data}/data/{name}/{entry},{entry},text"]
    return words


@pytest.fixture(scope="module")
def experiment(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exp")
    PuncTask.main(cmd=[*options, "--output_dir", str(directory), "--max_epoch", "5", "--use_tensorboard", "true"])
    return directory


@pytest.fixture(scope="module")
def streaming(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("streaming")
    words = ["--model", "vad_realtime", "--encoder_conf", "sanm_shfit=2", "--max_epoch", "5"]
    PuncTask.main(cmd=[*options, "--output_dir", str(directory), *words])
    return directory


def table(path: Path) -> dict[str, str]:
    return dict(line.split(" ", 1) for line in path.read_text(encoding="utf-8").splitlines())


def infer(experiment: Path, data: Path, output: Path, *words: str) -> Path:
    punc_inference.main(
        [
            "--punc_train_config", f"{experiment}/config.yaml", "--output_dir", str(output), "--batch_size", "7",
            "--data_path_and_name_and_type", f"{data}/data/test/text,text,text", *words,
        ]
    )  # fmt: skip
    return output / "1best_recog"


def test_a_trained_directory_is_like_an_official_one(experiment: Path) -> None:
    for name in ("config.yaml", "configuration.json", "model.pt", "tokens.json", "checkpoint/last.pt", "log/train.log"):
        assert (experiment / name).is_file(), name
    assert list((experiment / "tensorboard").rglob("events*"))
    config = yaml.safe_load((experiment / "config.yaml").read_text(encoding="utf-8"))
    assert (config["model"], config["encoder"], config["tokenizer"]) == (
        "CTTransformer",
        "SANMEncoder",
        "CharTokenizer",
    )
    assert config["model_conf"]["punc_list"] == ["<unk>", "_", "，", "。", "？", "、"]
    assert config["model_conf"]["ignore_id"] == 0 and config["model_conf"]["sentence_end_id"] == 3
    model = AutoModel(model=experiment, device="cpu").model
    assert type(model) is CTTransformer
    official = Path(__file__).parents[1] / "parity" / "CTTransformer" / "model"
    ours, theirs = (torch.load(d / "model.pt", weights_only=True) for d in (experiment, official))
    assert {n for n in ours if ".encoders." not in n} == {n for n in theirs if ".encoders." not in n}


def test_marks_are_learned_and_reported_beside_the_rules(experiment: Path, data: Path, tmp_path: Path) -> None:
    found = infer(experiment, data, tmp_path)
    words = ["--ref", f"{data}/data/test", "--hyp", str(found), "--rules_from", f"{data}/data/train"]
    assert score_punc.main([*words, "--output_dir", str(tmp_path / "exp" / "a" / "score")]) == 0
    result = json.loads((tmp_path / "exp" / "a" / "score" / "result.json").read_text(encoding="utf-8"))
    for mark in "，。？":
        f1 = {method: result["scores"][method]["marks"][mark]["f1"] for method in ("model", "rules")}
        assert f1["model"] > 0.95, (mark, f1)
    assert 0.2 < result["scores"]["rules"]["marks"]["all"]["f1"] < result["scores"]["model"]["marks"]["all"]["f1"]
    assert write_results.main(["--exp", str(tmp_path / "exp"), "--output", str(tmp_path / "RESULTS.md")]) == 0
    assert "|test|rules|，|" in (tmp_path / "RESULTS.md").read_text(encoding="utf-8").replace("a/test", "test")


def test_decoding_command_and_automodel_agree(experiment: Path, data: Path, tmp_path: Path) -> None:
    found = infer(experiment, data, tmp_path)
    texts = table(data / "data" / "test" / "text")
    alone = AutoModel(model=experiment, device="cpu").generate(list(texts.values()), key=list(texts))
    assert table(found / "text") == {result["key"]: result["text"].strip() for result in alone}
    marks = table(found / "punc")
    for result in alone:
        assert len(marks[result["key"]].split()) == len(texts[result["key"]].split()) == len(result["punc_array"])
    assert next(iter(table(found / "text").values()))[0].isupper()


def test_the_directory_serves_as_punc_model(experiment: Path) -> None:
    asr = Path(__file__).parents[1] / "parity" / "Pipeline-paraformer" / "asr"
    model = AutoModel(model=asr, punc_model=experiment, device="cpu")
    engine = model.engines.punc
    assert engine is not None and type(engine.model) is CTTransformer


def test_a_streaming_model_gives_marks_piece_by_piece(streaming: Path, data: Path, tmp_path: Path) -> None:
    assert type(AutoModel(model=streaming, device="cpu").model) is CTTransformerStreaming
    found = infer(streaming, data, tmp_path, "--piece_size", "5")
    texts, marks = table(data / "data" / "test" / "text"), table(found / "punc")
    assert all(len(marks[uid].split()) == len(text.split()) for uid, text in texts.items())
    score = score_punc.score_hypothesis(score_punc.read_marked(data / "data" / "test"), found / "punc")
    assert score["，"].f1 > 0.9 and score["。"].f1 > 0.8
    written = table(found / "text")
    for uid, text in written.items():  # what was given out is the marks that are reported
        assert [mark for mark in marks[uid].split()[:-1] if mark != "_"] == [c for c in text if c in "，。？、"]


def test_config_yaml_reproduces_the_run(experiment: Path, tmp_path: Path) -> None:
    PuncTask.main(cmd=["--config", f"{experiment}/config.yaml", "--output_dir", str(tmp_path)])
    first, second = (torch.load(d / "model.pt", weights_only=True) for d in (experiment, tmp_path))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_print_config_shows_every_default(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    PuncTask.main(cmd=[*options, "--model", "vad_realtime", "--print_config"])
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"] == "CTTransformerStreaming" and config["encoder"] == "SANMVadEncoder"
    assert config["encoder_conf"]["input_size"] == config["encoder_conf"]["output_size"] == 32
    assert config["pause_prob"] == 0.5 and config["optim_conf"]["lr"] == 0.01


def test_killed_and_resumed_run_ends_bit_equal(
    options: list[str], kill_at_first_checkpoint: Callable[..., None], tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    command = [*options, "--save_interval_steps", "1", "--resume", "true", "--model", "vad_realtime"]
    PuncTask.main(cmd=[*command, "--output_dir", str(whole)])
    program = [sys.executable, "-m", "funasr.bin.punc_train", *command, "--output_dir", str(broken)]
    kill_at_first_checkpoint(program, broken)
    assert not (broken / "model.pt").exists()
    PuncTask.main(cmd=[*command, "--output_dir", str(broken)])
    first, second = (torch.load(d / "checkpoint" / "last.pt", weights_only=True)["model"] for d in (whole, broken))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_two_processes_on_cpu(options: list[str], tmp_path: Path) -> None:
    program = [sys.executable, "-m", "funasr.bin.punc_train", *options, "--output_dir", str(tmp_path), "--nproc", "2"]
    subprocess.run([*program, "--max_epoch", "1"], check=True, capture_output=True, timeout=120)
    assert AutoModel(model=tmp_path, device="cpu").generate("then the cats run")


def test_statistics_count_words(options: list[str], data: Path, tmp_path: Path) -> None:
    PuncTask.main(cmd=[*options, "--output_dir", str(tmp_path), "--collect_stats", "true"])
    lengths = {uid: len(text.split()) for uid, text in table(data / "data" / "train" / "text").items()}
    assert table(tmp_path / "train" / "text_shape") == {uid: str(length) for uid, length in lengths.items()}


def test_weights_of_marks_reach_the_loss(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "marks").write_text("<unk>\n_:1\n,:2.5\n.:3\n?\n", encoding="utf-8")
    PuncTask.main(
        cmd=[*options, "--output_dir", str(tmp_path), "--punc_list", f"{tmp_path}/marks", "--dry_run", "true"]
    )
    config = yaml.safe_load((tmp_path / "config.yaml").read_text(encoding="utf-8"))
    assert config["model_conf"]["punc_list"] == ["<unk>", "_", "，", "。", "？"]
    assert config["model_conf"]["punc_weight"] == [1.0, 1.0, 2.5, 3.0, 1.0]


@pytest.mark.parametrize("model", ["target_delay", "vad_realtime"])
def test_words_left_out_may_be_guessed(options: list[str], tmp_path: Path, model: str, experiment: Path) -> None:
    words = ["--unk_prob", "0.3", "--model_conf", "guess_weight=0.5", "--max_epoch", "3", "--model", model]
    PuncTask.main(cmd=[*options, "--output_dir", str(tmp_path), *words])
    lines = [json.loads(line) for line in (tmp_path / "log" / "metrics.jsonl").read_text().splitlines()]
    train, valid = ([x["values"] for x in lines if x["event"] == event] for event in ("train_epoch", "valid_epoch"))
    assert train[-1]["loss_guess"] < train[0]["loss_guess"] and "loss_guess" not in valid[-1]
    ours, plain = (torch.load(d / "model.pt", weights_only=True) for d in (tmp_path, experiment))
    assert ours.keys() == plain.keys()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--punc_list", "[<unk>, _, '，']"], "does not exist"),
        (["--model_conf", "sentence_end_id=2"], "sentence_end_id 2 must be the place of 。"),
        (["--model_conf", "ignore_id=2"], "would leave '，' unlearned"),
        (["--encoder_conf", "input_size=64"], "--model_conf embed_unit is 32"),
        (["--encoder", "SANMVadEncoder"], "needs an encoder without pauses"),
        (["--model", "vad_realtime", "--encoder", "sanm"], "needs SANMVadEncoder"),
        (["--model", "paraformer"], "does not learn punctuation"),
        (["--model_conf", "guess_weight=0.5"], "guess_weight needs --unk_prob"),
        (["--unk_prob", "0.1", "--model_conf", "guess_weight=1", "--model_conf", "att_unit=64"], "equal to embed_unit"),
        (["--encoder_conf", "num_block=3"], "num_blocks"),
    ],
)
def test_wrong_options_are_explained(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    with pytest.raises(SystemExit) as exit_info:
        PuncTask.main(cmd=[*options, "--output_dir", str(tmp_path), *words])
    assert exit_info.value.code == 2
    assert said in capsys.readouterr().err


def test_a_punc_list_without_sentence_end_is_refused(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "conf.yaml").write_text("punc_list: ['<unk>', _, '，']\n", encoding="utf-8")
    with pytest.raises(SystemExit):
        PuncTask.main(cmd=["--config", f"{tmp_path}/conf.yaml", *options, "--output_dir", str(tmp_path / "exp")])
    assert "no mark that ends a sentence" in capsys.readouterr().err


def test_damaged_texts_are_skipped_and_named(options: list[str], data: Path, tmp_path: Path) -> None:
    text = (data / "data" / "train" / "text").read_text(encoding="utf-8").splitlines()
    punc = (data / "data" / "train" / "punc").read_text(encoding="utf-8").splitlines()
    text[0] = text[0].split()[0]  # nothing behind the id
    text[1] += " more"
    punc[2] = punc[2].replace("。", "！").replace("，", "！").replace("？", "！")
    for name, lines in (("text", text), ("punc", punc)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    changed = [word.replace(f"{data}/data/train", str(tmp_path)) for word in options]
    PuncTask.main(cmd=[*changed, "--output_dir", str(tmp_path / "exp"), "--max_epoch", "1"])
    log = (tmp_path / "exp" / "log" / "train.log").read_text(encoding="utf-8")
    names = [line.split()[0] for line in text[:3]]
    assert f"{names[0]} is skipped: the text is empty" in log
    assert f"{names[1]} is skipped: " in log and "marks; `punc` has one for each word" in log
    assert f"{names[2]} is skipped: mark '！' is not in punc_list" in log


@pytest.mark.parametrize(
    ("text", "punc", "said"),
    [
        ("a x y\nb z\n", "a _ 。\n\nb 。\n", "punc:2: the line is empty"),
        ("a x y\nb z\n", "a _ 。\nb\n", "punc:2: nothing behind b"),
        ("a x y\n", "a 。\n", "punc:1: 1 marks for the 2 words of"),
        ("a x y\n", "a _ ;\n", "mark ';' is not in punc_list"),
        ("a x y\n", "b _ 。\n", "id 'b' is not in"),
        ("a x y\nb z\n", "a _ 。\n", "id 'b' is not in"),
        ("a x y\n", "a _ _\n", "no mark but '_'"),
        ("a x\na y\n", "a 。\n", "text:2: id 'a' was given before"),
    ],
)
def test_data_directories_are_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, punc: str, said: str
) -> None:
    (tmp_path / "text").write_text(text, encoding="utf-8")
    (tmp_path / "punc").write_text(punc, encoding="utf-8")
    assert prepare_punc.main(["--check", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_a_text_without_marks_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "plain.txt").write_text("no marks here\nnor here\n", encoding="utf-8")
    assert prepare_punc.main([str(tmp_path / "plain.txt"), "--output_dir", str(tmp_path)]) == 2
    assert "plain.txt: no line ends with a mark" in capsys.readouterr().err


def test_scores_need_marks_for_every_text(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (data / "data" / "test" / "punc").read_text(encoding="utf-8").splitlines()
    (tmp_path / "punc").write_text("\n".join([f"{lines[0]} _", *lines[1:]]) + "\n", encoding="utf-8")
    words = ["--ref", f"{data}/data/test", "--hyp", str(tmp_path)]
    assert score_punc.main(words) == 2
    assert "marks, but its text has" in capsys.readouterr().err


def test_only_streaming_models_take_pieces(
    experiment: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        infer(experiment, data, tmp_path, "--piece_size", "5")
    assert "cannot be given a text in pieces" in capsys.readouterr().err

"""The command line of a task: what may be said where, and one clear line for what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from funasr.tasks.asr import ASRTask
from funasr.utils.config import dump_yaml, parse_yaml, read_yaml


def refused(capsys: pytest.CaptureFixture[str], *cmd: str) -> str:
    with pytest.raises(SystemExit) as exit_info:
        ASRTask.main(cmd=list(cmd))
    assert exit_info.value.code == 2
    return capsys.readouterr().err


def printed(capsys: pytest.CaptureFixture[str], *cmd: str) -> dict[str, object]:
    ASRTask.main(cmd=["--print_config", *cmd])
    return dict(parse_yaml(capsys.readouterr().out))


def test_print_config_completes_constructor_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    config = printed(capsys, "--encoder", "SANM", "--encoder_conf", "num_blocks=3")
    assert config["encoder"] == "SANMEncoder"
    assert config["encoder_conf"]["num_blocks"] == 3  # type: ignore[index]
    assert config["encoder_conf"]["attention_heads"] == 4  # type: ignore[index]


def test_print_config_round_trip(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = printed(
        capsys, "--optim", "sgd", "--speed_perturb", "0.9", "--speed_perturb", "1.1", "--ctc_conf", "a.b=1"
    )

    (tmp_path / "a.yaml").write_text(dump_yaml(config))
    assert printed(capsys, "--config", str(tmp_path / "a.yaml")) == config
    assert config["optim_conf"]["lr"] == 0.1  # type: ignore[index]


def test_command_line_wins_over_yaml_and_later_yaml_over_earlier(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "base.yaml").write_text("max_epoch: 3\noptim_conf: {lr: 1e-3}\nencoder_conf: {num_blocks: 2}\n")
    (tmp_path / "a.yaml").write_text("base: base.yaml\nencoder_conf: {dropout_rate: 0.2}\ngrad_clip: 1\n")
    (tmp_path / "b.yaml").write_text("grad_clip: 2\nspeed_perturb: [0.9]\n")
    config = printed(
        capsys, "--config", str(tmp_path / "a.yaml"), "--config", str(tmp_path / "b.yaml"),
        "--encoder_conf", "num_blocks=5", "--speed_perturb", "1.2",
    )  # fmt: skip
    assert (config["max_epoch"], config["grad_clip"], config["speed_perturb"]) == (3, 2.0, [1.2])
    assert config["encoder_conf"]["num_blocks"] == 5  # type: ignore[index]
    assert config["encoder_conf"]["dropout_rate"] == 0.2  # type: ignore[index]
    assert config["optim_conf"]["lr"] == 0.001  # type: ignore[index]


@pytest.mark.parametrize(
    "cmd, message",
    [
        (["--encoder_conf", "output_sise=3"], "ConformerEncoder has no option 'output_sise'. Did you mean output_size"),
        (["--encoder_conf", "output_size=many"], "output_size of ConformerEncoder must be"),
        (["--encoder", "conformr"], "Did you mean conformer"),
        (["--nax_epoch", "3"], "--max_epoch"),
        (["--sharded_ddp", "true"], "no longer an option"),
        (["--decoder_conf", "num_blocks"], "KEY=VALUE"),
        ([], "--output_dir, --token_list"),
        (["--config", "absent.yaml"], "absent.yaml does not exist"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], cmd: list[str], message: str) -> None:
    assert message in refused(capsys, *cmd)


@pytest.mark.parametrize(
    "text, message",
    [
        ("nax_epoch: 3", "unrecognized arguments: nax_epoch (from"),
        ("max_epoch: three", "max_epoch: 'three' is not valid"),
        ("token_type: words", "not one of bpe, char, word, phn"),
        ("encoder_conf: 3", "encoder_conf must be a mapping"),
        ("speed_perturb: 0.9", "speed_perturb must be a list"),
        ("- a", "must be a mapping"),
        ("a: !!python/object/apply:os.system ['true']", "not valid YAML"),
    ],
)
def test_mistakes_in_yaml(capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.yaml").write_text(text + "\n")
    assert message in refused(capsys, "--config", str(tmp_path / "a.yaml"))


def test_wrong_corpora(capsys: pytest.CaptureFixture[str], options: list[str], corpus: Path, tmp_path: Path) -> None:
    def with_text(content: str) -> str:
        (tmp_path / "text").write_text(content)
        changed = [word.replace(f"{corpus}/train/text", f"{tmp_path}/text") for word in options]
        return refused(capsys, *changed, "--output_dir", str(tmp_path / "exp"))

    text = (corpus / "train" / "text").read_text()
    assert "train-000" in with_text(text.replace("train-000 ", "other "))
    duplicate = with_text(text + "train-003 low\n")
    assert "train-003" in duplicate and "201" in duplicate
    no_speech = [w.replace("wav.scp,speech", "wav.scp,sppech") for w in options]
    assert "ASRTask needs speech, text" in refused(capsys, *no_speech, "--output_dir", str(tmp_path / "exp"))


def test_user_modules_are_options_and_config_names(
    capsys: pytest.CaptureFixture[str], options: list[str], corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(
        "from funasr.models.transformer.encoder import TransformerEncoder\n"
        "from funasr.register import tables\n"
        "@tables.register('encoder_classes', 'MyEncoder', aliases=('mine',))\n"
        "class MyEncoder(TransformerEncoder):\n"
        "    '''A user's own encoder.'''\n"
    )
    words = [
        "mine" if word == "transformer" and options[i - 1] == "--encoder" else word for i, word in enumerate(options)
    ]
    exp = tmp_path / "exp"
    ASRTask.main(
        cmd=[*words, "--user_modules", str(tmp_path / "mine.py"), "--output_dir", str(exp), "--max_epoch", "1"]
    )
    assert read_yaml(exp / "config.yaml")["encoder"] == "MyEncoder"
    from funasr import AutoModel

    assert type(AutoModel(model=exp, device="cpu").model.encoder).__name__ == "MyEncoder"


def test_the_class_is_no_object() -> None:
    with pytest.raises(RuntimeError, match="class methods"):
        ASRTask()


def test_dry_run_writes_the_configuration_only(options: list[str], tmp_path: Path) -> None:
    ASRTask.main(cmd=[*options, "--output_dir", str(tmp_path), "--dry_run", "true"])
    assert (tmp_path / "config.yaml").is_file() and not (tmp_path / "model.pt").exists()

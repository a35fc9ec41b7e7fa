"""Code that comes with a model runs only when trusted, from a file of this machine, and what goes wrong is said."""

from __future__ import annotations

import logging
import shutil
import sys
from pathlib import Path

import pytest
import torch

from funasr import AutoModel
from funasr.auto.remote_code import load_remote_code
from funasr.models.build import build
from funasr.register import tables
from funasr.utils.config import read_yaml
from funasr.utils.errors import ConfigError

TALKER = '''
from funasr.models.paraformer.model import Paraformer
from funasr.register import tables


@tables.register("model_classes", "{name}")
class {name}(Paraformer):
    """Says the same louder."""

    def inference(self, data_in, data_lengths=None, key=None, tokenizer=None, frontend=None, *, loud: bool = True):
        results, meta = super().inference(data_in, data_lengths, key, tokenizer, frontend)
        return [{{**r, "text": r["text"] + "{mark}" * loud}} for r in results], meta
'''


def model_with_code(parity: Path, directory: Path, name: str, mark: str = "!", file: str = "model.py") -> Path:
    """A model directory whose class `name` is in a file of its own; its texts end with `mark`."""
    shutil.copytree(parity / "Paraformer", directory, ignore=shutil.ignore_patterns("expected"))
    config = directory / "config.yaml"
    config.write_text(config.read_text().replace("model: Paraformer", f"model: {name}"))
    (directory / file).write_text(TALKER.format(name=name, mark=mark))
    return directory


@pytest.fixture
def wav(parity: Path) -> str:
    return str(parity / "_wavs" / "b.wav")


@pytest.mark.parametrize("remote_code", [None, "./model.py", "model"])
def test_without_trust_it_is_refused_by_the_name_of_the_file(
    parity: Path, tmp_path: Path, remote_code: str | None
) -> None:
    directory = model_with_code(parity, tmp_path / "m", "Untrusted")
    (directory / "config.yaml").open("a").write("\ntrust_remote_code: true\nremote_code: ./model.py\n")
    with pytest.raises(ConfigError, match=r"model\.py would run.*trust_remote_code=True") as raised:
        AutoModel(model=directory, device="cpu", remote_code=remote_code)
    assert str(directory / "model.py") in str(raised.value)
    assert "Untrusted" not in tables.model_classes


def test_with_trust_it_is_a_model_like_others(parity: Path, tmp_path: Path, wav: str) -> None:
    plain = AutoModel(model=parity / "Paraformer", device="cpu").generate(wav)[0]["text"]
    directory = model_with_code(parity, tmp_path / "m", "Loud")
    model = AutoModel(model=directory, device="cpu", trust_remote_code=True, remote_code="./model.py")
    assert model.generate(wav)[0]["text"] == plain + "!"
    assert model.generate(wav, loud=False)[0]["text"] == plain
    assert AutoModel(model=directory, device="cpu").generate(wav)[0]["text"] == plain + "!"  # registered by now


def test_two_directories_with_a_file_of_the_same_name(parity: Path, tmp_path: Path, wav: str) -> None:
    models = [
        AutoModel(
            model=model_with_code(parity, tmp_path / mark, "Twin", mark), device="cpu", trust_remote_code=True
        )
        for mark in ("+", "-")
    ]  # fmt: skip
    assert [model.generate(wav)[0]["text"][-1] for model in models] == ["+", "-"]


def test_a_file_of_the_users_own(parity: Path, tmp_path: Path, wav: str, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = model_with_code(parity, tmp_path / "m", "Elsewhere", file="mine.txt")
    (directory / "mine.txt").rename(tmp_path / "mine.py")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="there is neither"):
        load_remote_code(directory, "../absent.py", trust_remote_code=True)
    for named in ("mine.py", "./mine", tmp_path / "mine.py"):
        assert load_remote_code(directory, named, trust_remote_code=True) == tmp_path / "mine.py"
    assert AutoModel(model=directory, device="cpu").generate(wav)[0]["text"].endswith("!")


def test_the_file_of_the_directory_wins_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "which.py").write_text("HERE = 'inside'\n")
    (tmp_path / "which.py").write_text("HERE = 'outside'\n")
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.WARNING):
        assert load_remote_code(tmp_path / "m", "which.py", trust_remote_code=True) == tmp_path / "m" / "which.py"
    assert str(tmp_path / "which.py") in caplog.text


@pytest.mark.parametrize(
    ("remote_code", "words"),
    [("https://example.org/model.py", "is a URL"), ("absent.py", "there is neither"), ("file:///model.py", "is a URL")],
)
def test_addresses_and_absent_files(tmp_path: Path, remote_code: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_remote_code(tmp_path, remote_code, trust_remote_code=True)


def test_a_missing_package_is_named_and_never_installed(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("import surely_not_installed.inner\n")
    with pytest.raises(ConfigError, match="needs the module 'surely_not_installed'"):
        load_remote_code(tmp_path, trust_remote_code=True)
    (tmp_path / "requirements.txt").write_text("surely_not_installed\n")
    with pytest.raises(ConfigError, match=r"requirements\.txt lists what it needs"):
        load_remote_code(tmp_path, trust_remote_code=True)


@pytest.mark.parametrize("line", ["from funasr.models.no_such import CTC", "from funasr.register import no_such"])
def test_code_for_another_version_is_called_that(tmp_path: Path, line: str) -> None:
    (tmp_path / "model.py").write_text(line + "\n")
    with pytest.raises(ConfigError, match=r"another version of funasr .*no_such.*leave out remote_code"):
        load_remote_code(tmp_path, trust_remote_code=True)
    with pytest.raises(ConfigError, match="another version of funasr") as caught:
        load_remote_code(tmp_path, trust_remote_code=True, model="NoSuchModel")
    assert "leave out" not in str(caught.value)


def test_an_error_in_the_file_names_it(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("1 / 0\n")
    with pytest.raises(ConfigError, match=r"model\.py failed .* ZeroDivisionError"):
        load_remote_code(tmp_path, trust_remote_code=True)


def test_modules_beside_the_file_belong_to_it_alone(tmp_path: Path) -> None:
    kept = list(sys.path)
    for value in ("one", "two"):
        folder = tmp_path / value
        folder.mkdir()
        (folder / "helper_beside.py").write_text(f"VALUE = '{value}'\n")
        (folder / "model.py").write_text("from helper_beside import VALUE\n")
        load_remote_code(folder, trust_remote_code=True)
        assert value == sys.modules["funasr_user_model"].VALUE
        assert "helper_beside" not in sys.modules
    assert sys.path == kept


def test_nothing_is_imported_that_is_not_needed(parity: Path, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text("raise RuntimeError('imported')\n")
    assert load_remote_code(tmp_path, model="Paraformer") is None
    assert load_remote_code(parity / "Paraformer", trust_remote_code=True) is None


OLD_STYLE = '''
import torch

from funasr.register import tables


@tables.register("model_classes", "OldStyle")
class OldStyle(torch.nn.Module):
    """Makes its parts itself, as models of FunASR 1.x do."""

    def __init__(self, encoder: str = None, encoder_conf: dict = None, ctc_weight: float = 0.5, input_size: int = 80,
                 vocab_size: int = -1, {rest}):
        super().__init__()
        self.encoder = tables.encoder_classes.get(encoder)(input_size=input_size, **encoder_conf)
        self.out = torch.nn.Linear(self.encoder.output_size(), vocab_size)
        self.ctc_weight, self.seen = ctc_weight, {seen}

    def inference(self, data_in, data_lengths=None, key: list = None, tokenizer=None, frontend=None, **kwargs):
        speech, lengths = frontend(data_in[0][None].to(kwargs["device"]), torch.tensor([len(data_in[0])]))
        ids = self.out(self.encoder(speech, lengths)[0]).argmax(-1)[0].unique_consecutive().tolist()
        text = tokenizer.decode(ids)
        return [{{"key": key[0], "text": text, "said": kwargs.get("say")}}], {{"batch_data_time": 1.0}}
'''


@pytest.mark.parametrize("rest", ["**kwargs", "frontend=None"])
def test_a_model_in_the_style_of_funasr_1x(
    rest: str, parity: Path, tmp_path: Path, wav: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory = model_with_code(parity, tmp_path / "m", "OldStyle")
    seen = "sorted(kwargs)" if rest == "**kwargs" else "[frontend is not None]"
    (directory / "model.py").write_text(OLD_STYLE.format(rest=rest, seen=seen))
    load_remote_code(directory, trust_remote_code=True)
    config = read_yaml(directory / "config.yaml")
    tokenizer = {"tokenizer": "CharTokenizer", "tokenizer_conf": {"token_list": str(directory / "tokens.json")}}
    built = build({**config, **tokenizer, "model_conf": {"ctc_weight": 0.3}}, strict=False).model
    assert built.ctc_weight == 0.3
    assert {"decoder", "decoder_conf", "tokenizer", "frontend"} <= set(built.seen) if seen[0] == "s" else built.seen[0]
    torch.save(built.state_dict(), directory / "model.pt")
    model = AutoModel(model=directory, device="cpu", trust_remote_code=True, model_conf={"ctc_weight": 0.7})
    assert model.model.ctc_weight == 0.7
    first, second = model.generate([wav, wav], say="anything")
    assert first == second and first["key"] == "b" and first["text"] and first["said"] == "anything"
    assert "selfattention_layer_type" not in caplog.text

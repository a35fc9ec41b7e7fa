"""The archive is a whole model directory and says nothing of the machine it was made on."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from funasr.bin import pack
from funasr.utils.config import dump_yaml, read_yaml


@pytest.fixture
def expdir(tmp_path: Path) -> Path:
    directory = tmp_path / "exp"
    directory.mkdir()
    config = {
        "model": "paraformer",
        "output_dir": str(tmp_path / "exp"),
        "cmvn_file": str(tmp_path / "dump" / "am.mvn"),
        "train_data_path_and_name_and_type": [[str(tmp_path / "wav.scp"), "speech", "sound"]],
        "token_list": ["<blank>", "one"],
    }
    (directory / "config.yaml").write_text(dump_yaml(config))
    metas = {"init_param": "model.pt", "config": "config.yaml", "frontend_conf": {"cmvn_file": "am.mvn"}}
    (directory / "configuration.json").write_text(json.dumps({"file_path_metas": metas}))
    (directory / "am.mvn").write_text("cmvn")
    (directory / "model.pt").write_text("last")
    (directory / "valid.acc.ave.pt").write_text("averaged")
    return directory


def test_archive_is_a_model_directory(expdir: Path, tmp_path: Path) -> None:
    names = pack.pack(expdir, tmp_path / "digits.tar.gz", "valid.acc.ave.pt")
    with tarfile.open(tmp_path / "digits.tar.gz") as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    model = tmp_path / "unpacked" / "digits"
    assert {path.name for path in model.iterdir()} == {"config.yaml", "configuration.json", "am.mvn", "model.pt"}
    assert set(names) <= {f"digits/{path.name}" for path in model.iterdir()}
    assert (model / "model.pt").read_text() == "averaged"
    config = read_yaml(model / "config.yaml")
    assert config["model"] == "paraformer" and config["token_list"] == ["<blank>", "one"]
    assert str(tmp_path) not in (model / "config.yaml").read_text()
    assert config["cmvn_file"] == "am.mvn"


def test_what_is_missing_is_named(expdir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--expdir", str(expdir), "--output", str(tmp_path / "x.tar.gz")]
    assert pack.main([*words, "--model_file", "none.pt"]) == 2
    assert "none.pt" in capsys.readouterr().err
    (expdir / "am.mvn").unlink()
    assert pack.main(words) == 2
    assert "am.mvn" in capsys.readouterr().err
    assert not (tmp_path / "x.tar.gz").exists()

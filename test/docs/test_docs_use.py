"""Every command and snippet of docs/use.md and docs/extend.md runs as it is printed.

Names of models are directories here, so nothing is fetched; the address in an example is one on the loopback interface.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from funasr import cli

ROOT = Path(__file__).parents[2]
MODELS = {"paraformer-zh": "BiCifParaformer", "fsmn-vad": "FsmnVADStreaming/model", "ct-punc": "CTTransformer/model",
          "cam++": "CAMPPlus/model"}  # fmt: skip


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def commands(page: str) -> list[str]:
    return [line for block in blocks(page, "sh") for line in block.replace("\\\n", " ").splitlines() if line]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with the models and recordings that the examples name."""
    folder = tmp_path_factory.mktemp("use")
    parity = ROOT / "test" / "parity"
    for name, model in MODELS.items():
        shutil.copytree(parity / model, folder / name, ignore=shutil.ignore_patterns("expected"))
    (folder / "talks").mkdir()
    for target, wav in {"talk": "b", "meeting": "s", "talks/one": "a", "talks/two": "c"}.items():
        shutil.copy(parity / "_wavs" / f"{wav}.wav", folder / f"{target}.wav")
    (folder / "wav.scp").write_text("one talks/one.wav\ntwo talks/two.wav\n")
    return folder


@pytest.fixture
def site(here: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(here)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def shell(command: str, cwd: Path) -> str:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-ec", command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (command, done.stderr[-3000:])
    return done.stdout


@pytest.mark.parametrize("command", commands("use.md"))
def test_commands(
    command: str, here: Path, site: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here)
    if "|" in command:
        assert shell(command, here).startswith("stdin ")
        return
    words = shlex.split(command.replace("https://example.org", site))
    assert words[0] == "funasr"
    assert cli.main(words[1:]) == 0
    assert capsys.readouterr().out or list(here.rglob("*.vtt")) or list(here.rglob("texts/*.txt"))


def test_python_of_use(
    here: Path, site: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(here)
    names: dict[str, Any] = {}
    for block in blocks("use.md", "python"):
        exec(block.replace("https://example.org", site), names)
    assert len((here / "results" / "1best_recog" / "text").read_text(encoding="utf-8").splitlines()) == 2
    assert (here / "meeting.srt").is_file()
    assert capsys.readouterr().out.endswith("fsmn-vad\n")


def test_extend(here: Path, tmp_path: Path) -> None:
    """The tutorial from its file to a directory that can be given away."""
    parts, *uses = blocks("extend.md", "python")
    (tmp_path / "my_parts.py").write_text(parts)
    (tmp_path / "data").mkdir()
    wavs = {f"u{i}": here / "talks" / f"{name}.wav" for i, name in enumerate(("one", "two"))}
    (tmp_path / "data" / "wav.scp").write_text("".join(f"{key} {path}\n" for key, path in wavs.items()))
    (tmp_path / "data" / "text").write_text("u0 ab\nu1 ba\n")
    (tmp_path / "tokens.txt").write_text("<blank>\na\nb\n_\n<unk>\n<sos/eos>\n")
    shutil.copy(here / "talk.wav", tmp_path)
    (train,) = commands("extend.md")
    quick = " --batch_type unsorted --batch_size 2 --num_workers 0 --use_tensorboard false --use_matplotlib false"
    shell(f"{train} {quick} --num_threads 1", tmp_path)
    mine = tmp_path / "mine"
    mine.mkdir()
    for source, name in (("my_parts.py", "model.py"), ("tokens.txt", "tokens.txt"), ("exp/mine/model.pt", "model.pt")):
        shutil.copy(tmp_path / source, mine / name)
    (mine / "config.yaml").write_text(
        "model: PlainCTC\nfrontend: BandEnergy\nfrontend_conf: {n_bands: 32}\nencoder: TransformerEncoder\n"
        "encoder_conf: {num_blocks: 2}\ntokenizer: LetterTokenizer\n"
    )
    page = (ROOT / "docs" / "extend.md").read_text(encoding="utf-8")
    (mine / "configuration.json").write_text(re.findall(r'\{"file_path_metas.*\}', page)[0])
    first = f"{uses[0]}\nassert 'ids' in model.generate('talk.wav', show_ids=True)[0]"
    second = f"from funasr import AutoModel\n{uses[1]}\nassert type(model.tokenizer).__name__ == 'LetterTokenizer'"
    for name, script in (("first.py", first), ("second.py", second)):
        (tmp_path / name).write_text(script)
        shell(f"OMP_NUM_THREADS=1 python {name}", tmp_path)


def test_extras_that_the_pages_name_exist() -> None:
    pages = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md"))
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for extra in set(re.findall(r"funasr\[(\w+)\]", pages)):
        assert f'"{extra}"' in setup, extra

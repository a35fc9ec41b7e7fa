"""The command: every kind of input, every format, files that are whole or absent, and an exit status that says so."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from funasr import cli
from funasr.text.writers import FORMATS

PARITY = Path(__file__).parents[1] / "parity"
MODEL = str(PARITY / "Paraformer")
WAVS = PARITY / "_wavs"


@pytest.fixture(autouse=True)
def one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same model is not built anew for every test."""
    from funasr.auto import auto_model

    original = auto_model.AutoModel

    def cached(model: str, **settings: Any) -> Any:
        key = json.dumps([model, settings])
        if key not in _MODELS:
            _MODELS[key] = original(model, **settings)
        return _MODELS[key]

    monkeypatch.setattr(auto_model, "AutoModel", cached)


_MODELS: dict[str, Any] = {}


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """A folder of recordings: a.wav, c.wav, more/b.wav, and a note that is no recording."""
    folder = tmp_path / "talks"
    (folder / "more").mkdir(parents=True)
    for name in ("a.wav", "c.wav", "more/b.wav"):
        shutil.copy(WAVS / Path(name).name, folder / name)
    (folder / "notes.md").write_text("not audio")
    return folder


@pytest.fixture
def site(talks: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(talks)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(capsys: pytest.CaptureFixture[str], *args: object, model: str = MODEL) -> tuple[int, str, str]:
    status = cli.main(["--model", model, "--device", "cpu", *map(str, args)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.fixture
def texts(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Key -> text of the recordings, one file at a time."""
    status, out, _ = run(capsys, *(WAVS / f"{name}.wav" for name in "abc"))
    assert status == 0
    return dict(line.split(" ", 1) for line in out.splitlines())


def test_key_and_text(texts: dict[str, str]) -> None:
    assert list(texts) == ["a", "b", "c"] and all(texts.values())


def test_every_kind_of_input(
    talks: Path, site: str, texts: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    scp = talks / "wav.scp"
    scp.write_text(f"first {talks / 'a.wav'}\n")
    jsonl = talks / "list.jsonl"
    jsonl.write_text(json.dumps({"key": "second", "source": str(talks / "c.wav")}) + "\n")
    for given, expected in {
        talks: {"a": "a", "c": "c", "b": "b"},
        talks / "*.wav": {"a": "a", "c": "c"},
        talks / "**" / "b.*": {"b": "b"},
        scp: {"first": "a"},
        jsonl: {"second": "c"},
        f"{site}/more/b.wav?token=1": {"b": "b"},
        "-": {"stdin": "a"},
    }.items():
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO((WAVS / "a.wav").read_bytes())))
        status, out, err = run(capsys, given)
        assert (status, out) == (0, "".join(f"{key} {texts[name]}\n" for key, name in expected.items())), (given, err)


def test_samples_without_a_header_from_standard_input(
    texts: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = (WAVS / "a.wav").read_bytes()[44:]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(samples)))
    assert run(capsys, "-")[1] == f"stdin {texts['a']}\n"


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"rttm"}))
def test_formats_on_screen_and_in_files(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wav = WAVS / "b.wav"
    extra = ["--timestamps"] if name == "json" else []
    status, shown, err = run(capsys, wav, "--format", name, *extra)
    assert status == 0, err
    beginning = {"json": '{"key": "b"', "srt": "1\n00:00:00,", "vtt": "WEBVTT\n", "tsv": "b\t", "ctm": "b 1 0.",
                 "textgrid": 'File type = "ooTextFile"', "text": "b "}[name]  # fmt: skip
    assert shown.startswith(beginning)
    assert name != "json" or json.loads(shown)["timestamp"]
    out = tmp_path / "out"
    assert run(capsys, wav, "--format", name, "--output-dir", out, *extra)[:2] == (0, "")
    (written,) = out.iterdir()
    assert written.name == "b" + FORMATS[name].suffix
    assert written.read_text(encoding="utf-8") == (shown.removeprefix("b ") if name == "text" else shown)


def test_files_keep_the_folders_of_a_directory(
    talks: Path, texts: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = talks.parent / "out"
    assert run(capsys, talks, "--output-dir", out, "--batch-size", 2)[0] == 0
    written = {path.relative_to(out).as_posix(): path.read_text().strip() for path in out.rglob("*") if path.is_file()}
    assert written == {"a.txt": texts["a"], "c.txt": texts["c"], "more/b.txt": texts["b"]}


def test_speakers_of_a_whole_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    models = ["--vad-model", PARITY / "FsmnVADStreaming" / "model", "--punc-model", PARITY / "CTTransformer" / "model"]
    models += ["--spk-model", PARITY / "CAMPPlus" / "model"]
    recogniser = str(PARITY / "BiCifParaformer")
    status, out, err = run(capsys, WAVS / "s.wav", "--format", "rttm", *models, model=recogniser)
    assert status == 0, err
    rows = [line.split() for line in out.splitlines()]
    assert rows and all(row[0] == "SPEAKER" and row[7].startswith("spk") for row in rows)
    shown = json.loads(run(capsys, WAVS / "s.wav", "--format", "json", *models, model=recogniser)[1])
    assert len(shown["sentence_info"]) == len(rows)


def test_resume_leaves_out_what_is_done(
    talks: Path, texts: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = talks.parent / "out"
    (talks / "c.wav").write_text("broken")
    status, _, err = run(capsys, talks, "--output-dir", out)
    assert status == 1 and "c.wav failed" in err and not (out / "c.txt").exists()
    (out / "a.txt").write_text("done before\n")
    shutil.copy(WAVS / "c.wav", talks / "c.wav")
    status, _, err = run(capsys, talks, "--output-dir", out, "--resume")
    assert status == 0 and "2 of 3 were done" in err
    assert (out / "a.txt").read_text() == "done before\n"
    assert (out / "c.txt").read_text().strip() == texts["c"]
    monkeypatch.setattr(cli, "_load", None)  # nothing left: no model is needed
    assert run(capsys, talks, "--output-dir", out, "--resume")[0] == 0


def test_what_fails_is_named_and_the_others_are_done(
    talks: Path, site: str, texts: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    bad = talks / "bad.wav"
    bad.write_text("not audio")
    given = [bad, talks / "absent.wav", talks / "x*.wav", f"{site}/absent.wav", "http://127.0.0.1:9/a.wav"]
    for batch_size in (1, 4):
        status, out, err = run(capsys, *given, talks / "a.wav", "--batch-size", batch_size)
        assert (status, out) == (1, f"a {texts['a']}\n")
        assert all(f"funasr: {name} failed: " in err for name in given)
        assert "404" in err and "no file matches" in err and "no such file" in err
    status, out, err = run(capsys, f"{site}/a.wav", "--max-download-mb", 1)
    assert status == 0  # 1 MiB is enough
    big = talks / "big.wav"
    big.write_bytes(bytes(2 << 20))
    status, _, err = run(capsys, f"{site}/big.wav", "--max-download-mb", 1)
    assert status == 1 and "larger than the limit" in err


def test_a_result_without_times_cannot_become_subtitles(parity: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(capsys, WAVS / "a.wav", "--format", "srt", model=str(parity / "Transformer"))
    assert (status, out) == (1, "") and "has no times" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--resume", "a.wav"], "--output-dir"),
        (["--format", "srt", "a.wav", "b.wav"], "--output-dir"),
        (["--output-dir", "OUT", "a.wav", "more/a.wav"], "would both be written"),
        (["--output-dir", "a.wav", "a.wav"], "not a directory"),
        (["--model", "absent/one/two", "a.wav"], "absent/one/two"),
        (["--model", "parafomer-zh", "a.wav"], "paraformer-zh"),
        (["--dtype", "float7", "a.wav"], "float7"),
        (["--format", "docx", "a.wav"], "docx"),
        (["--batch-size", "0", "a.wav"], "at least 1"),
        ([], "inputs"),
    ],
)
def test_wrong_options_and_models_are_status_2(
    args: list[str], words: str, talks: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(talks)
    for name in ("b.wav", "more/a.wav"):
        shutil.copy("a.wav", name)
    try:
        status = cli.main(["--model", MODEL, *args])
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    captured = capsys.readouterr()
    assert status == 2 and words in captured.err and captured.out == ""
    assert not list(talks.rglob("*.txt"))


def test_keys_cannot_leave_the_output_directory(talks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scp = talks / "wav.scp"
    scp.write_text(f"../../up {talks / 'a.wav'}\n.hidden {talks / 'c.wav'}\n")
    out = talks.parent / "deep" / "out"
    assert run(capsys, scp, "--output-dir", out)[0] == 0
    assert sorted(path.name for path in out.iterdir()) == ["_.._.._up.txt", "_.hidden.txt"]
    assert not list(talks.parent.glob("*.txt"))


def test_options_reach_the_model(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    class Model:
        def __init__(self, model: str, **settings: Any) -> None:
            asked.update(model=model, **settings)

        def generate(self, inputs: list[str], key: list[str], **options: Any) -> list[dict[str, Any]]:
            asked.update(options)
            sentence = {"text": "hi", "start": 0, "end": 9, "spk": 0}
            return [{"key": name, "text": "hi", "sentence_info": [sentence]} for name in key]

    monkeypatch.setattr("funasr.auto.auto_model.AutoModel", Model)
    wav = str(WAVS / "a.wav")
    command = (
        "--model paraformer-zh --vad-model v --punc-model p --hub hf --revision v2 --language zh --batch-size-s 60 "
        "--batch-size 3 --max-download-mb 7 --format rttm --dtype auto --threads 2 --device cpu --hotwords"
    )
    status = cli.main([*command.split(), "one two", wav])
    assert status == 0 and capsys.readouterr().out.startswith("SPEAKER a 1 ")
    assert asked == {
        "model": "paraformer-zh", "vad_model": "v", "punc_model": "p", "spk_model": "cam++", "hub": "hf",
        "model_revision": "v2", "dtype": "auto", "threads": 2, "device": "cpu", "batch_size": 3, "language": "zh",
        "hotword": "one two", "batch_size_s": 60.0, "max_download_mb": 7,
        "output_timestamp": True, "sentence_timestamp": True,
    }  # fmt: skip
    asked.clear()
    assert cli.main(["--model", "m", "--spk", wav]) == 0
    assert asked == {
        "model": "m",
        "vad_model": "fsmn-vad",
        "spk_model": "cam++",
        "hub": "ms",
        "device": None,
        "batch_size": 1,
    }


def test_help_imports_no_torch() -> None:
    script = (
        "import sys\n"
        "from funasr.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'soundfile', 'av'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert all(option in done.stdout for option in ("--vad-model", "--resume", "--format", "textgrid"))

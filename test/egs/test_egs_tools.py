"""The data preparation tools: archives arrive whole or not at all; unusable utterances leave all tables."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]


def call(tool: str, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / tool), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("corpus/a.txt", "a" * 5000)
    return path


@pytest.fixture
def server(archive: Path) -> Iterator[tuple[str, list[str | None]]]:
    """Serves the archive; the first whole request is cut off half way.  Gives the URL and the ranges asked for."""
    content = archive.read_bytes()
    ranges: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start:] if wanted else content[: len(content) // 2])

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http.server_port}/corpus.zip", ranges
    http.shutdown()
    http.server_close()


def test_a_download_that_broke_off_is_continued(server: tuple[str, list[str | None]], tmp_path: Path) -> None:
    url, ranges = server
    target = tmp_path / "out"
    done = call("download_and_extract.py", url, target)
    assert done.returncode == 1 and "run again" in done.stderr and not target.exists()
    done = call("download_and_extract.py", url, target)
    assert done.returncode == 0, done.stderr
    assert (target / "corpus" / "a.txt").read_text() == "a" * 5000
    assert ranges[0] is None and ranges[1] is not None
    assert call("download_and_extract.py", url, target).returncode == 0 and len(ranges) == 2


def test_checksum_and_damage_leave_nothing_behind(archive: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.zip"
    copy.write_bytes(archive.read_bytes())
    done = call("download_and_extract.py", copy, tmp_path / "out", "--sha256", "0" * 64)
    assert done.returncode == 1 and "SHA-256" in done.stderr and not (tmp_path / "out").exists()
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert call("download_and_extract.py", archive, tmp_path / "out", "--sha256", right).returncode == 0
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"no archive")
    done = call("download_and_extract.py", broken, tmp_path / "other")
    assert done.returncode == 1 and "neither" in done.stderr and not (tmp_path / "other").exists()


def test_unusable_utterances_leave_all_tables(tmp_path: Path) -> None:
    lengths = {"a-ok": 8000, "a-short": 100, "b-long": 40000, "b-mute": 8000, "b-ok": 16000}
    for name, samples in lengths.items():
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(samples), 8000)
    ids = sorted([*lengths, "b-none"])
    (tmp_path / "wav.scp").write_text("".join(f"{i} {tmp_path / i}.wav\n" for i in ids))
    (tmp_path / "text").write_text("".join(f"{i}\n" if i == "b-mute" else f"{i} some words\n" for i in ids))
    (tmp_path / "utt2spk").write_text("".join(f"{i} {i[0]}\n" for i in ids))
    done = call("filter_data_dir.py", tmp_path, "--min_duration", 0.1, "--max_duration", 3)
    assert done.returncode == 0, done.stderr
    for name in ("a-short", "b-long", "b-mute", "b-none"):
        assert name in done.stderr
    for table in ("wav.scp", "text", "utt2spk", "utt2dur"):
        assert [line.split()[0] for line in (tmp_path / table).read_text().splitlines()] == ["a-ok", "b-ok"]
    assert (tmp_path / "spk2utt").read_text() == "a a-ok\nb b-ok\n"
    assert (tmp_path / "utt2dur").read_text() == "a-ok 1.000\nb-ok 2.000\n"

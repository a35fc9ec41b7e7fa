"""Audio from an address on the loopback interface: whole or not at all, within the limit, gone afterwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from funasr.audio.download import downloaded, is_url, url_stem
from funasr.utils.errors import DamagedUtteranceError

DATA = bytes(range(256)) * 1000


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", {"/moved": "/a%20b.wav?x=1", "/moved-away": "file:///etc/hostname"}[self.path])
            self.end_headers()
        elif self.path.startswith("/absent"):
            self.send_error(404)
        else:
            self.send_response(200)
            if self.path != "/endless.wav":
                self.send_header("Content-Length", str(len(DATA) + (self.path == "/cut.wav")))
            self.end_headers()
            self.wfile.write(DATA)

    def log_message(self, *_: Any) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_file_that_is_gone_afterwards(site: str) -> None:
    for page in ("/a%20b.wav?x=1", "/moved"):
        with downloaded(site + page, max_bytes=len(DATA)) as path:
            assert path.read_bytes() == DATA
            assert path.suffix == (".wav" if page != "/moved" else "")
        assert not path.exists() and not path.parent.exists()


@pytest.mark.parametrize(
    ("page", "limit", "reason"),
    [
        ("/a.wav", len(DATA) - 1, "larger than the limit"),
        ("/endless.wav", len(DATA) - 1, "larger than the limit"),
        ("/cut.wav", 10**9, "cut off|cannot be downloaded"),
        ("/absent.wav", 10**9, "404"),
        ("/moved-away", 10**9, "cannot be downloaded"),
    ],
)
def test_what_goes_wrong_names_the_address(site: str, page: str, limit: int, reason: str) -> None:
    with pytest.raises(DamagedUtteranceError, match=reason) as raised, downloaded(site + page, max_bytes=limit):
        pass
    assert site + page in str(raised.value)


def test_nobody_there_and_other_schemes() -> None:
    for url in ("http://127.0.0.1:9/a.wav", "file:///etc/hostname", "ftp://127.0.0.1/a"):
        with pytest.raises(DamagedUtteranceError, match=r"127|file"), downloaded(url, timeout_s=2):
            pass


def test_names() -> None:
    assert is_url("https://x.org/a.wav") and is_url("HTTP://x.org")
    assert not any(map(is_url, ("a.wav", "C:\\a.wav", "http:a", "file:///a", b"http://x", None)))
    assert url_stem("http://x.org/d/a%20b.c.wav?y=/z.mp3") == "a b.c"
    assert url_stem("http://x.org/") == "x.org"

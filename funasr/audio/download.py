"""Audio from an address: into a temporary file, with a limit on its size."""

from __future__ import annotations

import http.client
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from funasr.utils.errors import DamagedUtteranceError

SCHEMES = ("http", "https")
MAX_BYTES = 1 << 30
TIMEOUT_S = 30.0
CHUNK_BYTES = 1 << 16


def is_url(source: object) -> bool:
    """Whether this is an http or https address."""
    return isinstance(source, str) and urlsplit(source).scheme.lower() in SCHEMES and "://" in source


def url_stem(url: str) -> str:
    """The file name in an address without its extension, as a key for results; the host if there is none."""
    parts = urlsplit(url)
    return PurePosixPath(unquote(parts.path)).stem or parts.hostname or "url"


@contextmanager
def downloaded(url: str, max_bytes: int = MAX_BYTES, timeout_s: float = TIMEOUT_S) -> Iterator[Path]:
    """A file with what the address serves, gone after the block.

    Args:
        max_bytes: what is larger is refused, from its announced size or as soon as more has come.
        timeout_s: longest time without an answer, seconds.

    Raises:
        DamagedUtteranceError: naming the address: not http(s), refused, too large, cut off.
    """
    if not is_url(url):
        raise DamagedUtteranceError(f"{url}: only {' and '.join(SCHEMES)} addresses are read")
    with tempfile.TemporaryDirectory(prefix="funasr_") as folder:
        path = Path(folder) / f"audio{PurePosixPath(unquote(urlsplit(url).path)).suffix[:8]}"
        try:
            _fetch(url, path, max_bytes, timeout_s)
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            status = f"{error.code} " if isinstance(error, urllib.error.HTTPError) else ""
            raise DamagedUtteranceError(f"{url}: cannot be downloaded: {status}{reason}") from error
        yield path


class _HttpOnly(urllib.request.HTTPRedirectHandler):
    """Redirections to http(s) addresses only; the default also follows ftp."""

    def redirect_request(  # type: ignore[no-untyped-def]
        self, req, fp, code, msg, headers, newurl
    ) -> urllib.request.Request | None:
        if not is_url(newurl):
            raise urllib.error.URLError(f"redirected to {newurl}")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, path: Path, max_bytes: int, timeout_s: float) -> None:
    limit = f"{url}: is larger than the limit of {max_bytes} bytes"
    with urllib.request.build_opener(_HttpOnly).open(url, timeout=timeout_s) as answer, path.open("wb") as file:
        announced = answer.headers.get("Content-Length")
        if announced is not None and int(announced) > max_bytes:
            raise DamagedUtteranceError(limit)
        done = 0
        while chunk := answer.read(CHUNK_BYTES):
            done += len(chunk)
            if done > max_bytes:
                raise DamagedUtteranceError(limit)
            file.write(chunk)
    if announced is not None and done < int(announced):
        raise DamagedUtteranceError(f"{url}: cut off: {announced} bytes announced, {done} received")

#!/usr/bin/env python3
"""Fetch an archive and unpack it; called by the `local/data.sh` of recipes whose corpus has a public home.

    tools/download_and_extract.py URL downloads/corpus [--sha256 HEX]

An interrupted download goes on where it stopped; nothing incomplete ever stands under a final name; what is there
already is not fetched again.  `file://` and plain paths work too.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import os
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

CHUNK_BYTES = 1 << 20
TIMEOUT_S = 60


class FetchError(RuntimeError):
    """A download or an archive that cannot be used; the message says what to do."""


def download(url: str, path: Path) -> None:
    """Fetch `url` into `path`, resuming `path.part`.  Raises FetchError."""
    part = path.with_name(path.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    have = part.stat().st_size if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            resumed = getattr(reply, "status", None) == 206  # a server may ignore the range and send all
            length = reply.headers.get("Content-Length")
            with part.open("ab" if resumed else "wb") as file:
                shutil.copyfileobj(reply, file, CHUNK_BYTES)
        expected = (int(length) + (have if resumed else 0)) if length else None
    except urllib.error.HTTPError as error:
        if error.code != 416:  # 416: there is nothing behind what we have, so it is whole
            raise FetchError(f"{url}: the server says {error.code} {error.reason}") from None
        expected = None
    except OSError as error:
        raise FetchError(f"{url}: {error}. Run again to go on, or fetch it yourself and give --corpus_dir") from None
    if expected is not None and part.stat().st_size != expected:
        raise FetchError(f"{url}: got {part.stat().st_size} of {expected} bytes; run again to go on")
    os.replace(part, path)


def check_sha256(path: Path, expected: str) -> None:
    """Raise FetchError, and delete the file, if its SHA-256 is not `expected`."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            digest.update(block)
    if digest.hexdigest() != expected.lower():
        path.unlink()
        raise FetchError(f"{path}: SHA-256 is {digest.hexdigest()}, not {expected}; it was deleted, run again")


def extract(archive: Path, directory: Path) -> None:
    """Unpack a zip or tar archive into `directory`, which appears only when complete.  Raises FetchError."""
    part = directory.with_name(directory.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as unpacked:
                unpacked.extractall(part)  # zipfile drops `..` and absolute paths itself
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as unpacked_tar:
                unpacked_tar.extractall(part, filter="data")
        else:
            raise FetchError(f"{archive} is neither a zip nor a tar archive")
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError) as error:
        raise FetchError(f"{archive} is damaged ({error}); delete it and run again") from None
    shutil.rmtree(directory, ignore_errors=True)
    os.replace(part, directory)


def main() -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="http(s), file URL or path of the archive")
    parser.add_argument("directory", type=Path, help="where its content goes; done if it exists")
    parser.add_argument("--sha256", help="checksum of the archive")
    args = parser.parse_args()
    logging.basicConfig(level="INFO", format="%(message)s")
    if args.directory.is_dir():
        logging.info("%s is there already", args.directory)
        return 0
    try:
        archive = Path(args.url)
        if not archive.is_file():
            archive = args.directory.with_name(args.directory.name + ".archive")
            if not archive.is_file():
                logging.info("downloading %s", args.url)
                download(args.url, archive)
        if args.sha256:
            check_sha256(archive, args.sha256)
        extract(archive, args.directory)
    except (FetchError, ValueError) as error:
        sys.stderr.write(f"download_and_extract: {error}\n")
        return 1
    logging.info("unpacked %s", args.directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())

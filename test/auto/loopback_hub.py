"""A hub on the loopback interface that speaks enough of both hubs' protocols for their real clients."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

Files = Mapping[str, bytes]


class LoopbackHub:
    """`repositories`: id -> revision -> files.  `requests` has the path of every request it got."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.repositories: dict[str, dict[str, Files]] = {}
        self.requests: list[str] = []

    def environment(self, caches: Path) -> dict[str, str]:
        """Variables that send the clients here, with their caches under `caches`."""
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith(("HF_", "MODELSCOPE_"))},
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(caches / "hf"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
            "MODELSCOPE_ENDPOINT": self.url,
            "MODELSCOPE_CACHE": str(caches / "ms"),
            "MODELSCOPE_HOME": str(caches / "ms_home"),
            "no_proxy": "127.0.0.1",
        }


def commit_of(revision: str) -> str:
    return hashlib.sha1(revision.encode()).hexdigest()


@contextmanager
def serve() -> Iterator[LoopbackHub]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.hub = hub = LoopbackHub(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def find_models(calls: list[dict[str, Any]], environment: Mapping[str, str], cwd: Path) -> list[dict[str, Any]]:
    """`find_model(**call)` for each call in one fresh process (the clients read the environment when imported)."""
    script = (
        "import json, sys\n"
        "from funasr.auto.hub import find_model\n"
        "for call in json.loads(sys.argv[1]):\n"
        "    try: print(json.dumps({'path': str(find_model(**call))}))\n"
        "    except ValueError as error: print(json.dumps({'error': str(error)}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, json.dumps(calls)],
        env={**environment, "PYTHONPATH": str(Path(__file__).parents[2])},
        cwd=cwd, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub: LoopbackHub = self.server.hub  # type: ignore[attr-defined]
        hub.requests.append(self.path)
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        for pattern, answer in (
            (r"/api/models/([^/]+/[^/]+)/revision/(.+)", self._hf_info),
            (r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", self._hf_tree),
            (r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self._hf_file),
        ):
            if found := re.fullmatch(pattern, url.path):
                return answer(hub, *found.groups())
        if found := re.fullmatch(r"/api/v1/models/([^/]+/[^/]+)/repo(/files)?", url.path):
            return self._ms(hub, found[1], query)
        return self._json({"error": "no such page"}, 404)

    def _hf_files(self, hub: LoopbackHub, model: str, revision: str) -> tuple[str, Files] | None:
        for name, files in hub.repositories.get(model, {}).items():
            if revision in (name, commit_of(name)):
                return commit_of(name), files
        error = "RevisionNotFound" if model in hub.repositories else "RepoNotFound"
        self._json({"error": f"{model}@{revision}: {error}"}, 404, {"X-Error-Code": error})
        return None

    def _hf_info(self, hub: LoopbackHub, model: str, revision: str) -> None:
        if found := self._hf_files(hub, model, revision):
            self._json({"id": model, "sha": found[0], "siblings": [{"rfilename": name} for name in found[1]]})

    def _hf_tree(self, hub: LoopbackHub, model: str, revision: str) -> None:
        if found := self._hf_files(hub, model, revision):
            self._json([
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in found[1].items()
            ])  # fmt: skip

    def _hf_file(self, hub: LoopbackHub, model: str, revision: str, name: str) -> None:
        if found := self._hf_files(hub, model, revision):
            data = found[1][name]
            etag = hashlib.sha1(data).hexdigest()
            self._send(data, {"X-Repo-Commit": found[0], "ETag": f'"{etag}"'})

    def _ms(self, hub: LoopbackHub, model: str, query: dict[str, str]) -> None:
        files = hub.repositories.get(model, {}).get(query["Revision"])
        if files is None:
            self._json({"Code": 10010205001, "Message": f"{model}@{query['Revision']} does not exist"}, 404)
        elif "FilePath" in query:
            self._send(files[query["FilePath"]], {})
        else:
            listed = [
                {"Path": name, "Name": name, "Type": "blob", "Size": len(d), "Sha256": hashlib.sha256(d).hexdigest()}
                for name, d in files.items()
            ]
            self._json({"Code": 200, "Data": {"Files": listed}})

    def _json(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self._send(json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})}, status)

    def _send(self, data: bytes, headers: Mapping[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Quiet."""

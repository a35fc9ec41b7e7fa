"""Names become directories: the path itself, the cache without the network, or the hub's real client."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from loopback_hub import LoopbackHub, find_models, serve

from funasr.auto.aliases import ALIASES
from funasr.auto.hub import find_model, hub_id
from funasr.utils.errors import ConfigError

FILES = {
    "config.yaml": b"model: Paraformer\n",
    "configuration.json": json.dumps({"file_path_metas": {"init_param": "model.pt", "config": "config.yaml"}}).encode(),
    "model.pt": b"weights" * 1000,
    "tokens.json": b'["a"]',
}
IDS = {"ms": ALIASES["fsmn-vad"].modelscope, "hf": str(ALIASES["fsmn-vad"].huggingface)}
DEFAULT = {"ms": "master", "hf": "main"}


@pytest.fixture
def hub() -> Iterator[LoopbackHub]:
    with serve() as served:
        for place, model in IDS.items():
            old = {**FILES, "tokens.json": b'["old"]'}
            served.repositories[model] = {DEFAULT[place]: FILES, "v2.0.4": old}
        yield served


@pytest.mark.parametrize("place", ["ms", "hf"])
def test_fetched_once_then_cached(hub: LoopbackHub, place: str, tmp_path: Path) -> None:
    environment = hub.environment(tmp_path)
    call = {"name": "fsmn-vad", "hub": place}
    pinned = {**call, "revision": "v2.0.4"}
    calls = [{**call, "offline": True}, call, call, {**call, "revision": "master"}, {**call, "offline": True}]
    absent, first, *again = find_models([*calls, pinned, {**pinned, "offline": True}, call], environment, tmp_path)
    assert "offline" in absent["error"] and IDS[place] in absent["error"]
    assert {name: (Path(first["path"]) / name).read_bytes() for name in FILES} == FILES
    *same, other, other_again, still = again
    assert [*same, still] == [first] * 4
    assert json.loads((Path(other["path"]) / "tokens.json").read_text()) == ["old"]
    assert other_again == other
    # A cached model never touches the network: each revision was listed once.
    listed = [path for path in hub.requests if "/repo/files?" in path or "/revision/" in path]
    assert len(listed) == len(set(listed)) == 2, listed
    asked = len(hub.requests)
    assert find_models([call, pinned], environment, tmp_path) == [first, other]
    assert len(hub.requests) == asked


@pytest.mark.parametrize("place", ["ms", "hf"])
def test_failures_give_the_clients_reason(hub: LoopbackHub, place: str, tmp_path: Path) -> None:
    environment = hub.environment(tmp_path)
    calls = [{"name": "nobody/nothing", "hub": place}, {"name": "fsmn-vad", "hub": place, "revision": "v9"}]
    nothing, revision = find_models(calls, environment, tmp_path)
    assert "nobody/nothing cannot be fetched" in nothing["error"] and "404" in nothing["error"]
    assert "v9" in revision["error"]
    assert "\n" not in nothing["error"] + revision["error"]


def test_a_download_that_was_cut_short_is_not_a_cached_model(hub: LoopbackHub, tmp_path: Path) -> None:
    environment = {**hub.environment(tmp_path), "MODELSCOPE_DOWNLOAD_MAX_RETRIES": "1"}
    first = find_models([{"name": "fsmn-vad"}], environment, tmp_path)[0]["path"]
    (Path(first) / "model.pt").rename(Path(first) / "model.pt.incomplete")
    offline, whole = find_models([{"name": "fsmn-vad", "offline": True}, {"name": "fsmn-vad"}], environment, tmp_path)
    assert "not in the cache" in offline["error"]
    assert (Path(whole["path"]) / "model.pt").read_bytes() == FILES["model.pt"]


def test_a_cache_of_an_older_modelscope_is_used_for_its_revision_only(hub: LoopbackHub, tmp_path: Path) -> None:
    directory = tmp_path / "ms" / "models" / IDS["ms"]
    directory.mkdir(parents=True)
    for name, data in FILES.items():
        (directory / name).write_bytes(data)
    (directory / ".mv").write_text("Revision:v2.0.4,CreatedAt:1706000000")
    calls = [{"name": "fsmn-vad", "revision": revision, "offline": True} for revision in ("v2.0.4", "v2.0.5")]
    same, other = find_models(calls, hub.environment(tmp_path), tmp_path)
    assert same["path"] == str(directory)
    assert "v2.0.5" in other["error"]
    assert not hub.requests


def test_an_existing_directory_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fsmn-vad").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_model("fsmn-vad") == Path("fsmn-vad")
    assert find_model(tmp_path, hub="hf", offline=True) == tmp_path


@pytest.mark.parametrize(
    ("name", "hub_name", "expected"),
    [
        ("paraformer-zh", "ms", ALIASES["paraformer-zh"].modelscope),
        ("Cam++", "huggingface", "funasr/campplus"),
        ("iic/emotion2vec_plus_base", "hf", "emotion2vec/emotion2vec_plus_base"),
        ("funasr/ct-punc", "modelscope", ALIASES["ct-punc"].modelscope),
        ("someone/Some.Model-1", "hf", "someone/Some.Model-1"),
    ],
)
def test_ids(name: str, hub_name: str, expected: str) -> None:
    assert hub_id(name, hub_name) == expected


@pytest.mark.parametrize(
    ("name", "hub_name", "words"),
    [
        ("parafomer-zh", "ms", "paraformer-zh"),
        ("exp/asr/absent", "ms", "neither a directory"),
        ("../up", "ms", "neither a directory"),
        ("paraformer-en-spk", "hf", "hub='ms'"),
        ("fsmn-vad", "openai", "hub must be one of"),
    ],
)
def test_wrong_names(name: str, hub_name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        find_model(name, hub_name)


def test_a_missing_client_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, place, extra in (("modelscope", "ms", "modelscope"), ("huggingface_hub", "hf", "hub")):
        for name in (module, "modelscope.hub.snapshot_download"):
            monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(ConfigError, match=rf"funasr\[{extra}\]"):
            find_model("fsmn-vad", place)

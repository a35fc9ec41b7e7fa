"""From the name of a model to a directory on this machine: a path, the hub client's cache, or a download.

The clients are the hubs' own (`modelscope`, `huggingface_hub`), with their cache places, endpoints and tokens
(`MODELSCOPE_CACHE`, `MODELSCOPE_ENDPOINT`, `HF_HOME`, `HF_ENDPOINT`, ...).
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from funasr.auto.aliases import ALIASES, PACKAGED
from funasr.register import nearest_names
from funasr.utils.errors import ConfigError

logger = logging.getLogger(__name__)

WEIGHT_SUFFIXES = (".pt", ".safetensors", ".bin", ".pth", ".onnx")
UNFINISHED_SUFFIX = ".incomplete"
UNFINISHED_FOLDER = "._____temp"  # where older ModelScope clients keep what they are fetching
DEFAULT_REVISIONS = (None, "master", "main")  # each hub has one of the two names for its default branch

_ID = re.compile(r"[\w.-]+/[\w.+-]+")


@dataclass(frozen=True)
class Hub:
    """A place models are fetched from; `fetch(model_id, revision, local_files_only)` returns a directory."""

    title: str
    default_revision: str
    extra: str
    fetch: Callable[[str, str, bool], str]


def _fetch_modelscope(model_id: str, revision: str, local_files_only: bool) -> str:
    from modelscope.hub.snapshot_download import snapshot_download

    return str(snapshot_download(model_id, revision=revision, local_files_only=local_files_only))


def _fetch_huggingface(model_id: str, revision: str, local_files_only: bool) -> str:
    from huggingface_hub import snapshot_download

    return str(snapshot_download(model_id, revision=revision, local_files_only=local_files_only))


_MODELSCOPE = Hub("ModelScope", "master", "modelscope", _fetch_modelscope)
_HUGGINGFACE = Hub("Hugging Face", "main", "hub", _fetch_huggingface)
HUBS = {"ms": _MODELSCOPE, "modelscope": _MODELSCOPE, "hf": _HUGGINGFACE, "huggingface": _HUGGINGFACE}


def find_model(name: str | Path, hub: str = "ms", revision: str | None = None, offline: bool = False) -> Path:
    """The directory of a model.

    In this order: an existing directory; the client's cache, if it holds the asked revision whole (the network is not
    touched then, so a branch stays as it was when it was fetched); a download.

    Args:
        name: directory, alias (`paraformer-zh`) or hub id (`iic/SenseVoiceSmall`, of either hub).
        hub: "ms" or "modelscope", "hf" or "huggingface".
        revision: branch, tag or commit; None, "master" and "main" are the default branch.
        offline: never use the network.

    Raises:
        ConfigError: an unknown name (with the nearest ones), a missing client (with the install command), or a model
            that is neither cached nor can be fetched (with the client's reason).
    """
    directory = Path(name)
    if directory.is_dir():
        return directory
    if name in PACKAGED:
        raise ConfigError(f"model '{name}' comes with a Python package and has no directory; give it to AutoModel")
    if hub not in HUBS:
        raise ConfigError(f"hub must be one of {', '.join(HUBS)}, not '{hub}'")
    place = HUBS[hub]
    model_id = hub_id(str(name), hub)
    revision = place.default_revision if revision in DEFAULT_REVISIONS else str(revision)
    found = _cached(place, model_id, revision)
    if found is not None:
        return found
    at = "" if revision == place.default_revision else f" at revision '{revision}'"
    if offline:
        raise ConfigError(
            f"model '{name}': {model_id}{at} is not in the cache of {place.title}, and offline is set; fetch it once "
            "with the network, or give the path of a model directory"
        )
    logger.info("fetching %s%s from %s", model_id, at, place.title)
    try:
        return Path(place.fetch(model_id, revision, False))
    except Exception as error:  # each client and version has errors of its own; the user needs the reason in one line
        raise ConfigError(
            f"model '{name}' is not a directory, and {model_id}{at} cannot be fetched from {place.title}: "
            f"{_reason(error)}"
        ) from error


def hub_id(name: str, hub: str) -> str:
    """The id on `hub` of an alias, or of an id that an alias has on the other hub; other ids as they are.

    Raises ConfigError for what is neither, with the nearest aliases.
    """
    alias = next((known for known in ALIASES if known.lower() == name.lower()), None)
    alias = alias or next((known for known, ids in ALIASES.items() if name in ids), None)
    if alias is not None:
        ids = ALIASES[alias]
        if HUBS[hub] is _MODELSCOPE:
            return ids.modelscope
        if ids.huggingface is None:
            raise ConfigError(f"model '{name}' is not on Hugging Face; use hub='ms'")
        return ids.huggingface
    if _ID.fullmatch(name) and not name.startswith("."):
        return name
    near = nearest_names(name, list(ALIASES))
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    raise ConfigError(
        f"model '{name}' is neither a directory, nor a known name, nor a hub id (owner/name){hint} "
        f"Known names: {', '.join(ALIASES)}"
    )


def _cached(place: Hub, model_id: str, revision: str) -> Path | None:
    """The cached directory, if it is whole and of the asked revision."""
    try:
        found = Path(place.fetch(model_id, revision, True))
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{model_id} comes from {place.title}, whose client cannot be imported ({error}); "
            f"pip install 'funasr[{place.extra}]'"
        ) from error
    except Exception as error:  # "not cached" has another name in each client and version
        logger.debug("%s is not cached: %s", model_id, error)
        return None
    return found if _is_whole(found) and _kept_revision(found) in (None, revision) else None


def _is_whole(directory: Path) -> bool:
    """Whether nothing of a model directory is missing, as after a download that was stopped."""
    files = [path for path in directory.rglob("*") if path.is_file()] if directory.is_dir() else []
    if any(path.suffix == UNFINISHED_SUFFIX or UNFINISHED_FOLDER in path.parts for path in files):
        return False
    metas = directory / "configuration.json"
    try:
        named = json.loads(metas.read_text(encoding="utf-8")).get("file_path_metas", {}) if metas.is_file() else {}
        weights, config = named.get("init_param"), named.get("config", "config.yaml")
    except (json.JSONDecodeError, AttributeError):
        return False
    has_weights = (directory / weights).is_file() if weights else any(f.suffix in WEIGHT_SUFFIXES for f in files)
    return has_weights and (metas.is_file() or (directory / config).is_file())


def _kept_revision(directory: Path) -> str | None:
    """The revision that older ModelScope clients noted beside the files, which hold one revision at a time."""
    note = directory / ".mv"
    found = re.match(r"Revision:([^,\s]+)", note.read_text(encoding="utf-8")) if note.is_file() else None
    return found[1] if found else None


def _reason(error: Exception) -> str:
    """The client's own words, on one line."""
    words = " ".join(str(error).split())
    return words or type(error).__name__

"""A model directory: where training ends and use begins.

Layouts read: `configuration.json` (its `file_path_metas` say which option each file fills) with `config.yaml`, or
`config.yaml` alone with files of the usual names beside it.  What `Task.main()` writes is the first of the two.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from funasr.utils.config import deep_merge, read_yaml
from funasr.utils.errors import ConfigError

OWN_WEIGHTS = "init_param_path"
WEIGHT_FILES = ("model.pt", "model.safetensors")
# Files picked up by name when there is no configuration.json: (file, option path); earlier ones win.
USUAL_FILES = (
    ("tokens.json", ("tokenizer_conf", "token_list")),
    ("tokens.txt", ("tokenizer_conf", "token_list")),
    ("seg_dict", ("tokenizer_conf", "seg_dict_file")),
    ("bpe.model", ("tokenizer_conf", "bpemodel")),
    ("am.mvn", ("frontend_conf", "cmvn_file")),
    ("jieba_usr_dict", ("model_conf", "jieba_usr_dict")),
)


@dataclass(frozen=True)
class ModelDirectory:
    """The resolved configuration (file options are full paths) and the weight file.

    own_weights: parts that read weights from a path of their own (`llm_conf.init_param_path`), with that path.
    """

    path: Path
    config: dict[str, Any]
    weights: Path
    own_weights: Mapping[str, str] = field(default_factory=dict)


def read_model_dir(path: str | Path, overrides: Mapping[str, Any] | None = None) -> ModelDirectory:
    """Read a model directory.

    Precedence: `overrides` (the caller's) over the files that configuration.json names over `config.yaml`.  Raises
    ConfigError if it is not a model directory, has no weights, or names a file outside itself.
    """
    directory = Path(path)
    if not directory.is_dir():
        raise ConfigError(f"model '{path}' is not a directory; give the path of a model or experiment directory")
    if not (directory / "config.yaml").is_file():
        raise ConfigError(f"{directory} is not a model directory: it has no config.yaml")
    config = read_yaml(directory / "config.yaml")
    metas_file = directory / "configuration.json"
    found = _named_files(directory, metas_file) if metas_file.is_file() else _usual_files(directory)
    if "tokenizer_conf" in found and not config.get("tokenizer"):
        found = _as_task_options(found)
    config = deep_merge(config, found)
    config = deep_merge(config, overrides or {})
    weights = config.pop("init_param", None)
    config.pop("config", None)
    config = _with_own_folders(config, directory)
    own = {
        name.removesuffix("_conf"): conf[OWN_WEIGHTS] for name, conf in config.items() if _has_own_weights(name, conf)
    }
    return ModelDirectory(directory, config, _weights(directory, weights), own)


def _has_own_weights(name: str, conf: Any) -> bool:
    """Whether it is the `_conf` of a part that is made of a path, e.g. a language model in a folder of its own."""
    return name.endswith("_conf") and isinstance(conf, Mapping) and isinstance(conf.get(OWN_WEIGHTS), str)


def _with_own_folders(config: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Relative paths of parts that are in the directory as full ones, also if config.yaml alone names them."""
    found: dict[str, Any] = {}
    for name, conf in config.items():
        full = inside(directory, conf[OWN_WEIGHTS]) if _has_own_weights(name, conf) else None
        if full is not None and full.exists():
            found[name] = {OWN_WEIGHTS: str(full)}
    return deep_merge(config, found)


def inside(directory: Path, name: str | Path) -> Path | None:
    """The full path of what is named in a directory; None if the name leads out of it.

    Links are left as they are: the cache of a hub is made of them, and what they lead to has lost its name.
    """
    root = os.path.abspath(directory)
    full = Path(os.path.abspath(os.path.join(root, name)))
    return full if full.is_relative_to(root) else None


def _weights(directory: Path, named: Any) -> Path:
    if isinstance(named, str) and Path(named).is_file():
        return Path(named)
    for name in WEIGHT_FILES:
        if (directory / name).is_file():
            return directory / name
    hint = " (training has not finished; continue it with --resume true)" if (directory / "checkpoint").is_dir() else ""
    raise ConfigError(f"{directory} holds no weights: none of {', '.join(WEIGHT_FILES)}{hint}")


def _named_files(directory: Path, metas_file: Path) -> dict[str, Any]:
    try:
        metas = json.loads(metas_file.read_text(encoding="utf-8")).get("file_path_metas", {})
    except (json.JSONDecodeError, AttributeError) as error:
        raise ConfigError(f"{metas_file} is not a JSON object: {error}") from None
    return _resolve(metas, directory, metas_file)


def _resolve(metas: Any, directory: Path, source: Path) -> Any:
    """The same nesting with each existing file as a full path; entries whose file is absent are left out."""
    if isinstance(metas, Mapping):
        resolved = {key: _resolve(value, directory, source) for key, value in metas.items()}
        return {key: value for key, value in resolved.items() if value not in (None, {}, [])}
    if isinstance(metas, list):
        return [value for item in metas if (value := _resolve(item, directory, source)) is not None]
    if not isinstance(metas, str):
        return None
    full = inside(directory, metas)
    if full is None:
        raise ConfigError(f"{source}: '{metas}' lies outside the model directory and is not read")
    return str(full) if full.exists() else None


def _usual_files(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (group, option) in USUAL_FILES:
        if (directory / name).is_file():
            found.setdefault(group, {}).setdefault(option, str(inside(directory, name)))
    return found


def _as_task_options(found: dict[str, Any]) -> dict[str, Any]:
    """The tokenizer's files under the names that a task's config.yaml has for them (`token_list`, `bpemodel`)."""
    found = dict(found)
    return {**found, **found.pop("tokenizer_conf")}

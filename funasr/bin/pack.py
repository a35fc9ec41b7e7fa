"""Pack an experiment into one archive: a model directory, ready for `AutoModel` after unpacking.

    python -m funasr.bin.pack --expdir exp/asr_train_word --output exp/asr.tar.gz [--model_file valid.acc.ave.pt]

The archive holds the configuration, the weights as `model.pt`, and the files that configuration.json names.  Paths of
the training machine are taken out of config.yaml.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import sys
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from funasr.bin.command import user_errors
from funasr.utils.config import dump_yaml, read_yaml
from funasr.utils.errors import ConfigError
from funasr.utils.io import atomic_path
from funasr.utils.logging import setup_logging

logger = logging.getLogger(__name__)

# What a configuration says about the machine it was trained on, of no use anywhere else.
TRAINING_PATHS = (
    "config",
    "output_dir",
    "train_data_path_and_name_and_type",
    "valid_data_path_and_name_and_type",
    "train_shape_file",
    "valid_shape_file",
    "init_param",
    "noise_scp",
    "rir_scp",
    "resume",
)
FILE_OPTIONS = ("cmvn_file", "bpemodel", "seg_dict_file", "jieba_usr_dict", "token_list")
USUAL_FILES = ("am.mvn", "bpe.model", "tokens.txt", "tokens.json", "seg_dict")


def pack(expdir: str | Path, output: str | Path, model_file: str = "model.pt", extra: Sequence[str] = ()) -> list[str]:
    """Write the archive `output` (.tar.gz); returns the names in it.

    Args:
        expdir: experiment directory with config.yaml and, usually, configuration.json.
        model_file: weights, relative to `expdir`.
        extra: more files of `expdir` to take along, e.g. RESULTS.md.

    Raises:
        ConfigError: a file is missing.
    """
    expdir, output = Path(expdir), Path(output)
    if not (expdir / model_file).is_file():
        raise ConfigError(f"{expdir / model_file} does not exist; train first, or name the weights with --model_file")
    config = read_yaml(expdir / "config.yaml")
    metas_file = expdir / "configuration.json"
    metas: dict[str, Any] = json.loads(metas_file.read_text(encoding="utf-8")) if metas_file.is_file() else {}
    named = set(_strings(metas.get("file_path_metas", {}))) or {n for n in USUAL_FILES if (expdir / n).is_file()}
    files = {name: expdir / name for name in sorted({*named, *extra} - {"config.yaml", "model.pt"})}
    missing = [str(path) for path in files.values() if not path.is_file()]
    if missing:
        raise ConfigError(f"{', '.join(missing)}: named by {metas_file} or --extra, but not there")
    root = output.name.removesuffix(".gz").removesuffix(".tar").removesuffix(".tgz")
    with atomic_path(output) as temporary, tarfile.open(temporary, "w:gz") as archive:
        _add_text(archive, f"{root}/config.yaml", dump_yaml(portable(config)))
        if metas:
            _add_text(archive, f"{root}/configuration.json", json.dumps(metas, indent=2) + "\n")
        for name, path in {**files, "model.pt": expdir / model_file}.items():
            archive.add(path.resolve(), f"{root}/{name}", recursive=False, filter=_anonymous)
    return [f"{root}/{name}" for name in ("config.yaml", *files, "model.pt")]


def portable(config: dict[str, Any]) -> dict[str, Any]:
    """`config` without paths of the training machine; files that travel along are named without directories."""
    kept = {key: value for key, value in config.items() if key not in TRAINING_PATHS}
    for part in ("model_conf", "tokenizer_conf", "frontend_conf"):
        if isinstance(kept.get(part), dict):
            kept[part] = _named_without_directories(kept[part])
    kept = _named_without_directories(kept)
    if isinstance(kept.get("user_modules"), list):
        kept["user_modules"] = [Path(file).name for file in kept["user_modules"]]
    if isinstance(kept.get("environment"), dict):
        kept["environment"] = {k: v for k, v in kept["environment"].items() if k not in ("command", "host")}
    return kept


def _named_without_directories(config: dict[str, Any]) -> dict[str, Any]:
    names = {key: Path(value).name for key, value in config.items() if key in FILE_OPTIONS and isinstance(value, str)}
    if "cmvn_file" in names:
        names["cmvn_file"] = "am.mvn"
    return {**config, **names}


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    info = tarfile.TarInfo(name)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


@user_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--expdir", required=True, help="experiment directory")
    parser.add_argument("--output", required=True, help="archive to write, .tar.gz")
    parser.add_argument("--model_file", default="model.pt", help="weights in the experiment directory")
    parser.add_argument("--extra", action="append", default=[], help="another file of the experiment directory; repeat")
    args = parser.parse_args(argv)
    setup_logging()
    names = pack(args.expdir, args.output, args.model_file, args.extra)
    logger.info("%s holds %s", args.output, ", ".join(names))
    return 0


if __name__ == "__main__":
    sys.exit(main())

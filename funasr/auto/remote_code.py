"""Python files that come with a model: run only if the user says so, and only a file of this machine.

A file registers classes (`@tables.register("model_classes", ...)`) that `config.yaml` then names.  A class derived from
`torch.nn.Module` makes its parts itself, of the whole configuration.  Where a part is made of a folder of the model
directory, `configuration.json` gives its full path (`{"llm_conf": {"init_param_path": "Qwen"}}`, or tokenizer_conf);
weights of such a part (`llm.*`) need not be in the weight file of the model.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path

from funasr.auto.model_dir import inside
from funasr.register import tables
from funasr.utils.errors import ConfigError

logger = logging.getLogger(__name__)

USUAL_NAME = "model.py"

_importing = threading.Lock()  # sys.path belongs to the process


def load_remote_code(
    directory: str | Path,
    remote_code: str | Path | None = None,
    *,
    trust_remote_code: bool = False,
    model: str | None = None,
) -> Path | None:
    """Import the Python file that defines a model's classes.

    Modules beside the file can be imported at its top.  Nothing is installed: a package that is missing is named.

    Args:
        directory: the model directory.
        remote_code: a file inside the directory, or one of the user's own (relative to the working directory); `.py`
            may be left out.  None: `model.py` of the directory, if there is one.
        trust_remote_code: whether the user allows it.  A model directory cannot say so itself.
        model: a class that `config.yaml` names.

    Returns:
        The file that was imported; None if there is none or it is not needed.

    Raises:
        ConfigError: code is needed and not trusted (names the file that would run), is not there, is a URL, or fails
            when imported.
    """
    directory = Path(directory)
    if remote_code is None:
        file = directory / USUAL_NAME
        needed = model is not None and model not in tables.model_classes
        if not file.is_file() or not (trust_remote_code or needed):
            return None
    else:
        file = _find(directory, remote_code)
    if not trust_remote_code:
        raise ConfigError(
            f"{directory} needs code of its own: {file.absolute()} would run with your rights; read it, and if you "
            "trust it pass trust_remote_code=True"
        )
    logger.info("running %s", file)
    _import(file.absolute(), directory, needed=model is not None)
    return file


def _find(directory: Path, remote_code: str | Path) -> Path:
    """The file meant: inside the model directory, else where the user says."""
    if "://" in str(remote_code):
        raise ConfigError(f"remote_code='{remote_code}' is a URL; download the file, read it, and give its path")
    name = Path(remote_code) if Path(remote_code).suffix == ".py" else Path(f"{remote_code}.py")
    within, own = inside(directory, name), Path(os.path.abspath(name))
    if within is not None and within.is_file():
        if own.is_file() and own != within and own.read_bytes() != within.read_bytes():
            logger.warning("%s of the model directory is used, not %s; give a full path for the other", within, own)
        return within
    if own.is_file():
        return own
    raise ConfigError(f"remote_code='{remote_code}': there is neither {directory.absolute() / name} nor {own}")


def _import(file: Path, directory: Path, needed: bool) -> None:
    """Run the file, with its folder last on sys.path; modules it took from there are not left for other models."""
    folder = str(file.parent)
    with _importing:
        before = set(sys.modules)
        sys.path.append(folder)
        try:
            tables.load_file(file)
        except Exception as error:  # anything can go wrong in somebody else's file; the cause is chained
            raise _explained(error, file, directory, needed) from error
        finally:
            sys.path.remove(folder)
            for name in set(sys.modules) - before:
                origin = getattr(sys.modules[name], "__file__", None)
                if origin and Path(origin) != file and Path(origin).is_relative_to(folder):
                    del sys.modules[name]


def _explained(error: Exception, file: Path, directory: Path, needed: bool) -> ConfigError:
    """What went wrong when a file was imported, and what to do; `needed`: a class of it is."""
    if isinstance(error, ImportError) and (error.name or "").split(".")[0] == "funasr":
        hint = "" if needed else "; no class of it is needed here: leave out remote_code and trust_remote_code"
        return ConfigError(f"{file} was written for another version of funasr ({error}){hint}")
    if isinstance(error, ModuleNotFoundError):
        listed = next((path for path in (directory / "requirements.txt", file.parent / "requirements.txt")
                       if path.is_file()), None)  # fmt: skip
        hint = f"; {listed} lists what it needs, install that yourself" if listed else ""
        return ConfigError(f"{file} needs the module '{error.name}', which is not installed{hint}")
    return ConfigError(f"{file} failed when it was imported: {type(error).__name__}: {error}")

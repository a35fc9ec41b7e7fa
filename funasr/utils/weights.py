"""Weight files of every kind, read without running code, and their way into a model.

Reads `.safetensors`, bare state dicts (`epoch.N.pt`, `Nepoch.pb` of FunASR 0.x), full training states
(`checkpoint/last.pt`, `checkpoint.pb`) and the dicts of FunASR 1.x (`model.pt` with `state_dict` inside).
"""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from funasr.utils.errors import ConfigError

logger = logging.getLogger(__name__)

_RANDOM_FILLS = frozenset(
    {
        *(Tensor.uniform_, Tensor.normal_, nn.init.uniform_, nn.init.normal_, nn.init.trunc_normal_),
        *(nn.init.kaiming_uniform_, nn.init.kaiming_normal_, nn.init.xavier_uniform_, nn.init.xavier_normal_),
    }
)
NESTED_UNDER = ("state_dict", "model_state_dict", "model")


def load_weights(path: str | Path, mapped: bool = False) -> dict[str, Tensor]:
    """Parameter name -> tensor on the CPU, with `module.` prefixes of data-parallel wrappers removed.

    Args:
        mapped: as for `load_plain`.

    Raises ConfigError if the file is missing, truncated, no weight file, or a pickle that would run code.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        state: Any = _read_safetensors(path)
    else:
        state = load_plain(path, mapped)
    for _ in NESTED_UNDER:  # at most one level each, so a file cannot make this endless
        inner = next((state[k] for k in NESTED_UNDER if isinstance(state, Mapping) and k in state), None)
        if not isinstance(inner, Mapping):
            break
        state = inner
    tensors = {k: v for k, v in state.items() if isinstance(v, Tensor)} if isinstance(state, Mapping) else {}
    if not tensors:
        raise ConfigError(f"{path} holds no weights: no name -> tensor table was found in it")
    if all(key.startswith("module.") for key in tensors):
        tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    return tensors


def load_plain(path: str | Path, mapped: bool = False) -> Any:
    """Content of a `torch.save` file that holds only plain data and tensors.  Raises ConfigError as `load_weights`.

    Args:
        mapped: leave tensors in the file until they are used, as with .safetensors: of a table of word embeddings
            only the rows in use come into memory.  Files of torch before 1.6 are read whole.
    """
    path = Path(path)
    _check_file(path)
    try:
        with torch.serialization.safe_globals(_harmless()):
            mapped = mapped and zipfile.is_zipfile(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found:
            raise ConfigError(
                f"{path} is refused: it is a pickle that refers to {found[1]}, and loading it could run code. "
                "Save the weights alone (torch.save(model.state_dict(), ...)) or as .safetensors."
            ) from None
        raise ConfigError(f"{path} is not a weight file, or is damaged: {_first_line(error)}") from None
    except (RuntimeError, EOFError, ValueError, KeyError, AttributeError, OSError) as error:
        raise ConfigError(f"{path} is truncated or no weight file: {_first_line(error)}") from None


@dataclass(frozen=True)
class LoadReport:
    """What `load_into` did.  `loaded` and `missing` are names in the model, `unexpected` and `excluded` in the file;
    `mismatched` are (name, shape in the file, shape in the model)."""

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]
    excluded: tuple[str, ...] = ()

    def __str__(self) -> str:
        parts = [f"{len(self.loaded)} tensors loaded"]
        for word, names in (("missing in the file", self.missing), ("unknown to the model", self.unexpected)):
            if names:
                parts.append(f"{len(names)} {word} ({_some(names)})")
        if self.mismatched:
            shapes = [f"{name} {list(a)} in the file, {list(b)} in the model" for name, a, b in self.mismatched]
            parts.append(f"{len(shapes)} of another shape ({_some(shapes)})")
        if self.excluded:
            parts.append(f"{len(self.excluded)} excluded")
        return "; ".join(parts)


def load_into(
    model: nn.Module,
    state: Mapping[str, Tensor],
    ignore_mismatch: bool = False,
    scope_map: str | Sequence[str] | None = None,
    excludes: Sequence[str] = (),
    adopt: bool = False,
) -> LoadReport:
    """Copy `state` into `model` by name; what is missing keeps its value.

    Args:
        adopt: the tensors of `state` become the model's own, which needs no second copy of them in memory.
        ignore_mismatch: report unknown names and other shapes instead of raising.
        scope_map: prefixes in the file and in the model, in pairs: ["encoder", "asr.encoder", "none", "decoder"]
            (or the same with commas); "none" is the empty prefix.  A name that no pair maps is looked up as it is.
        excludes: prefixes of names in the file that are left out.

    Raises ConfigError naming them if there are unknown names or other shapes and `ignore_mismatch` is false, or if
    not one tensor fits.
    """
    excluded = [key for key in state if any(has_prefix(key, prefix) for prefix in excludes)]
    available = {key: value for key, value in state.items() if key not in set(excluded)}
    pairs = _scope_pairs(scope_map)
    own = model.state_dict()
    fitting: dict[str, Tensor] = {}
    missing, mismatched, used = [], [], set()
    for name, current in own.items():
        source = _source_name(name, available, pairs)
        if source is None:
            missing.append(name)
            continue
        used.add(source)
        if available[source].shape == current.shape:
            fitting[name] = available[source]
        else:
            mismatched.append((name, tuple(available[source].shape), tuple(current.shape)))
    report = LoadReport(
        tuple(fitting), tuple(missing), tuple(k for k in available if k not in used), tuple(mismatched), tuple(excluded)
    )
    if not ignore_mismatch and (report.unexpected or report.mismatched):
        raise ConfigError(f"the weights do not fit the model: {report}")
    if not fitting and own:
        raise ConfigError(f"no tensor of the file fits the model: {report}")
    if adopt:
        fitting = {name: value.to(own[name].dtype).contiguous() for name, value in fitting.items()}
        adopt = len({value.data_ptr() for value in own.values() if value.numel()}) == sum(
            value.numel() > 0 for value in own.values()
        )  # parameters that are one tensor must stay one
    model.load_state_dict(fitting, strict=False, assign=adopt)
    return report


class WithoutRandomInit(TorchFunctionMode):
    """Inside, parameters keep whatever their memory holds instead of random numbers: for models about to be loaded.

    Saves the time, and the memory is not touched before there is something to put into it.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        filled = args[0] if args else kwargs.get("tensor")
        if func in _RANDOM_FILLS and isinstance(filled, nn.Parameter):
            return filled
        return func(*args, **kwargs)


def has_prefix(name: str, prefix: str) -> bool:
    """True if `prefix` is `name` or a leading part of it that ends at a dot: encoder.embed of encoder.embed.out.0."""
    prefix = prefix.rstrip(".")
    return name == prefix or name.startswith(prefix + ".")


def _scope_pairs(scope_map: str | Sequence[str] | None) -> list[tuple[str, str]]:
    words = scope_map.split(",") if isinstance(scope_map, str) else list(scope_map or ())
    if len(words) % 2:
        raise ConfigError(f"scope_map {words} must have an even number of prefixes: source, target, source, target")
    prefixes = ["" if str(word).strip().lower() in ("none", "") else str(word).strip().rstrip(".") for word in words]
    return list(zip(prefixes[::2], prefixes[1::2]))


def _source_name(name: str, available: Mapping[str, Tensor], pairs: list[tuple[str, str]]) -> str | None:
    """Name in the file of the model's tensor `name`."""
    for source, target in pairs:
        if target == "" or has_prefix(name, target):
            rest = name[len(target) :].lstrip(".")
            candidate = f"{source}.{rest}" if source and rest else source or rest
            if candidate in available:
                return candidate
    return name if name in available else None


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _check_file(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise ConfigError(f"{path} is truncated or no safetensors file: {_first_line(error)}") from None


def _check_file(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"weight file {path} does not exist")
    if path.stat().st_size == 0:
        raise ConfigError(f"weight file {path} is empty")
    with path.open("rb") as file:
        if file.read(24).startswith(b"version https://git-lfs"):
            raise ConfigError(f"{path} is a Git LFS pointer, not the weights; fetch the file with `git lfs pull`")


def _harmless() -> list[Any]:
    """Types that old checkpoints hold beside tensors (numbers that numpy returned as metric values)."""
    scalar = np.float64(0).__reduce__()[0]
    types: list[Any] = [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype]
    return types + [type(np.dtype(kind)) for kind in (np.float16, np.float32, np.float64, np.int32, np.int64, np.bool_)]


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _some(names: Sequence[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")

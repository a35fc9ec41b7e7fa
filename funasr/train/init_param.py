"""Before training: weights of other models (`--init_param`), parameters that stay as they are (`--freeze_param`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from funasr.register import nearest_names
from funasr.utils.config import check_keywords
from funasr.utils.errors import ConfigError
from funasr.utils.weights import LoadReport, has_prefix, load_into, load_weights

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class InitParam:
    """One `--init_param`: names under `source` in the file go to `target` in the model, without those in `exclude`."""

    file: str
    source: str = ""
    target: str = ""
    exclude: tuple[str, ...] = ()

    @classmethod
    def parse(cls, spec: str | Mapping[str, str]) -> InitParam:
        """From `FILE[:SRC[:DST[:EXCLUDE,...]]]`, or a mapping with these fields (for a path with a colon)."""
        if isinstance(spec, Mapping):
            exclude = spec.get("exclude", "")
            words = exclude.split(",") if isinstance(exclude, str) else exclude
            fields: dict[str, Any] = {**spec, "exclude": tuple(word for word in words if word)}
            check_keywords(cls, fields, "--init_param")
            if not fields.get("file"):
                raise ConfigError(f"--init_param {dict(spec)} names no file")
            return cls(**fields)
        parts = [part.strip() for part in spec.split(":")]
        if len(parts) > 4 or not parts[0]:
            raise ConfigError(f"--init_param '{spec}' must read FILE[:SRC[:DST[:EXCLUDE,EXCLUDE...]]]")
        file, source, target, exclude = parts + [""] * (4 - len(parts))
        return cls(file, source, target, tuple(word for word in exclude.split(",") if word))


def load_init_params(
    model: nn.Module, specs: Sequence[str | Mapping[str, str]], ignore_mismatch: bool = False
) -> list[LoadReport]:
    """Apply each `--init_param` in order and log what was loaded, skipped and missing.

    Raises ConfigError for a missing or wrong file, a prefix that nothing matches, and, unless `ignore_mismatch`, for
    names that the model lacks and tensors of another shape.
    """
    reports = []
    for spec in specs:
        wanted = InitParam.parse(spec)
        report = _load_one(model, wanted, ignore_mismatch)
        level = logging.WARNING if report.unexpected or report.mismatched else logging.INFO
        logger.log(level, "init_param %s: %s", wanted.file, report)
        reports.append(report)
    return reports


def _load_one(model: nn.Module, wanted: InitParam, ignore_mismatch: bool) -> LoadReport:
    state = load_weights(wanted.file)
    state = {k: v for k, v in state.items() if not any(has_prefix(k, prefix) for prefix in wanted.exclude)}
    if wanted.source:
        inner = {k: v for k, v in state.items() if has_prefix(k, wanted.source)}
        if not inner:
            heads = sorted({key.split(".")[0] for key in state})
            raise ConfigError(f"{wanted.file} has nothing under '{wanted.source}'; it has: {', '.join(heads)}")
        state = {k[len(wanted.source) :].lstrip(".") or k.rpartition(".")[2]: v for k, v in inner.items()}
    part = model
    if wanted.target:
        try:
            part = model.get_submodule(wanted.target)
        except AttributeError:
            raise ConfigError(
                f"--init_param: the model has no part '{wanted.target}'.{_hint(wanted.target, _prefixes(model))}"
            ) from None
    try:
        return load_into(part, state, ignore_mismatch)
    except ConfigError as error:
        raise ConfigError(f"--init_param {wanted.file}: {error}") from None


def freeze_parameters(model: nn.Module, prefixes: Sequence[str]) -> int:
    """Take the gradient from all parameters under the dotted `prefixes`; how many tensors are frozen.

    Call before the optimizer is built.  Raises ConfigError for a prefix that matches no parameter.
    """
    frozen: set[str] = set()
    for prefix in (word.strip() for entry in prefixes for word in entry.split(",")):
        matched = [(name, p) for name, p in model.named_parameters() if has_prefix(name, prefix)]
        if not matched:
            raise ConfigError(f"--freeze_param '{prefix}' matches no parameter.{_hint(prefix, _prefixes(model))}")
        for _, parameter in matched:
            parameter.requires_grad = False
        frozen.update(name for name, _ in matched)
    if frozen:
        total = sum(p.numel() for p in model.parameters())
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        logger.info("%d tensors are frozen; %d of %d parameters are trained", len(frozen), trained, total)
    return len(frozen)


def _prefixes(model: nn.Module) -> list[str]:
    """Every dotted prefix of every parameter name."""
    names = (name.split(".") for name, _ in model.named_parameters())
    return list(dict.fromkeys(".".join(parts[:end]) for parts in names for end in range(1, len(parts) + 1)))


def _hint(name: str, known: list[str]) -> str:
    near = nearest_names(name, known)
    tops = [prefix for prefix in known if "." not in prefix]
    return f" Did you mean {' or '.join(near)}?" if near else f" There are: {', '.join(tops)}."

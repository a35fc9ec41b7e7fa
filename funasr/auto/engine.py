"""A built model with what stands before and behind it, and the options it takes."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from funasr.auto.device import half_candidate, limit_prepared_operations
from funasr.auto.model_dir import ModelDirectory, read_model_dir
from funasr.auto.remote_code import load_remote_code
from funasr.layers.linear import keep_laid_out, prefer_onednn
from funasr.models.abs_model import FunASRModel, Result
from funasr.models.build import PARTS, SET_BY_BUILDER, Recognizer, build
from funasr.register import nearest_names, tables
from funasr.utils.config import deep_merge
from funasr.utils.errors import ConfigError
from funasr.utils.lanes import Item, Made, side_by_side
from funasr.utils.memory import keep_freed_memory
from funasr.utils.weights import WithoutRandomInit, has_prefix, load_into, load_weights

logger = logging.getLogger(__name__)

DEFAULT_FS = 16000
PROBE_S = 8.0
_CONFIG_KEYS = frozenset(
    {"model", "frontend", "tokenizer", "init_param", "cmvn_file", "g2p", "input_size", "vocab_size"}
    | {"token_list", "token_type", "bpemodel", "seg_dict_file", "jieba_usr_dict", "non_linguistic_symbols"}
    | {part.name for part in PARTS}
)


class AnyName(frozenset[str]):
    """The options of an `inference` of FunASR 1.x style, which takes `**kwargs` and does not say which."""

    def __contains__(self, name: object) -> bool:
        return True


@dataclass(frozen=True)
class Engine:
    """A model that is ready; nothing in it changes, so threads may share it.

    defaults: decoding options given at construction; those of a call win over them.
    option_names: all that `inference` takes.
    """

    model: FunASRModel
    frontend: Any
    tokenizer: Any
    config: dict[str, Any]
    device: torch.device
    defaults: Mapping[str, Any]
    option_names: frozenset[str]

    @property
    def fs(self) -> int:
        """Sample rate in Hz."""
        return int(getattr(self.frontend, "fs", None) or getattr(self.model, "fs", None) or DEFAULT_FS)

    @property
    def reads_text(self) -> bool:
        """Whether the inputs are texts instead of audio."""
        return _reads_text(self.model)

    def names(self, option: str) -> bool:
        """Whether `inference` has this option by name, not only in `**kwargs`."""
        return any(option == name for name in self.option_names)

    def options(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """The options of a call that this model takes, over those given at construction."""
        merged = {**self.defaults, **call}
        return {name: value for name, value in merged.items() if name in self.option_names}

    @property
    def lanes(self) -> int:
        """How many batches are worked on at a time: on a CPU as many as there are threads, if the model gains by it."""
        alone = self.device.type != "cpu" or not getattr(self.model, "one_pass", False)
        return 1 if alone else torch.get_num_threads()

    def map(self, work: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
        """[work(item) for item in items], where `work` infers; several at a time if the model gains by it."""
        return side_by_side(work, items) if self.lanes > 1 else [work(item) for item in items]

    def infer_parts(
        self, data: Sequence[Any], keys: Sequence[str], options: Mapping[str, Any], most: int
    ) -> list[Result]:
        """As `infer` for a list of inputs, in batches of `most` or less, several at a time if the model gains by it."""
        lanes = self.lanes if len(keys) >= self.lanes else 1
        share = max(1, min(most, -(-len(keys) // lanes)))
        parts = [slice(first, first + share) for first in range(0, len(keys), share)]
        found = self.map(lambda part: self.infer(data[part], keys[part], options), parts)
        return [result for results in found for result in results]

    def infer(
        self,
        data: Any,
        keys: Sequence[str],
        options: Mapping[str, Any],
        lengths: torch.Tensor | None = None,
    ) -> list[Result]:
        """Results of one batch that is loaded already."""
        with torch.inference_mode():
            results, _ = self.model.inference(
                data, lengths, key=list(keys), tokenizer=self.tokenizer, frontend=self.frontend, **options
            )
        return results


def build_engine(
    directory: str | Path,
    device: torch.device,
    settings: Mapping[str, Any],
    dtype: torch.dtype | str = torch.float32,
    remote_code: str | Path | None = None,
    trust_remote_code: bool = False,
) -> tuple[Engine, dict[str, Any]]:
    """Build the model of a directory and load its weights.

    Args:
        settings: what the caller has set for this model: keys of the configuration (`frontend_conf={...}`), options of
            the model's constructor, and options of its `inference`, which become defaults.
        remote_code, trust_remote_code: see funasr.auto.remote_code.
        dtype: number type of the model; "auto": a 16-bit type where that is fast and the text or segments of a probe
            are the same.

    Returns:
        the engine, and the settings that nothing here takes.

    Raises ConfigError if the directory is no model directory or the weights do not fit.
    """
    overrides = {name: value for name, value in settings.items() if name.endswith("_conf") or name in _CONFIG_KEYS}
    found = read_model_dir(directory, overrides)
    given = {name: value for name, value in settings.items() if name not in overrides}
    needed = _class_to_come(found.config)
    load_remote_code(directory, remote_code, trust_remote_code=trust_remote_code, model=needed)
    model_name = found.config.get("model")
    model_conf: dict[str, Any] = {}
    beside: dict[str, Any] = {}
    if model_name:
        cls: Any = tables.model_classes[model_name]
        accepted = set(inspect.signature(cls).parameters) - {part.name for part in PARTS}
        # Released configurations have some options of the constructor beside model_conf, e.g. jieba_usr_dict.
        beside = {name: value for name, value in found.config.items() if name in accepted - SET_BY_BUILDER}
        model_conf = {name: value for name, value in given.items() if name in accepted}
    as_config = {name: value for name, value in given.items() if name in found.config and name not in model_conf}
    config = deep_merge(found.config, as_config)
    if beside or model_conf:
        named = {name: value for name, value in beside.items() if name not in (config.get("model_conf") or {})}
        config = deep_merge(config, {"model_conf": {**named, **model_conf}})
    # A part with weights of its own may leave some as they are built.
    with nullcontext() if found.own_weights else WithoutRandomInit():
        parts = build(config, strict=False)
    _load(parts, found, mapped=device.type == "cpu")
    if device.type == "cpu":
        limit_prepared_operations()
        keep_freed_memory()
        prefer_onednn(parts.model)
    names = _option_names(parts.model)
    if isinstance(names, AnyName):
        given = {"device": str(device), **given}  # such models ask the options where to compute
    engine = Engine(
        parts.model.to(device).eval(),
        parts.frontend.to(device).eval() if parts.frontend is not None else None,
        parts.tokenizer,
        config,
        device,
        {name: value for name, value in given.items() if name in names},
        names,
    )
    taken = {*model_conf, *as_config, *engine.defaults}
    engine = _with_dtype(engine, dtype)
    if device.type == "cpu":
        keep_laid_out(engine.model, found.weights)
    return engine, {name: value for name, value in given.items() if name not in taken}


def _class_to_come(config: Mapping[str, Any]) -> str | None:
    """A class the configuration needs and nobody has registered: its model, or a part of it; None if all are there."""
    model = config.get("model")
    if not model or model not in tables.model_classes:
        return model
    for kind in ("frontend", "tokenizer", *inspect.signature(tables.model_classes[model]).parameters):
        table, name = getattr(tables, f"{kind}_classes", None), config.get(kind)
        if table is not None and isinstance(name, str) and name not in table:
            return name
    return None


def build_packaged(model: str, device: torch.device, settings: Mapping[str, Any]) -> tuple[Engine, dict[str, Any]]:
    """Build a model whose weights come with a Python package; otherwise as `build_engine`."""
    cls = tables.model_classes[model]
    accepted = inspect.signature(cls).parameters
    model_conf = {name: value for name, value in settings.items() if name in accepted}
    built: FunASRModel = cls(**model_conf)
    names = _option_names(built)
    defaults = {name: value for name, value in settings.items() if name in names}
    config = {"model": model, "model_conf": model_conf}
    left = {name: value for name, value in settings.items() if name not in accepted and name not in names}
    return Engine(built.to(device).eval(), None, None, config, device, defaults, names), left


def _option_names(model: FunASRModel) -> frozenset[str]:
    parameters = inspect.signature(model.inference).parameters.values()
    if not isinstance(model, FunASRModel) and any(p.kind is p.VAR_KEYWORD for p in parameters):
        return AnyName(p.name for p in parameters)
    return frozenset(parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY)


def warn_unknown(names: Sequence[str], known: Sequence[str], owner: str) -> None:
    """One warning for each option that nobody takes, with the nearest known name."""
    for name in names:
        near = nearest_names(name, sorted(known))
        hint = f"; did you mean {near[0]}?" if near else ""
        logger.warning("%s has no option '%s'%s; it is left out", owner, name, hint)


def _with_dtype(engine: Engine, dtype: torch.dtype | str) -> Engine:
    if dtype != "auto":
        assert isinstance(dtype, torch.dtype)
        if dtype != torch.float32:
            engine.model.to(dtype)
        return engine
    candidate = half_candidate(engine.device)
    if candidate is None or engine.reads_text:
        return engine
    faster = replace(engine, model=deepcopy(engine.model).to(candidate))
    found = _probe(engine)
    same = found is not None and found != [None] and found == _probe(faster)
    logger.info(
        "dtype: %s (a probe gives %s result)", candidate if same else "float32", "the same" if same else "another"
    )
    return faster if same else engine


def _probe(engine: Engine) -> list[Any] | None:
    """Text or segments of a fixed signal: harmonics of a gliding voice with pauses, over noise.  None: it failed."""
    time = torch.arange(int(PROBE_S * engine.fs)) / engine.fs
    phase = torch.cumsum((140.0 + 40.0 * torch.sin(2.1 * time)) / engine.fs, dim=0)
    voice = sum(torch.sin(6.2832 * k * phase) / k for k in range(1, 12))
    noise = torch.randn(len(time), generator=torch.Generator().manual_seed(0))
    wave = 0.1 * voice * torch.sin(3.0 * time).clamp(min=0) + 0.003 * noise
    try:
        results = engine.infer([wave.float()], ["probe"], engine.options({}))
    except (RuntimeError, TypeError, ValueError) as error:  # a kernel that the type does not have
        logger.info("dtype: the probe failed: %s", error)
        return None
    return [result.get("text", result.get("value")) for result in results]


def _load(parts: Recognizer, found: ModelDirectory, mapped: bool) -> None:
    """Load the weights, all of them but those that a part has read itself; ConfigError says what does not fit."""
    weights = found.weights
    state = _adapted(parts.model, load_weights(weights, mapped))
    report = load_into(parts.model, state, ignore_mismatch=True, adopt=True)
    if report.mismatched:
        vocab_size = getattr(parts.tokenizer, "vocab_size", None)
        for name, in_file, in_model in report.mismatched:
            differing = [(a, b) for a, b in zip(in_file, in_model) if a != b]
            if len(differing) == 1 and differing[0][1] == vocab_size:
                raise ConfigError(
                    f"the token list does not fit {weights}: it has {vocab_size} tokens, but {name} was trained "
                    f"with {differing[0][0]}; use the token list of the training run"
                )
    for part, path in found.own_weights.items():
        own = [name for name in report.missing if has_prefix(name, part)]
        if own:
            logger.info("%s: %d tensors of %s are not in it; %s has them", weights, len(own), part, path)
        report = replace(report, missing=tuple(name for name in report.missing if name not in set(own)))
    if report.mismatched or report.missing:
        raise ConfigError(f"{weights} does not fit the model of config.yaml: {report}")
    if report.unexpected:
        logger.warning("%s: %s", weights, report)


def _reads_text(model: Any) -> bool:
    return getattr(model, "input_kind", "sound") == "text"


def _adapted(model: FunASRModel, weights: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """The names of a weight file as the model has them; a class of a user's own need not have that method."""
    return model.adapt_weights(weights) if isinstance(model, FunASRModel) else weights

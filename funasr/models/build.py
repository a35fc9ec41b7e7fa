"""One builder for training and use: a configuration mapping in, front end, tokenizer and model out.

`Task.build_model` calls it with the options of a run, AutoModel with the `config.yaml` of a model directory.  A model
class says which parts it wants by naming them in its constructor; each part is looked up in its table, its `_conf` is
checked against its constructor, and it is given what only the builder knows (input size, vocabulary size, ...).
"""

from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from funasr.models.abs_model import FunASRModel
from funasr.register import tables
from funasr.utils.config import check_keywords, unknown_keywords
from funasr.utils.errors import ConfigError

logger = logging.getLogger(__name__)

Config = Mapping[str, Any]

_TOKENIZER_OPTIONS = (
    "token_list",
    "bpemodel",
    "space_symbol",
    "non_linguistic_symbols",
    "remove_non_linguistic_symbols",
    "split_with_space",
    "seg_dict_file",
    "delimiter",
)


@dataclass(frozen=True)
class Sizes:
    """What a part may ask the builder for."""

    input_size: int
    vocab_size: int
    encoder_output_size: int = 0


@dataclass(frozen=True)
class Part:
    """A constructor argument of a model that is a component of its own.

    `given` maps constructor arguments of the part to the sizes only the builder knows; the part's `_conf` may say
    otherwise.
    """

    name: str
    given: Callable[[Sizes], dict[str, Any]]
    class_name: str | None = None  # fixed class, for a part that is not a choice
    table: str | None = None  # where its class is looked up, if not in the table of its own name


PARTS = (
    Part("specaug", lambda sizes: {}),
    Part("normalize", lambda sizes: {}),
    Part("encoder", lambda sizes: {"input_size": sizes.input_size}),
    Part("decoder", lambda s: {"vocab_size": s.vocab_size, "encoder_output_size": s.encoder_output_size}),
    Part(
        "seaco_decoder",
        lambda s: {"vocab_size": s.vocab_size, "encoder_output_size": s.encoder_output_size},
        table="decoder",
    ),
    Part("predictor", lambda sizes: {"idim": sizes.encoder_output_size}),
    Part("ctc", lambda s: {"odim": s.vocab_size, "encoder_output_size": s.encoder_output_size}, class_name="CTC"),
)

WITHOUT_EFFECT = frozenset(
    {"pos_enc_class", "selfattention_layer_type", "positional_dropout_rate", "positionwise_layer_type", "tail_mask"}
    | {"use_1st_decoder_loss", "concat_after", "padding_idx", "filter_length_min", "filter_length_max"}
)
"""Keys of official configurations that change nothing in inference where a class does not take them: no warning."""

SET_BY_BUILDER = frozenset({part.name for part in PARTS} | {"vocab_size", "input_size"})
"""Constructor arguments of a model that `model_conf` cannot give."""


@dataclass(frozen=True)
class Recognizer:
    """What a configuration builds: the model and what stands before and behind it."""

    model: FunASRModel
    frontend: nn.Module | None
    tokenizer: Any | None


def canonical_config(config: Config) -> dict[str, Any]:
    """The configuration with the option names of a task (0.x style) translated to those of a model directory.

    `token_type`, `token_list`, `bpemodel`, ... become `tokenizer` + `tokenizer_conf`; `cmvn_file` becomes
    `frontend_conf.cmvn_file`.  What is already there wins.  The given mapping is not changed.
    """
    out = dict(config)
    if not out.get("tokenizer") and out.get("token_list") is not None:
        from funasr.tokenizers.build import tokenizer_config

        options = {name: out[name] for name in _TOKENIZER_OPTIONS if out.get(name) is not None}
        if out.get("g2p") is not None:
            options["g2p_type"] = out["g2p"]
        out["tokenizer"], out["tokenizer_conf"] = tokenizer_config(out.get("token_type") or "bpe", **options)
    if out.get("cmvn_file") and out.get("frontend"):
        out["frontend_conf"] = {"cmvn_file": out["cmvn_file"], **(out.get("frontend_conf") or {})}
    return out


def build(config: Config, *, strict: bool = True) -> Recognizer:
    """Build front end, tokenizer and model.

    Args:
        config: `model`, `model_conf`, `encoder`, `encoder_conf`, ... in either naming scheme.
        strict: True (training): an unknown key in a `_conf` raises ConfigError with the nearest name.  False (using a
            directory somebody else made): it is dropped with a warning that names it.
    """
    config = canonical_config(config)
    frontend = build_frontend(config, strict=strict)
    tokenizer = build_tokenizer(config, strict=strict)
    return Recognizer(build_model(config, frontend, tokenizer, strict=strict), frontend, tokenizer)


def build_frontend(config: Config, *, strict: bool = True) -> nn.Module | None:
    """The front end named in the configuration; None if features come ready-made (`input_size`) or none is named."""
    config = canonical_config(config)
    if config.get("input_size") is not None or not config.get("frontend"):
        return None
    return _construct("frontend", config, {}, strict)


def build_tokenizer(config: Config, *, strict: bool = True) -> Any | None:
    """The tokenizer named in the configuration, or None."""
    config = canonical_config(config)
    return _construct("tokenizer", config, {}, strict) if config.get("tokenizer") else None


def build_model(
    config: Config, frontend: nn.Module | None, tokenizer: Any | None, *, strict: bool = True
) -> FunASRModel:
    """The model with its parts; sizes come from the front end (or `input_size`) and the tokenizer (or `vocab_size`)."""
    if not config.get("model"):
        raise ConfigError("the configuration names no model; add `model: Paraformer` or another of: " + _known("model"))
    cls: Any = tables.model_classes[config["model"]]
    model_conf = dict(config.get("model_conf") or {})
    vocab_size = _vocab_size(tokenizer) if tokenizer is not None else config.get("vocab_size")
    input_size = config.get("input_size") or (_output_size(frontend) if frontend is not None else None)
    accepted = inspect.signature(cls).parameters
    given: dict[str, Any] = {"vocab_size": vocab_size, "input_size": input_size}
    if not issubclass(cls, FunASRModel):
        return _build_whole(cls, config, {**given, "frontend": frontend, "tokenizer": tokenizer}, strict)
    unused = cls.unused_parts(model_conf)
    sizes = Sizes(input_size or 0, vocab_size or 0)
    for part in PARTS:
        if part.name in accepted and part.name not in cls.own_options:
            given[part.name] = None if part.name in unused else _build_part(part, config, sizes, strict)
            if part.name == "encoder" and given["encoder"] is not None:
                sizes = Sizes(sizes.input_size, sizes.vocab_size, given["encoder"].output_size())
    model_conf = _checked_conf(cls, "model", model_conf, strict)
    return cls(**{key: value for key, value in given.items() if key in accepted}, **model_conf)


def _build_whole(cls: type, config: Config, given: dict[str, Any], strict: bool) -> Any:
    """A class of a user's own that makes its parts itself, as in FunASR 1.x: from names and `_conf` mappings.

    Its constructor gets `model_conf`, the other entries of the configuration over them, and `given`: all of it if it
    takes `**kwargs`, else what it names.  In the `_conf` of a registered class, keys that class does not take are
    left out as everywhere; of a part by a name of the user's own (`audio_encoder: SANMEncoder`) too, if the class is
    the only one of its name.
    """
    options = copy.deepcopy({**(config.get("model_conf") or {}), **config})
    options.pop("model_conf", None)
    for name, value in config.items():
        if name == "model" or f"{name}_conf" not in config or not isinstance(value, str):
            continue
        named = getattr(tables, f"{name}_classes", None)
        found = [table for table in (tables.all() if named is None else [named]) if value in table]
        if len(found) == 1:
            options[f"{name}_conf"] = _checked_conf(found[0][value], name, config[f"{name}_conf"] or {}, strict)
    options.update(given)
    parameters = inspect.signature(cls).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return cls(**options)
    _checked_conf(cls, "model", config.get("model_conf") or {}, strict)
    return cls(**{key: value for key, value in options.items() if key in parameters})


def _vocab_size(tokenizer: Any) -> int:
    """Number of tokens; a tokenizer of a user's own may have neither `vocab_size` nor `token_list`."""
    size = getattr(tokenizer, "vocab_size", None)
    return int(size or len(tokenizer.token_list if hasattr(tokenizer, "token_list") else tokenizer.get_vocab()))


def _output_size(module: Any) -> int:
    return int(module.output_size())


def _build_part(part: Part, config: Config, sizes: Sizes, strict: bool) -> nn.Module | None:
    if part.class_name == "CTC":
        from funasr.layers.ctc import CTC

        conf = _checked_conf(CTC, "ctc", config.get("ctc_conf") or {}, strict)
        return CTC(**{**part.given(sizes), **conf})
    if not config.get(part.name):
        return None
    return _construct(part.name, config, part.given(sizes), strict, part.table)


def _construct(name: str, config: Config, given: dict[str, Any], strict: bool, table: str | None = None) -> Any:
    """Component `name` of the configuration, made with its checked `_conf` over what the builder gives."""
    cls = getattr(tables, f"{table or name}_classes")[config[name]]
    conf = _checked_conf(cls, name, config.get(f"{name}_conf") or {}, strict)
    accepted = inspect.signature(cls).parameters
    return cls(**{**{key: value for key, value in given.items() if key in accepted}, **conf})


def _checked_conf(cls: type, name: str, conf: Config, strict: bool) -> dict[str, Any]:
    """`conf` without keys the class does not take: refused when strict, else dropped with a warning."""
    own: frozenset[str] = getattr(cls, "own_options", frozenset())
    clash = SET_BY_BUILDER & set(conf) - own if name == "model" else set()
    if clash:
        raise ConfigError(f"{name}_conf: '{', '.join(sorted(clash))}' is set by the builder and cannot be given")
    if strict:
        check_keywords(cls, conf, f"{name}_conf")
        return dict(conf)
    for key, near in unknown_keywords(cls, conf).items():
        if key in WITHOUT_EFFECT or key in getattr(cls, "training_only_options", ()):
            continue
        hint = f" (nearest: {near[0]})" if near else ""
        logger.warning("%s_conf.%s is not an option of %s and is left out%s", name, key, cls.__name__, hint)
    return {key: value for key, value in conf.items() if key in inspect.signature(cls).parameters}


def _known(group: str) -> str:
    return ", ".join(sorted(getattr(tables, f"{group}_classes")))

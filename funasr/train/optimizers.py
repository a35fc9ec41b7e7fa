"""Optimizers by name, with their options checked and, if wanted, no weight decay for biases and norms."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from funasr.register import nearest_names
from funasr.utils.config import check_keywords
from funasr.utils.errors import ConfigError

# LBFGS is not among them: it evaluates the loss several times for each step.
OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adamw": torch.optim.AdamW,
    "sgd": torch.optim.SGD,
    "adadelta": torch.optim.Adadelta,
    "adagrad": torch.optim.Adagrad,
    "adamax": torch.optim.Adamax,
    "asgd": torch.optim.ASGD,
    "nadam": torch.optim.NAdam,
    "radam": torch.optim.RAdam,
    "rmsprop": torch.optim.RMSprop,
    "rprop": torch.optim.Rprop,
}
DEFAULT_LR = {"sgd": 0.1}


def optimizer_class(name: str) -> type[torch.optim.Optimizer]:
    """The class for an option value.  Raises ConfigError naming the nearest ones."""
    try:
        return OPTIMIZERS[name.lower()]
    except KeyError:
        near = nearest_names(name, list(OPTIMIZERS))
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise ConfigError(f"--optim: unknown optimizer '{name}'.{hint} Choices: {', '.join(OPTIMIZERS)}.") from None


def build_optimizer(
    model: nn.Module,
    name: str,
    conf: Mapping[str, Any],
    exclude_weight_decay: bool = False,
    where: str = "optim_conf",
) -> torch.optim.Optimizer:
    """The optimizer of all parameters of `model` that require a gradient.

    Args:
        conf: options of the torch class (`lr`, `weight_decay`, ...); sgd without `lr` gets 0.1.
        exclude_weight_decay: biases and other one-dimensional tensors (norms) get weight decay 0, as does
            a parameter with a true attribute `no_weight_decay`.
        where: option name for messages.

    Raises ConfigError for unknown names and options, wrong values, and a model without trainable parameters.
    """
    cls = optimizer_class(name)
    check_keywords(cls, conf, where)
    options = dict(conf)
    if name.lower() in DEFAULT_LR:
        options.setdefault("lr", DEFAULT_LR[name.lower()])
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    trained = [(key, parameter) for key, parameter in model.named_parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigError("nothing to train: every parameter of the model is frozen")
    groups: list[dict[str, Any]] = [{"params": [parameter for _, parameter in trained]}]
    if exclude_weight_decay:
        bare = [parameter for _, parameter in trained if _without_decay(parameter)]
        decayed = [parameter for _, parameter in trained if not _without_decay(parameter)]
        groups = [{"params": decayed}, {"params": bare, "weight_decay": 0.0}]
        groups = [group for group in groups if group["params"]]
    try:
        return cls(groups, **options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where}: {cls.__name__}: {error}") from None


def _without_decay(parameter: nn.Parameter) -> bool:
    return parameter.dim() <= 1 or bool(getattr(parameter, "no_weight_decay", False))

"""Initialisation of all parameters of a model by one named rule (task option `--init`)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from funasr.utils.errors import ConfigError

_RULES: dict[str, Callable[[Tensor], Tensor]] = {
    "chainer": lambda w: nn.init.normal_(w, std=1.0 / math.sqrt(math.prod(w.shape[1:]))),
    "xavier_uniform": nn.init.xavier_uniform_,
    "xavier_normal": nn.init.xavier_normal_,
    "kaiming_uniform": lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"),
    "kaiming_normal": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
}
INITIALIZATIONS = tuple(_RULES)


_OWN_DEFAULTS = (nn.Embedding, nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)


@torch.no_grad()
def initialize(model: nn.Module, init: str) -> None:
    """Initialise the parameters of `model` in place.

    Vectors get 0.  Matrices and convolution kernels get N(0, 1 / sqrt(fan_in)) with `chainer`, else the torch
    initialiser of that name; `chainer` also sets the forget-gate biases of LSTMs to 1.  Embeddings, N(0, 1), and
    normalisation layers, scale 1, keep their own defaults: a scale of 0 would silence what stands behind it.  At last
    each module with a method `initialize_parameters(init)` is asked to do its own.

    Raises:
        ConfigError: `init` is none of INITIALIZATIONS.
    """
    if init not in INITIALIZATIONS:
        raise ConfigError(f"unknown init '{init}'; choose one of {', '.join(INITIALIZATIONS)}, none")
    rule = _RULES[init]
    for parameter in model.parameters():
        nn.init.zeros_(parameter) if parameter.dim() < 2 else rule(parameter)
    for module in model.modules():
        if isinstance(module, _OWN_DEFAULTS):
            module.reset_parameters()
        elif isinstance(module, nn.LSTM) and init == "chainer":
            _open_forget_gates(module)
    for module in model.modules():
        own = getattr(module, "initialize_parameters", None)
        if callable(own):
            own(init)


def _open_forget_gates(lstm: nn.LSTM) -> None:
    """Biases of the second quarter (input, forget, cell, output) to 1; `bias_hh`, added to them, stays 0."""
    for name, parameter in lstm.named_parameters():
        if name.startswith("bias_ih"):
            parameter[lstm.hidden_size : 2 * lstm.hidden_size] = 1.0

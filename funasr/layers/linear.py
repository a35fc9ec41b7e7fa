"""Linear layers for inference on CPUs: the faster matrix library of the two in torch, and ReLU without a new array.

torch multiplies float32 matrices with MKL, which on processors that are not Intel's takes a path less than half as fast
as oneDNN, the library that torch uses for convolutions and bfloat16 (AMD EPYC, Zen 5, two threads: 170 against
400 GFLOPS for 1328 x 512 x 2048).
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

MIN_ROWS = 64
"""oneDNN lays the weights out anew in each call, which pays only if enough rows are multiplied."""


def linear_relu(layer: nn.Module, x: Tensor) -> Tensor:
    """relu(layer(x)); without gradients in place, for a fresh large array costs more than the ReLU itself."""
    if isinstance(layer, OneDnnLinear) and layer.suits(x):
        return _onednn(x, layer.weight, layer.bias, "relu")
    out: Tensor = layer(x)
    return out.relu() if torch.is_grad_enabled() else out.relu_()


def plus(fresh: Tensor, x: Tensor) -> Tensor:
    """fresh + x, without gradients in the memory of `fresh`, which nobody else may hold."""
    return fresh + x if torch.is_grad_enabled() or fresh.dtype != x.dtype else fresh.add_(x)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., in) times the transposed weight (out, in), by the faster library, as OneDnnLinear chooses it."""
    return _onednn(x, weight, bias) if _suits(x, weight) and onednn_is_faster() else F.linear(x, weight, bias)


class OneDnnLinear(nn.Linear):
    """A linear layer that multiplies by oneDNN where no gradient is wanted; same parameters, same results."""

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        return _onednn(input, self.weight, self.bias) if self.suits(input) else super().forward(input)

    def suits(self, input: Tensor) -> bool:
        """Whether this input is multiplied by oneDNN."""
        return _suits(input, self.weight)


def prefer_onednn(model: nn.Module) -> int:
    """Let the linear layers of a model multiply by oneDNN if that is the faster library here.

    Modules are replaced by others that hold the same parameters, so the state dict stays as it is.

    Returns:
        how many layers were replaced.
    """
    if not onednn_is_faster():
        return 0
    found = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if type(layer) is nn.Linear
    ]
    for parent, name, layer in found:
        with torch.device("meta"):
            replacement = OneDnnLinear(layer.in_features, layer.out_features, layer.bias is not None)
        replacement.weight, replacement.bias = layer.weight, layer.bias
        setattr(parent, name, replacement.train(layer.training))
    return len(found)


@cache
def onednn_is_faster() -> bool:
    """Whether float32 products should go to oneDNN: an x86 processor of another maker than Intel, and torch has it.

    Decided by the maker and not by a measurement, so that two runs give the same numbers.
    """
    info = Path("/proc/cpuinfo")
    if platform.machine() not in ("x86_64", "AMD64") or not info.is_file():
        return False
    if "GenuineIntel" in info.read_text(encoding="utf-8", errors="replace"):
        return False
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    x, weight, bias = torch.ones(2, 4), torch.ones(3, 4), torch.ones(3)
    try:  # an operator without a documented interface: a torch that has changed it is left alone
        with torch.no_grad():
            return torch.equal(_onednn(x, weight, bias), F.linear(x, weight, bias))
    except (AttributeError, RuntimeError):
        return False


def _suits(x: Tensor, weight: Tensor) -> bool:
    if torch.is_grad_enabled() or x.dim() < 2 or x.device.type != "cpu":
        return False
    return x.dtype == weight.dtype == torch.float32 and x.numel() >= MIN_ROWS * weight.size(1)


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, then: str = "none") -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "")
    return out

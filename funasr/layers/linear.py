"""Linear layers for inference on CPUs: the faster matrix library of the two in torch, and ReLU without a new array.

torch multiplies float32 matrices with MKL, which on processors that are not Intel's takes a path less than half as fast
as oneDNN, the library that torch uses for convolutions and bfloat16 (AMD EPYC, Zen 5, two threads: 170 against
400 GFLOPS for 1328 x 512 x 2048).  On Intel's, oneDNN is the faster one where the weights lie ready in the order it
wants (Xeon, Cascade Lake, 512 x 2048: 5 to 20 % less time for 167 rows and more, half for 20 to 40).  In bfloat16
asking oneDNN directly saves a pass for the bias (a tenth of the time).
"""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funasr.utils.cpu import cpu_info
from funasr.utils.memory import FilePages

MIN_ROWS = 64
"""Laying the weights out anew in each call pays only if enough rows are multiplied (and in bfloat16 torch has it done
anyway)."""

MIN_ROWS_LAID_OUT = 4
"""Of fewer rows the product is no more than reading the weights, and oneDNN's calls cost more."""

LAID_OUT_FOR = 1024
"""Rows for which the kept weights are laid out: for many.  Then fewer lose nothing, and 6000 rows of a network of 128
to 250 units take 10 to 20 % less time than with the order that oneDNN chooses if it is not told."""

SMALL = 1 << 23
"""A model with up to this number of weights in linear layers (32 MiB) keeps them laid out as well."""

COPIED = 1 << 20
"""Tensors of up to this number of bytes do not stay in a file."""


def linear_relu(layer: nn.Module, x: Tensor) -> Tensor:
    """relu(layer(x)); without gradients in place, for a fresh large array costs more than the ReLU itself."""
    if isinstance(layer, OneDnnLinear) and layer.suits(x):
        return _onednn(x, layer.laid_out(), layer.bias, "relu")
    out: Tensor = layer(x)
    return out.relu() if torch.is_grad_enabled() else out.relu_()


def plus(fresh: Tensor, x: Tensor) -> Tensor:
    """fresh + x, without gradients in the memory of `fresh`, which nobody else may hold."""
    return fresh + x if torch.is_grad_enabled() or fresh.dtype != x.dtype else fresh.add_(x)


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x (..., in) times the transposed weight (out, in), by the faster library."""
    return _onednn(x, weight, bias) if _suits(x, weight) else F.linear(x, weight, bias)


def chained(first: nn.Linear, second: nn.Linear, x: Tensor) -> Tensor:
    """second(first(x)), without gradients by the product of their weights where that is less work."""
    rows, middle, outer = x.numel() // first.in_features, first.out_features, first.in_features * second.out_features
    apart = rows * middle * (first.in_features + second.out_features)
    if torch.is_grad_enabled() or apart <= outer * (middle + rows):
        return second(first(x))
    weight = second.weight @ first.weight
    bias = second.bias if first.bias is None else F.linear(first.bias, second.weight, second.bias)
    return product(x, weight, bias)


class OneDnnLinear(nn.Linear):
    """A linear layer that multiplies by oneDNN where no gradient is wanted; same parameters, same results."""

    keeps_layout = False
    plain_in_file = False  # `weight` is a part of a file: what reads it brings it into memory
    _laid_out: tuple[tuple[int, int, torch.dtype], Tensor] | None = None  # of which weights, and the weights

    def forward(self, input: Tensor) -> Tensor:
        """(..., in_features) -> (..., out_features)."""
        if self.suits(input):
            return _onednn(input, self.laid_out(), self.bias)
        return F.linear(input, self.weight, self.bias)

    def suits(self, x: Tensor) -> bool:
        """Whether oneDNN is to multiply x."""
        if not self.keeps_layout:
            return _suits(x, self.weight)
        least = 1 if self.plain_in_file else MIN_ROWS_LAID_OUT
        return _possible(x, self.weight) and x.numel() >= least * self.in_features

    def laid_out(self) -> Tensor:
        """The weights as oneDNN wants them, if they are kept so; else as they are."""
        weight = self.weight
        if not self.keeps_layout or weight.is_inference():
            return weight
        which = (weight.data_ptr(), weight._version, weight.dtype)
        if self._laid_out is None or self._laid_out[0] != which:
            self._laid_out = which, torch.ops.mkldnn._reorder_linear_weight(weight.detach(), LAID_OUT_FOR)
        return self._laid_out[1]

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be made again, and cannot be copied; a copy has its plain weights in memory."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_laid_out", "plain_in_file")}


def prefer_onednn(model: nn.Module) -> int:
    """Let the linear layers of a model multiply by oneDNN where that is the faster library.

    Modules are replaced by others that hold the same parameters, so the state dict stays as it is.  A small model
    holds its weights twice from now on.

    Returns:
        how many layers were replaced.
    """
    if not possible_types():
        return 0
    found = [
        (parent, name, layer)
        for parent in model.modules()
        for name, layer in parent.named_children()
        if type(layer) is nn.Linear
    ]
    small = sum(layer.weight.numel() for _, _, layer in found) <= SMALL
    for parent, name, layer in found:
        with torch.device("meta"):
            replacement = OneDnnLinear(layer.in_features, layer.out_features, layer.bias is not None)
        replacement.weight, replacement.bias = layer.weight, layer.bias
        replacement.keeps_layout = small
        setattr(parent, name, replacement.train(layer.training))
    return len(found)


def keep_laid_out(model: nn.Module, file: Path) -> int:
    """Keep weights as oneDNN wants them, instead of those that are mapped from a file.

    The parameters stay what they were, but the pages of the file leave the memory; those of the plain weights of a
    small model come back if few rows are multiplied.  Small tensors are copied, for to read one brings the pages
    around it.  Weights that are not a part of the file, or not in its number type, stay as they are.

    Returns:
        how many layers keep their weights so.
    """
    pages = FilePages(file)
    for layer in model.modules():
        if isinstance(layer, OneDnnLinear) and layer.weight.dtype in possible_types():
            start, size = layer.weight.data_ptr(), layer.weight.nbytes
            if pages.hold(start, size):
                layer.plain_in_file = not layer.keeps_layout
                layer.keeps_layout = True
                layer.laid_out()
                pages.give_back(start, size)
    laid_out = {id(layer.weight) for layer in model.modules() if isinstance(layer, OneDnnLinear) and layer.keeps_layout}
    for tensor in (*model.parameters(), *model.buffers()):
        if id(tensor) not in laid_out and tensor.nbytes <= COPIED and pages.hold(tensor.data_ptr(), tensor.nbytes):
            tensor.data = tensor.data.clone()
    pages.give_back_all()
    return len(laid_out)


@cache
def possible_types() -> frozenset[torch.dtype]:
    """The types that oneDNN can multiply here."""
    if platform.machine() not in ("x86_64", "AMD64") or not cpu_info() or not torch.backends.mkldnn.is_available():
        return frozenset()
    wanted = {torch.bfloat16: True, torch.float32: torch.backends.mkl.is_available()}
    return frozenset(dtype for dtype, there in wanted.items() if there and _works(dtype))


@cache
def onednn_types() -> frozenset[torch.dtype]:
    """The types in which oneDNN is faster even if it has to lay out the weights: not float32 on a processor of Intel's.

    Decided by the maker and not by a measurement, so that two runs give the same numbers.
    """
    return possible_types() - ({torch.float32} if made_by_intel() else set())


@cache
def made_by_intel() -> bool:
    """Whether Linux says that this processor is Intel's."""
    return "GenuineIntel" in cpu_info()


def _works(dtype: torch.dtype) -> bool:
    """Whether torch has the operator, which is without a documented interface: a changed one is left alone."""
    x, weight, bias = (torch.ones(*shape, dtype=dtype) for shape in ((2, 4), (3, 4), (3,)))
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        with torch.no_grad():
            laid_out = torch.ops.mkldnn._reorder_linear_weight(weight, LAID_OUT_FOR)
            return torch.equal(_onednn(x, laid_out, bias), F.linear(x, weight, bias))
    except (AttributeError, RuntimeError):
        return False


def _suits(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN multiplies faster, laying out the weights in this call."""
    enough = x.dtype == torch.bfloat16 or x.numel() >= MIN_ROWS * weight.size(1)
    return enough and x.dtype in onednn_types() and _possible(x, weight)


def _possible(x: Tensor, weight: Tensor) -> bool:
    if torch.is_grad_enabled() or x.dim() < 2 or x.device.type != "cpu" or x.dtype != weight.dtype or not x.numel():
        return False
    return x.dtype in possible_types()


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None, then: str = "none") -> Tensor:
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, then, [], "")
    return out

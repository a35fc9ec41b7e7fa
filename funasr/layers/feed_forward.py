"""The position-wise feed-forward block and the activations that configurations name."""

from __future__ import annotations

from torch import Tensor, nn

from funasr.layers.linear import linear_relu
from funasr.utils.errors import ConfigError

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "swish": nn.SiLU,
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "hardtanh": nn.Hardtanh,
    "selu": nn.SELU,
}


def make_activation(name: str) -> nn.Module:
    """The activation module called `name` in a configuration; ConfigError lists the known ones."""
    if name not in ACTIVATIONS:
        raise ConfigError(f"unknown activation '{name}'; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]()


class PositionwiseFeedForward(nn.Module):
    """w_2(dropout(activation(w_1(x)))): (batch, frames, dim) -> (batch, frames, dim)."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.1, activation: nn.Module | str = "relu") -> None:
        super().__init__()
        self.w_1 = nn.Linear(dim, hidden)
        self.w_2 = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)
        self.activation = make_activation(activation) if isinstance(activation, str) else activation

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.activation, nn.ReLU):
            return self.w_2(self.dropout(linear_relu(self.w_1, x)))
        return self.w_2(self.dropout(self.activation(self.w_1(x))))

"""Bottleneck edits: adapters on what a place produced, and AdaptFormer's branch beside it."""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgraft.core.graft import Graft


def quick_gelu(x: Tensor) -> Tensor:
    """x σ(1.702 x), the activation of NOAH's adapters."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "quick_gelu": quick_gelu,
}

Reads = Literal["input", "output"]
Drops = Literal["hidden", "input"]
"""What dropout acts on: the k hidden values, or z."""


class Bottleneck(Graft):
    """y + scale * (W_u drop(act(W_d z + b_d)) + b_u), with z = x (`reads` "input") or z = y ("output").

    With `drops` "input" it is W_u act(W_d drop(z) + b_d) + b_u instead. W_d (k, D) is Kaiming uniform (a = √5);
    W_u (D, k) and both biases are zero, so a fresh one changes nothing.
    """

    per_token = True
    units = MappingProxyType({"down.weight": 0, "down.bias": 0, "up.weight": 1})

    def __init__(
        self,
        width: int,
        hidden: int,
        reads: Reads,
        activation: str,
        scale: float = 1.0,
        dropout: float = 0.0,
        drops: Drops = "hidden",
    ) -> None:
        super().__init__()
        self.down = nn.Linear(width, hidden)
        self.up = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)
        self.drops = drops
        self.activation = ACTIVATIONS[activation]
        self.reads = reads
        self.scale = scale
        nn.init.kaiming_uniform_(self.down.weight, a=math.sqrt(5))
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        z = x if self.reads == "input" else y
        if self.drops == "input":
            branch: Tensor = self.up(self.activation(self.down(self.dropout(z))))
        else:
            branch = self.up(self.dropout(self.activation(self.down(z))))
        return y + branch * self.scale if self.scale != 1.0 else y + branch

"""Low-rank edit of a linear map: LoRA (Hu et al., 2022, eq. 3)."""

import math
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgraft.core.edits import LowRankEdit, WeightEdit
from vitgraft.core.graft import Graft


class LowRank(Graft):
    """y + alpha/rank * B A drop(x): A (rank, D_in) Kaiming uniform (a = √5), B (D_out, rank) zero."""

    per_token = True
    units = MappingProxyType({"down": 0, "up": 1})

    def __init__(self, inputs: int, outputs: int, rank: int, alpha: float, dropout: float = 0.0) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(rank, inputs))
        self.up = nn.Parameter(torch.zeros(outputs, rank))
        self.scale = alpha / rank
        self.dropout = nn.Dropout(dropout)
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        low = F.linear(self.dropout(x), self.down)
        return y + F.linear(low, self.up) * self.scale

    def weight_edits(self) -> tuple[WeightEdit, ...] | None:
        """None while dropout is active: the edit is then not a fixed matrix."""
        if self.training and self.dropout.p > 0:
            return None
        return (LowRankEdit(self.down, self.up, self.scale),)

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        up, down, whole = (value.cpu().double() for value in (self.up, self.down, weight))  # mps has no fp64
        return (whole + up @ down * self.scale).to(weight), bias

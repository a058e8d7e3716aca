"""Scale and shift of features: SSF (Lian et al., 2022, eq. 3)."""

import torch
from torch import Tensor, nn

from vitgraft.core.graft import Graft


class ScaleShift(Graft):
    """γ ⊙ y + β over the last dimension: γ ~ N(1, std), β ~ N(0, std), both (D_out,)."""

    per_token = True

    def __init__(self, width: int, std: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.empty(width))
        self.shift = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.scale, 1.0, std)
        nn.init.normal_(self.shift, 0.0, std)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return y * self.scale + self.shift

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        scale = self.scale.to(weight.dtype)
        shift = self.shift.to(weight.dtype)
        column = scale if weight.dim() == 1 else scale[:, None]
        return weight * column, shift if bias is None else bias * scale + shift

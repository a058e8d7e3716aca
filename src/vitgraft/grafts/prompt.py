"""Prompt tokens in front of a block: VPT (Jia et al., 2022, eqs. 4-8)."""

import math
from types import MappingProxyType

import torch
from torch import Tensor, nn

from vitgraft.core.graft import Graft


class Prompt(Graft):
    """p trained tokens at the end of the sequence, in place of the `replaces` prompts that stand there.

    Attention does not see order, so the end serves as well as the published place behind the class token, and
    the class token and patches keep their numbers. The values are U(-v, v), v = √(6 / (values of a patch + D)).
    """

    units = MappingProxyType({"tokens": 0})

    def __init__(self, tokens: int, width: int, patch_values: int, replaces: int, dropout: float) -> None:
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(tokens, width))
        self.replaces = replaces
        self.dropout = nn.Dropout(dropout)
        bound = math.sqrt(6 / (patch_values + width))
        nn.init.uniform_(self.tokens, -bound, bound)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        kept = y[:, : y.shape[1] - self.replaces]
        prompts = self.dropout(self.tokens.to(y.dtype).expand(y.shape[0], -1, -1))
        return torch.cat((kept, prompts), dim=1)

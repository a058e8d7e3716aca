"""LST's side network: a narrow transformer that climbs beside the frozen one (Sung et al., 2022)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgraft.core.backbone import Backbone, Features
from vitgraft.core.plan import Head
from vitgraft.core.sites import Tap
from vitgraft.heads.linear import fresh_classifier

TEMPERATURE = 0.1
"""Of the gates: σ(α / 0.1)."""

WIDENING = 4
"""A side block's mlp has so many times d hidden values."""


@dataclass(frozen=True)
class Side:
    """Sizes of the side network: d = `width` values a token, `heads` attention heads, 4 d in its mlps."""

    width: int
    heads: int
    dropout: float = 0.0


class SideBlock(nn.Module):
    """A plain pre-norm transformer block of width d."""

    def __init__(self, side: Side) -> None:
        super().__init__()
        width = side.width
        self.heads = side.heads
        self.norm1 = nn.LayerNorm(width)
        self.q, self.k, self.v, self.proj = (nn.Linear(width, width) for _ in range(4))
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, WIDENING * width)
        self.fc2 = nn.Linear(WIDENING * width, width)

    def forward(self, s: Tensor) -> Tensor:
        h = self.norm1(s)
        q, k, v = (part(h).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        s = s + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        wide: Tensor = self.fc2(F.gelu(self.fc1(self.norm2(s))))
        return s + wide


class LadderHead(Head):
    """s_0 = W_0 E_0; for each block s <- g s + (1 - g) W_i x_i, then a side block; the end is widened, classified.

    x_i is the output of frozen block i, g = σ(α_i / 0.1) with α_i zero at first, so a half.
    """

    reads: ClassVar[Literal["taps"]] = "taps"

    def __init__(self, backbone: Backbone, classes: int, side: Side) -> None:
        super().__init__()
        width, depth = backbone.width, backbone.depth
        self.width = side.width
        self.first = nn.Linear(width, side.width)
        self.down = nn.ModuleList(nn.Linear(width, side.width) for _ in range(depth))
        self.gates = nn.Parameter(torch.zeros(depth))
        self.blocks = nn.ModuleList(SideBlock(side) for _ in range(depth))
        self.norm = nn.LayerNorm(side.width)
        self.up = nn.Linear(side.width, width)
        self.dropout = nn.Dropout(side.dropout)
        self.classifies_token = backbone.view.class_token is not None
        self.prefix_tokens = backbone.view.prefix_tokens
        self.classifier = fresh_classifier(width, classes)

    @staticmethod
    def taps(backbone: Backbone) -> frozenset[Tap]:
        """What this head reads: the embedded tokens, and the output of every block."""
        return frozenset({Tap(0, "in")} | {Tap(block, "out") for block in range(backbone.depth)})

    def forward(self, features: Features, backbone: Backbone) -> Tensor:
        def read(block: int, place: str) -> Tensor:
            return features.taps[Tap(block, place)].to(self.gates.dtype)

        s = self.first(self.dropout(read(0, "in")))
        gates = torch.sigmoid(self.gates / TEMPERATURE)
        for block, (down, side) in enumerate(zip(self.down, self.blocks, strict=True)):
            s = side(gates[block] * s + (1 - gates[block]) * down(read(block, "out")))
        # The class token speaks for the image; a model without one is averaged, registers left out.
        pooled = s[:, 0] if self.classifies_token else s[:, self.prefix_tokens :].mean(dim=1)
        logits: Tensor = self.classifier(self.up(self.norm(pooled)))
        return logits

"""VQT's trained parts: learnt queries read every block; what they read is classified beside the pooled vector."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgraft.core.backbone import Backbone, Features
from vitgraft.core.plan import Head
from vitgraft.core.query import read_block
from vitgraft.core.sites import Tap
from vitgraft.heads.linear import fresh_classifier


@dataclass(frozen=True)
class Reading:
    """How many queries a block has (T), and how a block's T outputs become one piece of the features."""

    tokens: int
    summary: str
    dropout: float


class QueryHead(Head):
    """Features [pooled, o_1, .., o_L], each piece L2-normalised, into one linear classifier.

    o_i is the T query outputs of block i: side by side (T D), their mean (D), or a learnt weighted sum (D).
    """

    reads: ClassVar[Literal["taps"]] = "taps"

    def __init__(self, backbone: Backbone, classes: int, reading: Reading) -> None:
        super().__init__()
        width, depth = backbone.width, backbone.depth
        bound = (6 / (backbone.view.patch_values + width)) ** 0.5
        self.queries = nn.Parameter(torch.empty(depth, reading.tokens, width).uniform_(-bound, bound))
        self.dropout = nn.Dropout(reading.dropout)
        self.summary = reading.summary
        weighted = reading.summary == "weighted"
        self.weights = nn.Parameter(torch.ones(depth, reading.tokens)) if weighted else None
        pieces = reading.tokens if reading.summary == "flatten" else 1
        self.classifier = fresh_classifier(width * (1 + depth * pieces), classes)

    @staticmethod
    def taps(backbone: Backbone) -> frozenset[Tap]:
        """What this head reads: the normalised input of every block, and the pooled vector."""
        depth = backbone.depth
        return frozenset(Tap(block, "norm1") for block in range(depth)) | {Tap(depth, "pooled")}

    def forward(self, features: Features, backbone: Backbone) -> Tensor:
        logits: Tensor = self.classifier(self.read(features, backbone))
        return logits

    def read(self, features: Features, backbone: Backbone) -> Tensor:
        """The normalised features (B, D + L T D), or (B, D + L D) if the outputs are summed up."""
        queries = self.dropout(self.queries)
        pieces = [features.taps[Tap(backbone.depth, "pooled")]]
        for block, view in enumerate(backbone.view.blocks):
            u = queries[block].unsqueeze(0)
            attended, added = read_block(view, u, features.taps[Tap(block, "norm1")], nn.Identity())
            outputs = u + attended + added  # (B, T, D)
            if self.weights is not None:
                outputs = (outputs * self.weights[block].unsqueeze(-1)).sum(dim=1, keepdim=True)
            elif self.summary == "mean":
                outputs = outputs.mean(dim=1, keepdim=True)
            pieces.append(outputs.flatten(1))
        return torch.cat([F.normalize(piece, dim=1) for piece in pieces], dim=1)

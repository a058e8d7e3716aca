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
from vitgraft.errors import ConfigError
from vitgraft.heads.linear import fresh_classifier
from vitgraft.heads.selected import checked, group_lasso


@dataclass(frozen=True)
class Reading:
    """How many queries a block has (T), and how a block's T outputs become one piece of the features."""

    tokens: int
    summary: str
    dropout: float


@dataclass(frozen=True)
class Settled:
    """What earlier stages found, and this one holds fixed: queries (L, T, D), and their weights (L, T) if any.

    `kept` (K,) are the features that are classified, as ascending indices; None for all. `strength` is that of
    a group lasso.
    """

    queries: Tensor
    weights: Tensor | None = None
    kept: Tensor | None = None
    strength: float = 0.0


class QueryHead(Head):
    """Features [pooled, o_1, .., o_L], each piece L2-normalised, into one linear classifier.

    o_i is the T query outputs of block i: side by side (T D), their mean (D), or a learnt weighted sum (D).
    Queries and their weights train, unless they are `settled`.
    """

    reads: ClassVar[Literal["taps"]] = "taps"
    stacks: ClassVar[bool] = True
    queries: Tensor
    weights: Tensor | None
    kept: Tensor | None

    def __init__(self, backbone: Backbone, classes: int, reading: Reading, settled: Settled | None = None) -> None:
        super().__init__()
        width, depth = backbone.width, backbone.depth
        self.dropout = nn.Dropout(reading.dropout)
        self.summary = reading.summary
        self.strength = 0.0 if settled is None else settled.strength
        kept = None if settled is None else settled.kept
        pieces = reading.tokens if reading.summary == "flatten" else 1
        total = width * (1 + depth * pieces)
        if settled is None:
            bound = (6 / (backbone.view.patch_values + width)) ** 0.5
            self.queries = nn.Parameter(torch.empty(depth, reading.tokens, width).uniform_(-bound, bound))
            weighted = reading.summary == "weighted"
            self.weights = nn.Parameter(torch.ones(depth, reading.tokens)) if weighted else None
        else:
            wanted = (depth, reading.tokens, width)
            if settled.queries.shape != wanted:
                raise ConfigError(
                    f"The queries that were found are {tuple(settled.queries.shape)}, and this backbone takes "
                    f"{wanted}. They were found on another backbone, or with other fields."
                )
            self.register_buffer("queries", settled.queries, persistent=False)
            self.register_buffer("weights", settled.weights, persistent=False)
        self.register_buffer("kept", None if kept is None else checked(kept, total), persistent=False)
        self.classifier = fresh_classifier(total if kept is None else len(kept), classes)

    @staticmethod
    def taps(backbone: Backbone) -> frozenset[Tap]:
        """What this head reads: the normalised input of every block, and the pooled vector."""
        depth = backbone.depth
        return frozenset(Tap(block, "norm1") for block in range(depth)) | {Tap(depth, "pooled")}

    def forward(self, features: Features, backbone: Backbone) -> Tensor:
        found = self.read(features, backbone)
        logits: Tensor = self.classifier(found if self.kept is None else found[:, self.kept])
        return logits

    def penalty(self) -> Tensor | None:
        return group_lasso(self.classifier.weight, self.strength) if self.strength else None

    def read(self, features: Features, backbone: Backbone) -> Tensor:
        """The normalised features (B, D + L T D), or (B, D + L D) if the outputs are summed up."""
        pieces = [features.taps[Tap(backbone.depth, "pooled")].to(self.queries.dtype)]
        each = pieces[0].shape[0] if self.training and self.dropout.p else 1  # else images have them in common
        for block, view in enumerate(backbone.view.blocks):
            u = self.dropout(self.queries[block].expand(each, -1, -1))
            attended, added = read_block(view, u, features.taps[Tap(block, "norm1")], nn.Identity())
            outputs = u + attended + added  # (B, T, D)
            if self.weights is not None:
                outputs = (outputs * self.weights[block].unsqueeze(-1)).sum(dim=1, keepdim=True)
            elif self.summary == "mean":
                outputs = outputs.mean(dim=1, keepdim=True)
            pieces.append(outputs.flatten(1))
        return torch.cat([F.normalize(piece, dim=1) for piece in pieces], dim=1)

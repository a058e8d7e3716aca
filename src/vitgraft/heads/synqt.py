"""SynQT's trained parts: query synthesis, and a head that weighs what the queries read (Zhang et al., 2024)."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitgraft.core.backbone import Backbone, Features
from vitgraft.core.block import BlockView
from vitgraft.core.plan import Head
from vitgraft.core.query import read_block
from vitgraft.core.sites import Tap
from vitgraft.heads.linear import fresh_classifier


@dataclass(frozen=True)
class Synthesis:
    """Sizes, scales and rates of SynQT. `wide` and `narrow` are the hidden widths of its two adapters."""

    tokens: int
    feature_scale: float
    attention_scale: float
    mlp_scale: float
    learn_scales: bool = True
    train_extraction: bool = False
    wide: int = 48
    narrow: int = 8
    dropout: float = 0.1
    drop_path: float = 0.1
    drop_features: float = 0.3


class Dropout(nn.Module):
    """Dropout; on a CPU by 16 random bits a value, many times cheaper there than one random number a value."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.p)
        dropped = min(round(self.p * 2**16), 2**16 - 1)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
        kept = words.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 2**15
        return x * kept.to(x.dtype).mul_(2**16 / (2**16 - dropped))


class ResidualMlp(nn.Module):
    """A_k(z) = z + drop(W_2 drop(GELU(W_1 z + b_1)) + b_2), D -> k -> D."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.dropout = Dropout(dropout)

    def forward(self, z: Tensor) -> Tensor:
        change: Tensor = self.dropout(self.fc2(self.dropout(F.gelu(self.fc1(z)))))
        return z + change


class DropPath(nn.Module):
    """Drop a branch of a whole sample with probability p, and scale the others up."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        kept = torch.rand(x.shape[0], *[1] * (x.dim() - 1), device=x.device) >= self.p
        return x * (kept / (1 - self.p))


class QueryAttention(nn.Module):
    """Single-head attention among T queries; its four projections are narrow residual mlps.

    A query that is alone attends to itself, whatever its score, so that nothing compares queries then.
    """

    def __init__(self, width: int, sizes: Synthesis) -> None:
        super().__init__()
        self.compares = sizes.tokens > 1
        if self.compares:
            self.q_norm = nn.LayerNorm(width)
            self.q, self.k = (ResidualMlp(width, sizes.narrow) for _ in range(2))
        self.kv_norm = nn.LayerNorm(width)
        self.v, self.proj = (ResidualMlp(width, sizes.narrow) for _ in range(2))
        self.dropout = Dropout(sizes.dropout)
        self.out_dropout = Dropout(sizes.dropout)

    def forward(self, x: Tensor) -> Tensor:
        kv = self.kv_norm(x)
        shares = self.shares(x, kv) if self.compares else x.new_ones(x.shape[0], 1, 1)
        mixed = self.dropout(shares) @ self.v(kv)
        out: Tensor = self.out_dropout(self.proj(mixed))
        return out

    def shares(self, x: Tensor, kv: Tensor) -> Tensor:
        """How much each query takes of each, (B, T, T)."""
        q = self.q(self.q_norm(x))
        scores: Tensor = (q @ self.k(kv).transpose(1, 2)) * q.shape[-1] ** -0.5
        return scores.softmax(-1)


class QuerySynthesis(nn.Module):
    """The queries of one block: its own T plus what was read from the block before, mixed among themselves."""

    def __init__(self, width: int, sizes: Synthesis) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.empty(sizes.tokens, width).uniform_(-1, 1))
        self.inlet = ResidualMlp(width, sizes.wide, sizes.dropout)
        self.norm1 = nn.LayerNorm(width)
        self.attention = QueryAttention(width, sizes)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = ResidualMlp(width, sizes.wide, sizes.dropout)
        self.attention_scale = _scale(sizes.attention_scale, sizes.learn_scales)
        self.mlp_scale = _scale(sizes.mlp_scale, sizes.learn_scales)
        self.dropout = Dropout(sizes.dropout)

    def forward(self, before: Tensor | None, batch: int) -> Tensor:
        """Queries (B, T, D); `before` (B, 1, D) is the scaled mean output of the block before, if any."""
        u = self.queries.expand(batch, -1, -1) if before is None else self.queries + before
        u = self.inlet(u)
        u = u + self.attention_scale * self.attention(self.norm1(u))
        u = u + self.mlp_scale * self.mlp(self.norm2(u))
        queries: Tensor = self.dropout(u)
        return queries


def _like_final_norm(backbone: Backbone) -> nn.LayerNorm:
    """A layer norm of its own that begins as the backbone's final one, where that is a layer norm with values."""
    norm = nn.LayerNorm(backbone.width)
    for rows in backbone.rows((backbone.depth, "norm")):
        if isinstance(rows.module, nn.LayerNorm):
            norm.load_state_dict({**norm.state_dict(), **_values(rows.module)})
    return norm


def _values(module: nn.Module) -> dict[str, Tensor]:
    """A module's parameters; none of a model that has only shapes."""
    return {name: value.detach() for name, value in module.named_parameters() if not value.is_meta}


def _scale(value: float, learn: bool) -> nn.Parameter | float:
    return nn.Parameter(torch.tensor([value])) if learn else 1.0


class SynqtHead(Head):
    """Synthesised queries read every frozen block; a weighted mean of what they found is classified.

    The 3 L + 1 features are [h_L, h_1..h_L, attention branches, mlp branches], each the mean over T queries.
    """

    reads: ClassVar[Literal["taps"]] = "taps"

    def __init__(self, backbone: Backbone, classes: int, sizes: Synthesis) -> None:
        super().__init__()
        width, depth = backbone.width, backbone.depth
        self.synthesis = nn.ModuleList(QuerySynthesis(width, sizes) for _ in range(depth))
        self.feature_scale = _scale(sizes.feature_scale, sizes.learn_scales)
        self.norm = nn.LayerNorm(width)
        self.adapter = ResidualMlp(width, sizes.wide, sizes.dropout)
        self.weigh = nn.Linear(width, 3 * depth)
        self.weigh_dropout = Dropout(sizes.dropout)
        self.head_norm = _like_final_norm(backbone)
        self.drop_features = Dropout(sizes.drop_features)
        self.drop_paths = nn.ModuleList(
            DropPath(sizes.drop_path * block / max(depth - 1, 1)) for block in range(depth)
        )
        # Copies are trained, never the backbone; without them the frozen blocks themselves are read.
        copies = [copy.deepcopy(view).requires_grad_() for view in backbone.view.blocks if sizes.train_extraction]
        self.extraction = nn.ModuleList(copies)
        self.classifier = fresh_classifier(width, classes)

    @staticmethod
    def taps(backbone: Backbone) -> frozenset[Tap]:
        """What this head reads: the normalised input of every block."""
        return frozenset(Tap(block, "norm1") for block in range(backbone.depth))

    def forward(self, features: Features, backbone: Backbone) -> Tensor:
        stack = self.extract(features, backbone)
        weights = self.weights(stack)
        weights = torch.cat((weights[:, :1], self.drop_features(weights[:, 1:])), dim=1)
        pooled = (weights.unsqueeze(1) @ stack).squeeze(1) / weights.shape[1]
        logits: Tensor = self.classifier(self.head_norm(pooled))
        return logits

    def extract(self, features: Features, backbone: Backbone) -> Tensor:
        """The adapted features (B, 3 L + 1, D)."""
        outputs: list[Tensor] = []
        attention, mlp = [], []
        views = cast(Sequence[BlockView], self.extraction or backbone.view.blocks)
        for block, synthesis in enumerate(self.synthesis):
            tokens = features.taps[Tap(block, "norm1")]
            before = self.feature_scale * outputs[-1].unsqueeze(1) if outputs else None
            u = synthesis(before, tokens.shape[0])
            attended, added = read_block(views[block], u, tokens, self.drop_paths[block], not self.extraction)
            attention.append(attended.mean(dim=1))
            mlp.append(added.mean(dim=1))
            outputs.append(u.mean(dim=1) + attention[-1] + mlp[-1])
        stack = torch.stack([outputs[-1], *outputs, *attention, *mlp], dim=1)
        adapted: Tensor = stack + self.adapter(self.norm(stack))
        return adapted

    def weights(self, stack: Tensor) -> Tensor:
        """Instance-aware weights (B, 3 L + 1): 1 for the first feature, tanh(GELU(.)) for the others."""
        others = torch.tanh(self.weigh_dropout(F.gelu(self.weigh(stack[:, 0]))))
        return torch.cat((torch.ones_like(others[:, :1]), others), dim=1)

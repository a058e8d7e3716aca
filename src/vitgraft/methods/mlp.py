"""MLP-k: an mlp of k layers on the frozen model's pooled vector."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from vitgraft.errors import ConfigError
from vitgraft.methods.base import Findings, Method, positive, probability

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape

MOST_LAYERS = 100


@dataclass(frozen=True)
class Mlp(Method):
    """Trains `k` - 1 hidden layers (linear, ReLU, BatchNorm, dropout) and the classifier (VPT's MLP-k)."""

    name: ClassVar[str] = "mlp"
    trains: ClassVar[str] = "an mlp of k layers"
    where: ClassVar[str] = "pooled vector"
    source: ClassVar[str] = "baseline"
    merges: ClassVar[bool] = False
    crosses: ClassVar[Literal["no block"]] = "no block"

    k: int = 3
    dropout: float = 0.1

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.heads.linear import MlpHead

        positive(self, k=self.k)
        if self.k > MOST_LAYERS:
            raise ConfigError(f"mlp: k={self.k} must be at most {MOST_LAYERS} layers.")
        probability(self, dropout=self.dropout)
        return Plan(MlpHead(backbone.width, classes, self.k, self.dropout))

    def formula(self, shape: "Shape") -> int:
        return (self.k - 1) * (shape.width * (shape.width + 1) + 2 * shape.width)

"""AdaptFormer: a bottleneck beside each block's mlp (Chen et al., 2022)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vitgraft.methods.base import Findings, Method, positive, probability

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape


@dataclass(frozen=True)
class AdaptFormer(Method):
    """mlp(LN2 x) + s (W_u drop(ReLU(W_d x + b_d)) + b_u), x the un-normalised stream before the mlp (eq. 2-3).

    Deviation: the classifier is one linear layer without the BatchNorm of the official MAE recipe.
    """

    name: ClassVar[str] = "adaptformer"
    trains: ClassVar[str] = "bottlenecks beside the mlp"
    where: ClassVar[str] = "mlp of each block"
    source: ClassVar[str] = "Chen 2022"
    merges: ClassVar[bool] = False

    hidden: int = 64
    scale: float = 0.1
    dropout: float = 0.1

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.core.shape import measure
        from vitgraft.grafts.bottleneck import Bottleneck
        from vitgraft.heads.linear import LinearHead

        positive(self, hidden=self.hidden, scale=self.scale)
        probability(self, dropout=self.dropout)
        grafts = {
            (number, "mlp"): (Bottleneck(block.width, self.hidden, "input", "relu", self.scale, self.dropout),)
            for number, block in enumerate(measure(backbone).blocks)
        }
        return Plan(LinearHead(backbone.width, classes), grafts)

    def formula(self, shape: "Shape") -> int:
        return sum(2 * block.width * self.hidden + self.hidden + block.width for block in shape.blocks)

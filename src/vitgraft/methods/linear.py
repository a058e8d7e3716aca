"""Linear probing: a linear classifier on the frozen model's pooled vector."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from vitgraft.methods.base import Findings, Method, Recipe

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape


@dataclass(frozen=True)
class Linear(Method):
    """Trains the classifier alone.

    Deviation: the classifier starts at truncated normal (0.02) and zero bias instead of VPT's Kaiming
    weights and bias -ln 99.
    """

    name: ClassVar[str] = "linear"
    trains: ClassVar[str] = "the classifier"
    where: ClassVar[str] = "pooled vector"
    source: ClassVar[str] = "baseline"
    merges: ClassVar[bool] = True
    crosses: ClassVar[Literal["no block"]] = "no block"
    stacks: ClassVar[bool] = True
    recipe: ClassVar[Recipe] = Recipe(lr=1e-2, weight_decay=1e-4)

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.heads.linear import LinearHead

        return Plan(LinearHead(backbone.width, classes))

    def formula(self, shape: "Shape") -> int:
        return 0

"""Full fine-tuning: every parameter of the backbone is trained."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vitgraft.methods.base import Findings, Method, Recipe

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape


@dataclass(frozen=True)
class Full(Method):
    """Trains copies of all backbone parameters. VPT's protocol (Jia et al., 2022) calls it FULL.

    Deviation: no dropout in embedding and mlp, which VPT's FULL alone switches on.
    """

    name: ClassVar[str] = "full"
    trains: ClassVar[str] = "every parameter"
    where: ClassVar[str] = "whole backbone"
    source: ClassVar[str] = "baseline"
    merges: ClassVar[bool] = True
    recipe: ClassVar[Recipe] = Recipe(lr=2e-4, weight_decay=1e-2)

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.heads.linear import LinearHead

        return Plan(LinearHead(backbone.width, classes), unfreeze=frozenset(backbone.parameter_names()))

    def formula(self, shape: "Shape") -> int:
        return shape.parameters

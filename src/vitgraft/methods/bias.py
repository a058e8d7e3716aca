"""BitFit: only the biases are trained."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vitgraft.methods.base import Findings, Method

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape


@dataclass(frozen=True)
class Bias(Method):
    """Trains every bias of linear maps, normalisations and the patch embedding (Ben Zaken et al., 2022)."""

    name: ClassVar[str] = "bias"
    trains: ClassVar[str] = "every bias (BitFit)"
    where: ClassVar[str] = "whole backbone"
    source: ClassVar[str] = "Ben Zaken 2022"
    merges: ClassVar[bool] = True

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.heads.linear import LinearHead

        return Plan(LinearHead(backbone.width, classes), unfreeze=frozenset(backbone.bias_names()))

    def formula(self, shape: "Shape") -> int:
        return shape.bias_values

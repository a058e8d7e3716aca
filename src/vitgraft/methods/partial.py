"""Partial-k: the last k blocks and the final normalisation are trained."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from vitgraft.errors import ConfigError
from vitgraft.methods.base import Findings, Method, Recipe

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape


@dataclass(frozen=True)
class Partial(Method):
    """Trains copies of the last `k` blocks and of the final normalisation (VPT's PARTIAL-k)."""

    name: ClassVar[str] = "partial"
    trains: ClassVar[str] = "the last k blocks, final norm"
    where: ClassVar[str] = "last k blocks"
    source: ClassVar[str] = "baseline"
    merges: ClassVar[bool] = True
    crosses: ClassVar[Literal["last blocks"]] = "last blocks"
    recipe: ClassVar[Recipe] = Recipe(lr=5e-4, weight_decay=1e-2)

    k: int = 1

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.heads.linear import LinearHead

        if not 1 <= self.k <= backbone.depth:
            raise ConfigError(f"partial: k={self.k} must be from 1 to the backbone's {backbone.depth} blocks.")
        names = {
            name
            for block in range(backbone.depth - self.k, backbone.depth)
            for name in backbone.parameter_names(block)
        }
        names |= set(backbone.final_norm_names())
        return Plan(LinearHead(backbone.width, classes), unfreeze=frozenset(names))

    def formula(self, shape: "Shape") -> int:
        return sum(block.parameters for block in shape.blocks[-self.k :]) + shape.final_norm_parameters

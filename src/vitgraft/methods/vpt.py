"""Visual prompt tuning, shallow and deep (Jia et al., 2022)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vitgraft.methods.base import Findings, Method, Recipe, in_one_sequence, positive, probability

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape


@dataclass(frozen=True)
class VptShallow(Method):
    """Trains `tokens` prompts in front of block 0, which then run through all blocks (eq. 4-5).

    Deviations: prompts stand at the end of the sequence (attention does not see order), and are no part of an
    average over tokens.
    """

    name: ClassVar[str] = "vpt-shallow"
    trains: ClassVar[str] = "prompt tokens at the input"
    where: ClassVar[str] = "before block 0"
    source: ClassVar[str] = "Jia 2022"
    merges: ClassVar[bool] = False
    fresh: ClassVar[bool] = False
    recipe: ClassVar[Recipe] = Recipe(lr=5e-3)

    tokens: int = 10
    dropout: float = 0.0

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        return _prompts(self, backbone, classes, blocks=1)

    def formula(self, shape: "Shape") -> int:
        return self.tokens * shape.width


@dataclass(frozen=True)
class VptDeep(Method):
    """Trains `tokens` prompts in front of every block; those of the block before are dropped (eq. 6-7).

    Deviations as in VPT-shallow.
    """

    name: ClassVar[str] = "vpt-deep"
    trains: ClassVar[str] = "prompt tokens at every block"
    where: ClassVar[str] = "before each block"
    source: ClassVar[str] = "Jia 2022"
    merges: ClassVar[bool] = False
    fresh: ClassVar[bool] = False
    revision: ClassVar[int] = 2
    recipe: ClassVar[Recipe] = Recipe(lr=5e-3)

    tokens: int = 10
    dropout: float = 0.1

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        return _prompts(self, backbone, classes, blocks=backbone.depth)

    def formula(self, shape: "Shape") -> int:
        return self.tokens * shape.width * shape.depth


def _prompts(method: VptShallow | VptDeep, backbone: "Backbone", classes: int, blocks: int) -> "Plan":
    from vitgraft.core.plan import Plan
    from vitgraft.grafts.prompt import Prompt
    from vitgraft.heads.linear import LinearHead

    in_one_sequence(method, backbone)
    positive(method, tokens=method.tokens)
    probability(method, dropout=method.dropout)
    patch_values = backbone.view.patch_values
    grafts = {
        (block, "in"): (
            Prompt(method.tokens, backbone.width, patch_values, method.tokens if block else 0, method.dropout),
        )
        for block in range(blocks)
    }
    return Plan(LinearHead(backbone.width, classes), grafts)

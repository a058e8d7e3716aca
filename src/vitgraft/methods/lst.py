"""LST: ladder side tuning (Sung et al., 2022), the encoder version for vision transformers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from vitgraft.errors import ConfigError
from vitgraft.methods.base import Findings, Method, Recipe, one_of, positive, probability

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape


@dataclass(frozen=True)
class LST(Method):
    """A side network of width D / `reduction` climbs beside the frozen blocks and reads each one's output.

    `start` is how its blocks begin: l1 (submatrices of the frozen blocks, rows of the largest weights; structural
    pruning) or random. Deviations: importance of queries, keys and values is the product of the three, largest
    first (one published version keeps the smallest); no layers are dropped; the paper has no recipe for images.
    """

    name: ClassVar[str] = "lst"
    trains: ClassVar[str] = "a narrow side network"
    where: ClassVar[str] = "beside every block"
    source: ClassVar[str] = "Sung 2022"
    merges: ClassVar[bool] = False
    crosses: ClassVar[Literal["no block"]] = "no block"
    recipe: ClassVar[Recipe] = Recipe(lr=3e-3, weight_decay=1e-2)

    reduction: int = 8
    start: str = "l1"
    dropout: float = 0.0

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.heads.ladder import LadderHead, Side
        from vitgraft.heads.pruning import prunable, prune_into

        positive(self, reduction=self.reduction)
        probability(self, dropout=self.dropout)
        one_of(self, "start", self.start, ("l1", "random"))
        width, heads = backbone.width // self.reduction, backbone.view.blocks[0].heads
        if width < 1 or backbone.width % self.reduction:
            raise ConfigError(
                f"lst: reduction={self.reduction} does not divide the backbone's width {backbone.width}."
            )
        # As many heads as the backbone has, or the most that divide the side's width.
        heads = next(count for count in range(min(heads, width), 0, -1) if width % count == 0)
        head = LadderHead(backbone, classes, Side(width, heads, self.dropout))
        if self.start == "l1":
            if not prunable(backbone):
                raise ConfigError(
                    "lst: start=l1 needs blocks with plain mlps, which this backbone lacks. Use start=random."
                )
            prune_into(head, backbone)
        return Plan(head, taps=LadderHead.taps(backbone))

    def formula(self, shape: "Shape") -> int:
        width, depth = shape.width, shape.depth
        d = width // self.reduction
        blocks = depth * (12 * d * d + 13 * d)
        return blocks + (depth + 1) * (width * d + d) + depth + (d * width + width) + 2 * d

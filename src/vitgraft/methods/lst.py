"""LST: ladder side tuning (Sung et al., 2022), the encoder version for vision transformers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from vitgraft.errors import ConfigError
from vitgraft.methods.base import (
    Calibration,
    Findings,
    Method,
    Recipe,
    in_one_sequence,
    needed,
    one_of,
    positive,
    probability,
)

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape
    from vitgraft.heads.ladder import Side

FISHER_IMAGES = 1_024
"""How many images at most the Fisher information is summed over."""


@dataclass(frozen=True)
class LST(Method):
    """A side network of width D / `reduction` climbs beside the frozen blocks and reads each one's output.

    `start` is how its blocks begin: l1 or fisher (submatrices of the frozen blocks: rows of the largest weights,
    or of the largest squared gradients of single training images; structural pruning) or random. Fisher's
    gradients are those of a linear probe trained on the same images, at their true labels, summed over up to
    1,024 of them.

    Deviations: importance of queries, keys and values is the product of the three, largest first (one published
    version keeps the smallest); no layers are dropped; the paper has no recipe for images, and its models came
    with an output layer, so that Fisher needed no probe.
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

    def looks(self) -> bool:
        return self.start == "fisher"

    def find(self, backbone: "Backbone", classes: int, calibration: Calibration) -> "dict[str, Tensor]":
        from vitgraft.heads.pruning import fisher, kept_rows
        from vitgraft.methods.linear import Linear

        width = self._side(backbone).width
        probe = calibration.fit("probe", Linear().plan(backbone, classes), Linear.recipe)
        return kept_rows(backbone, width, fisher(calibration.squared_gradients(probe, FISHER_IMAGES)))

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.heads.ladder import LadderHead
        from vitgraft.heads.pruning import kept_rows, prune_into

        side = self._side(backbone)
        head = LadderHead(backbone, classes, side)
        if self.looks():
            prune_into(head, backbone, needed(self, findings, "start=fisher"))
        elif self.start == "l1":
            prune_into(head, backbone, kept_rows(backbone, side.width))
        return Plan(head, taps=LadderHead.taps(backbone))

    def _side(self, backbone: "Backbone") -> "Side":
        """The sizes of the side network. Raises ConfigError for fields that do not fit this backbone."""
        from vitgraft.heads.ladder import Side
        from vitgraft.heads.pruning import prunable

        in_one_sequence(self, backbone)
        positive(self, reduction=self.reduction)
        probability(self, dropout=self.dropout)
        one_of(self, "start", self.start, ("l1", "fisher", "random"))
        width, heads = backbone.width // self.reduction, backbone.view.blocks[0].heads
        if width < 1 or backbone.width % self.reduction:
            raise ConfigError(
                f"lst: reduction={self.reduction} does not divide the backbone's width {backbone.width}."
            )
        if self.start != "random" and not prunable(backbone):
            raise ConfigError(
                f"lst: start={self.start} needs blocks with plain mlps, which this backbone lacks. "
                "Use start=random."
            )
        # As many heads as the backbone has, or the most that divide the side's width.
        heads = next(count for count in range(min(heads, width), 0, -1) if width % count == 0)
        return Side(width, heads, self.dropout)

    def formula(self, shape: "Shape") -> int:
        width, depth = shape.width, shape.depth
        d = width // self.reduction
        blocks = depth * (12 * d * d + 13 * d)
        return blocks + (depth + 1) * (width * d + d) + depth + (d * width + width) + 2 * d

"""SSF: a scale and a shift behind every linear map and normalisation (Lian et al., 2022)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vitgraft.core.sites import LINEAR_PLACES, STEM
from vitgraft.methods.base import Findings, Method, Recipe, not_negative

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape


@dataclass(frozen=True)
class SSF(Method):
    """γ ⊙ y + β behind the patch embedding, LN1, qkv, proj, LN2, fc1, fc2 and the final norm (eq. 3).

    γ ~ N(1, `std`), β ~ N(0, `std`): a fresh SSF is near the frozen model, not equal to it. Folding is exact
    where the model's linear maps and norms have biases.
    """

    name: ClassVar[str] = "ssf"
    trains: ClassVar[str] = "scale and shift of features"
    where: ClassVar[str] = "every linear map and norm"
    source: ClassVar[str] = "Lian 2022"
    merges: ClassVar[bool] = True
    fresh: ClassVar[bool] = False
    recipe: ClassVar[Recipe] = Recipe(lr=5e-3, weight_decay=5e-5)

    std: float = 0.02

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.core.rows import outputs_of
        from vitgraft.grafts.scale_shift import ScaleShift
        from vitgraft.heads.linear import LinearHead

        not_negative(self, std=self.std)
        inner = [(block, place) for block in range(backbone.depth) for place in ("norm1", "norm2", *LINEAR_PLACES)]
        grafts = {}
        for site in [(STEM, "patch"), *inner, (backbone.depth, "norm")]:
            width = outputs_of(backbone.rows(site))
            if width:
                grafts[site] = (ScaleShift(width, self.std),)
        return Plan(LinearHead(backbone.width, classes), grafts)

    def formula(self, shape: "Shape") -> int:
        inner = sum(
            block.norm_width + sum(outputs for _, outputs in block.widths.values()) for block in shape.blocks
        )
        return 2 * (inner + shape.stem_width + shape.final_norm_width)

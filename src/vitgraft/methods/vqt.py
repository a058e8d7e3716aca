"""VQT: visual query tuning (Tu et al., 2023)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from vitgraft.methods.base import Findings, Method, Recipe, one_of, positive, probability

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape


@dataclass(frozen=True)
class VQT(Method):
    """`tokens` learnt queries read every frozen block (query-only attention); what they found and the pooled
    vector, each L2-normalised, go into a linear classifier.

    `summary` is what becomes of a block's outputs: flatten (T D features), mean or weighted (D).
    Deviations: no dropout in the embedding of the frozen stream (the published code leaves it on).
    """

    name: ClassVar[str] = "vqt"
    trains: ClassVar[str] = "queries at every block"
    where: ClassVar[str] = "beside every block"
    source: ClassVar[str] = "Tu 2023"
    merges: ClassVar[bool] = False
    crosses: ClassVar[Literal["no block"]] = "no block"
    recipe: ClassVar[Recipe] = Recipe(lr=5e-3, weight_decay=1e-4)

    tokens: int = 1
    summary: str = "flatten"
    dropout: float = 0.1

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.heads.query import QueryHead, Reading

        positive(self, tokens=self.tokens)
        probability(self, dropout=self.dropout)
        one_of(self, "summary", self.summary, ("flatten", "mean", "weighted"))
        head = QueryHead(backbone, classes, Reading(self.tokens, self.summary, self.dropout))
        return Plan(head, taps=QueryHead.taps(backbone))

    def formula(self, shape: "Shape") -> int:
        weights = shape.depth * self.tokens if self.summary == "weighted" else 0
        return shape.depth * self.tokens * shape.width + weights

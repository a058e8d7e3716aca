"""VQT: visual query tuning (Tu et al., 2023)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from vitgraft.methods.base import (
    Calibration,
    Findings,
    Method,
    Recipe,
    in_one_sequence,
    needed,
    not_negative,
    one_of,
    positive,
    probability,
    share,
)

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape
    from vitgraft.heads.query import Settled


@dataclass(frozen=True)
class VQT(Method):
    """`tokens` learnt queries read every frozen block (query-only attention); what they found and the pooled
    vector, each L2-normalised, go into a linear classifier.

    `summary` is what becomes of a block's outputs: flatten (T D features), mean or weighted (D).

    With `keep` below 1 the features are compressed in three stages, as published: queries are trained; with the
    queries fixed a fresh classifier is trained at half the learning rate, with a group lasso (`penalty` times
    the sum of its columns' norms); and a fresh classifier is trained on the share `keep` of features with the
    largest columns. The queries are shipped then, but the last stage trains the classifier alone, and that is
    what is counted.

    Deviations: no dropout in the embedding of the frozen stream (the published code leaves it on); the share
    kept is the user's choice for every number of tokens, published for one token at 0.7; the last stage trains at
    the run's own rate (half of it in the published code).
    """

    name: ClassVar[str] = "vqt"
    trains: ClassVar[str] = "queries at every block"
    where: ClassVar[str] = "beside every block"
    source: ClassVar[str] = "Tu 2023"
    merges: ClassVar[bool] = False
    crosses: ClassVar[Literal["no block"]] = "no block"
    stacks: ClassVar[bool] = True
    revision: ClassVar[int] = 2
    recipe: ClassVar[Recipe] = Recipe(lr=5e-3, weight_decay=1e-4)

    tokens: int = 1
    summary: str = "flatten"
    dropout: float = 0.1
    keep: float = 1.0
    penalty: float = 1e-4

    def looks(self) -> bool:
        return self.keep < 1

    def find(self, backbone: "Backbone", classes: int, calibration: Calibration) -> "dict[str, Tensor]":
        from vitgraft.heads.query import QueryHead, Settled
        from vitgraft.heads.selected import strongest

        head = calibration.fit("queries", self._plan(backbone, classes), self.recipe).head
        assert isinstance(head, QueryHead)
        weights = None if head.weights is None else head.weights.detach()
        settled = Settled(head.queries.detach(), weights, strength=self.penalty)
        scored = calibration.fit("scores", self._plan(backbone, classes, settled), self.recipe, rate=0.5).head
        found = {"queries": settled.queries, "kept": strongest(scored.classifier.weight, self.keep)}
        return found if weights is None else {**found, "weights": weights}

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.heads.query import Settled

        if not self.looks():
            return self._plan(backbone, classes)
        found = needed(self, findings, f"keep={self.keep}")
        return self._plan(backbone, classes, Settled(found["queries"], found.get("weights"), found["kept"]))

    def _plan(self, backbone: "Backbone", classes: int, settled: "Settled | None" = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.heads.query import QueryHead, Reading

        in_one_sequence(self, backbone)
        positive(self, tokens=self.tokens)
        probability(self, dropout=self.dropout)
        share(self, keep=self.keep)
        not_negative(self, penalty=self.penalty)
        one_of(self, "summary", self.summary, ("flatten", "mean", "weighted"))
        head = QueryHead(backbone, classes, Reading(self.tokens, self.summary, self.dropout), settled)
        return Plan(head, taps=QueryHead.taps(backbone))

    def formula(self, shape: "Shape") -> int:
        if self.looks():
            return 0
        weights = shape.depth * self.tokens if self.summary == "weighted" else 0
        return shape.depth * self.tokens * shape.width + weights

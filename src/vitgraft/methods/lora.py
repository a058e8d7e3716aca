"""LoRA: low-rank changes of chosen projections (Hu et al., 2022)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vitgraft.core.sites import parse_places
from vitgraft.errors import ConfigError
from vitgraft.methods.base import Findings, Method, positive, probability

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape


@dataclass(frozen=True)
class LoRA(Method):
    """W + alpha/rank B A at each of `places`, in the last `last` blocks (0: in all). Own A and B a place.

    `places` is a string such as qv, qkv, all or q+v+fc1. `alpha` none means alpha = rank, a scale of 1.
    Deviations from NOAH's LoRA-k (one A for the fused qkv, dropout 0.1, no zero initialisation): A a place, no
    dropout unless asked, B zero. With places q and v the count is the same.
    """

    name: ClassVar[str] = "lora"
    trains: ClassVar[str] = "low-rank factors of projections"
    where: ClassVar[str] = "q, v of each block"
    source: ClassVar[str] = "Hu 2022"
    merges: ClassVar[bool] = True

    rank: int = 8
    alpha: float | None = None
    places: str = "qv"
    dropout: float = 0.0
    last: int = 0

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.core.shape import measure
        from vitgraft.grafts.low_rank import LowRank
        from vitgraft.heads.linear import LinearHead

        positive(self, rank=self.rank, **({} if self.alpha is None else {"alpha": self.alpha}))
        probability(self, dropout=self.dropout)
        if not 0 <= self.last <= backbone.depth:
            raise ConfigError(f"lora: last={self.last} must be from 0 to the backbone's {backbone.depth} blocks.")
        widths = measure(backbone).widths
        alpha = float(self.rank) if self.alpha is None else self.alpha
        first = backbone.depth - self.last if self.last else 0
        grafts = {
            (block, place): (LowRank(*widths[place], self.rank, alpha, self.dropout),)
            for block in range(first, backbone.depth)
            for place in parse_places(self.places)
        }
        return Plan(LinearHead(backbone.width, classes), grafts)

    def formula(self, shape: "Shape") -> int:
        inner = sum(self.rank * sum(shape.widths[place]) for place in parse_places(self.places))
        return (self.last or shape.depth) * inner

"""LoRA: low-rank changes of chosen projections (Hu et al., 2022)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vitgraft.core.sites import JOINED, QKV, parse_places
from vitgraft.errors import ConfigError
from vitgraft.methods.base import Findings, Method, positive, probability

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import BlockShape, Shape


@dataclass(frozen=True)
class LoRA(Method):
    """W + alpha/rank B A at each of `places`, in the last `last` blocks (0: in all). Own A and B a place.

    `places` is a string such as qv, qkv, all or q+v+fc1. `alpha` none means alpha = rank, a scale of 1. With
    `share_a`, q, k and v have one A in common, and one B of three times the width: with places=qkv this is NOAH's
    LoRA-k, which has as many values as q and v with an A each, and is another function. Deviations from NOAH's:
    no dropout unless asked (published: 0.1), B zero at first.
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
    share_a: bool = False

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.core.shape import measure
        from vitgraft.grafts.low_rank import LowRank
        from vitgraft.heads.linear import LinearHead

        positive(self, rank=self.rank, **({} if self.alpha is None else {"alpha": self.alpha}))
        probability(self, dropout=self.dropout)
        if not 0 <= self.last <= backbone.depth:
            raise ConfigError(f"lora: last={self.last} must be from 0 to the backbone's {backbone.depth} blocks.")
        alpha = float(self.rank) if self.alpha is None else self.alpha
        first = backbone.depth - self.last if self.last else 0
        blocks = measure(backbone).blocks
        grafts = {
            (block, place): (LowRank(*widths, self.rank, alpha, self.dropout),)
            for block in range(first, backbone.depth)
            for place, widths in self._widths(blocks[block]).items()
        }
        return Plan(LinearHead(backbone.width, classes), grafts)

    def formula(self, shape: "Shape") -> int:
        each = [widths for block in shape.blocks[-self.last :] for widths in self._widths(block).values()]
        return sum(self.rank * sum(widths) for widths in each)

    def _widths(self, shape: "BlockShape") -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each place that has factors of its own. Raises ConfigError."""
        from vitgraft.core.shape import joined

        places = parse_places(self.places)
        own = {place: shape.widths[place] for place in places if not (self.share_a and place in QKV)}
        if not self.share_a:
            return own
        if not set(QKV) <= set(places):
            raise ConfigError(
                f"lora: share_a=true gives q, k and v one A in common, and places={self.places!r} are not all of "
                "them. Write places=qkv, or share_a=false."
            )
        return {JOINED: joined(shape), **own}

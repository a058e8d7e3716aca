"""Adapters: bottlenecks behind the branches of each block (Houlsby et al., 2019; Pfeiffer et al., 2021)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from vitgraft.methods.base import Findings, Method, one_of, positive, probability

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone
    from vitgraft.core.plan import Plan
    from vitgraft.core.shape import Shape

POSITIONS = {"pfeiffer": ("mlp",), "houlsby": ("attn", "mlp")}


@dataclass(frozen=True)
class Adapter(Method):
    """h + W_u drop(act(W_d h + b_d)) + b_u on the output h of the mlp (pfeiffer) or of both branches (houlsby).

    NOAH's Adapter-k (Zhang et al., 2022) without its initialisation bug: W_u is zero, so a fresh adapter
    changes nothing; W_d is Kaiming uniform instead of Xavier. VPT's adapter, whose two zero matrices never
    learn, is not offered.
    """

    name: ClassVar[str] = "adapter"
    trains: ClassVar[str] = "bottlenecks behind branches"
    where: ClassVar[str] = "mlp (and attn) of each block"
    source: ClassVar[str] = "Houlsby 2019"
    merges: ClassVar[bool] = False

    hidden: int = 8
    position: str = "pfeiffer"
    activation: str = "quick_gelu"
    dropout: float = 0.1

    def plan(self, backbone: "Backbone", classes: int, findings: Findings | None = None) -> "Plan":
        from vitgraft.core.plan import Plan
        from vitgraft.core.shape import measure
        from vitgraft.grafts.bottleneck import ACTIVATIONS, Bottleneck
        from vitgraft.heads.linear import LinearHead

        positive(self, hidden=self.hidden)
        probability(self, dropout=self.dropout)
        one_of(self, "position", self.position, tuple(POSITIONS))
        one_of(self, "activation", self.activation, tuple(ACTIVATIONS))
        grafts = {
            (number, place): (
                Bottleneck(block.width, self.hidden, "output", self.activation, dropout=self.dropout),
            )
            for number, block in enumerate(measure(backbone).blocks)
            for place in POSITIONS[self.position]
        }
        return Plan(LinearHead(backbone.width, classes), grafts)

    def formula(self, shape: "Shape") -> int:
        each = (2 * block.width * self.hidden + self.hidden + block.width for block in shape.blocks)
        return len(POSITIONS[self.position]) * sum(each)

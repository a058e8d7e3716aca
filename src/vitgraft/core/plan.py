"""Plan: a method's wishes for one backbone and one task, as data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from vitgraft.core.backbone import Backbone, Edits, Features
from vitgraft.core.graft import Graft
from vitgraft.core.sites import Site, Tap


class Head(nn.Module):
    """(Features, Backbone) -> logits (B, C).

    `classifier` is the last linear layer; its values are counted apart, as every paper's table does.
    `reads_tokens` is False for a head that reads nothing but the pooled vector and taps.
    """

    classifier: nn.Linear
    reads_tokens: ClassVar[bool] = True

    def forward(self, features: Features, backbone: Backbone) -> Tensor:
        raise NotImplementedError

    def plain_classifier(self) -> tuple[Tensor, Tensor | None] | None:
        """Weight (C, D) and bias (C,) if this head is one linear layer on the pooled vector; else None."""
        return None


@dataclass(frozen=True)
class Plan:
    """What a method adds to a backbone: a head, grafts that edit, taps that read, parameters that train."""

    head: Head
    grafts: Mapping[Site, Sequence[Graft]] = field(default_factory=dict)
    taps: frozenset[Tap] = frozenset()
    unfreeze: frozenset[str] = frozenset()

    def frozen_depth(self, backbone: Backbone) -> int:
        """The number of leading blocks that no trained value reaches: 0 to L.

        Derived, never declared. That prefix runs without autograd and can be computed once.
        """
        values = {name: backbone.parameter(name) for name in self.unfreeze}
        first = backbone.first_trained(Edits(self.grafts, values))
        return min(max(first, 0), backbone.depth)

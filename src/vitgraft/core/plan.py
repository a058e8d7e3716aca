"""Plan: a method's wishes for one backbone and one task, as data."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor, nn

from vitgraft.core.backbone import Backbone, Edits, Features
from vitgraft.core.graft import Graft
from vitgraft.core.sites import Site, Tap


class Head(nn.Module):
    """(Features, Backbone) -> logits (B, C).

    `classifier` is the last linear layer; its values are counted apart, as every paper's table does.
    `reads` is all that it needs beside the plan's taps: every token after the final norm, the pooled vector, or
    nothing (taps). `stacks` says that several heads like it, with the same shapes and the frozen part in common,
    run as one under torch.func.vmap in fp32: it has no buffer that training changes.
    """

    classifier: nn.Linear
    reads: ClassVar[Literal["tokens", "pooled", "taps"]] = "tokens"
    stacks: ClassVar[bool] = False

    def forward(self, features: Features, backbone: Backbone) -> Tensor:
        raise NotImplementedError

    def plain_classifier(self) -> tuple[Tensor, Tensor | None] | None:
        """Weight (C, D) and bias (C,) if this head is one linear layer on the pooled vector; else None."""
        return None

    def penalty(self) -> Tensor | None:
        """What training adds to the mean loss, if anything: a scalar of the trained values alone."""
        return None


@dataclass(frozen=True)
class Prefix:
    """What no trained value reaches, as readings of the plain model: computed once, they stand in for images.

    `taps` are all of them. The walk goes on at block `start` (L: the tail) with the reading `stream`; where these
    are None, the head alone remains.
    """

    taps: frozenset[Tap]
    start: int | None = None
    stream: Tap | None = None


@dataclass(frozen=True)
class Plan:
    """What a method adds to a backbone: a head, grafts that edit, taps that read, parameters that train.

    `draw` chooses by a seed what of it takes part in a step of training; without one, all of it does.
    """

    head: Head
    grafts: Mapping[Site, Sequence[Graft]] = field(default_factory=dict)
    taps: frozenset[Tap] = frozenset()
    unfreeze: frozenset[str] = frozenset()
    draw: Callable[[int], None] | None = None

    def frozen_depth(self, backbone: Backbone) -> int:
        """The number of leading blocks that no trained value reaches: 0 to L.

        Derived, never declared. That prefix runs without autograd and can be computed once.
        """
        return min(max(self._first_trained(backbone), 0), backbone.depth)

    def prefix(self, backbone: Backbone) -> Prefix | None:
        """What can be computed once; None if a trained value reaches the first block already."""
        first, depth = self._first_trained(backbone), backbone.depth
        if first < 1:
            return None
        if first > depth and self.head.reads != "tokens":
            pooled = {Tap(depth, "pooled")} if self.head.reads == "pooled" else set()
            return Prefix(self.taps | pooled)
        start = min(first, depth)
        stream = Tap(start - 1, "out")
        return Prefix(frozenset(tap for tap in self.taps if tap.block < start) | {stream}, start, stream)

    def _first_trained(self, backbone: Backbone) -> int:
        values = {name: backbone.parameter(name) for name in self.unfreeze}
        return backbone.first_trained(Edits(self.grafts, values))

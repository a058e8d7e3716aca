"""The walk of one pre-norm transformer block, told in named places.

A library family takes part by subclassing `BlockView`: it names the parts of the library's block and owns no
tensors. The order of the parts, the residual stream and the edits stand here, once.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from vitgraft.core.graft import Graft
from vitgraft.core.lean import Before, RowEdit, edited_linears
from vitgraft.core.rows import Linear, Rows
from vitgraft.core.sites import JOINED, QKV, Site, Tap

Step = Callable[[Tensor], Tensor]

Part = Literal["block", "attention", "mlp"]

GROUPS = {"qkv": ("q", "k", "v"), "proj": ("proj",), "fc1": ("fc1",), "fc2": ("fc2",)}
"""Places that read the same input, by the name of their group: which is a place, too, where there are several."""


@dataclass
class Visitor:
    """What happens at the sites of one stage: grafts edit, taps read."""

    block: int
    grafts: Mapping[Site, Sequence[Graft]]
    taps: dict[str, list[Tap]]
    readings: dict[Tap, Tensor] = field(default_factory=dict)
    only: int | None = None
    """How many leading tokens are read after this block; None for all. The others end at its attention."""

    def __call__(self, place: str, x: Tensor, y: Tensor) -> Tensor:
        """y as the grafts of this place leave it, after the taps have read it."""
        for graft in self.grafts.get((self.block, place), ()):
            y = graft(x, y)
        for tap in self.taps.get(place, ()):
            self.readings[tap] = tap.reduce(y)
        return y

    def through(self, place: str, x: Tensor, step: Step) -> Tensor:
        """What the place gives for x, edited and read; `step` is not run if the first graft stands in for it."""
        grafts = self.grafts_at(place)
        assert not any(graft.stands_in for graft in grafts[1:]), "one that stands in would undo the others"
        return self(place, x, x if self.stands_in(place) else step(x))

    def stands_in(self, place: str) -> bool:
        """True if the first graft of a place does its whole work."""
        grafts = self.grafts_at(place)
        return bool(grafts) and grafts[0].stands_in

    def repeats(self, place: str) -> bool:
        """True if nothing reads this place, and what edits it may run twice."""
        return place not in self.taps and all(graft.repeatable for graft in self.grafts_at(place))

    def grafts_at(self, place: str) -> Sequence[Graft]:
        return self.grafts.get((self.block, place), ())


class StageView(nn.Module):
    """One stage of a model; its parameters may be lent others for the length of a call.

    `added_up` names those, among its own, that `StemView.added` adds up: tokens and positions.
    """

    added_up: frozenset[str] = frozenset()

    def own_parameters(self) -> dict[str, nn.Parameter]:
        """The stage's parameters by their names below this module."""
        return dict(self.named_parameters())


class BlockView(StageView, ABC):
    """The parts of one library block, and the walk through them.

    `norm1`, `norm2`, `scale1`, `scale2` (LayerScale or nothing) and `activate` map (B, N, .) to (B, N, .).
    """

    def enter(self, x: Tensor) -> Tensor:
        """What a block makes of the stream before its place `in`: mostly nothing, else fewer and wider tokens."""
        return x

    @abstractmethod
    def norm1(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def norm2(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def scale1(self, y: Tensor) -> Tensor: ...

    @abstractmethod
    def scale2(self, y: Tensor) -> Tensor: ...

    @abstractmethod
    def activate(self, y: Tensor) -> Tensor:
        """From fc1's output (B, N, .) to fc2's input (B, N, H)."""

    @property
    @abstractmethod
    def activates_by_value(self) -> bool:
        """True if `activate` is one operation on each value alone, and autograd keeps its input for it."""

    @abstractmethod
    def attend(self, q: Tensor, k: Tensor, v: Tensor, placed: bool = True) -> Tensor:
        """q (B, M, D), k and v (B, N, D) -> (B, M, D): M need not be N.

        k and v are the image's tokens, with prompts behind them if any. So are q, the first M of them, unless they
        are not `placed`: then they are queries that stand nowhere in the image, as its class token does.
        """

    @property
    @abstractmethod
    def heads(self) -> int:
        """How many attention heads."""

    @property
    @abstractmethod
    def absorbs(self) -> bool:
        """True if a query that is not placed has plain products of projections as its scores."""

    @abstractmethod
    def after_attention(self, a: Tensor) -> Tensor:
        """(B, M, D): what stands between the heads' joined outputs and `proj`, mostly nothing."""

    @abstractmethod
    def linears(self, group: str) -> tuple[Linear, ...]:
        """The library's modules that produce a group of `GROUPS`, in order; one or several a group."""

    @abstractmethod
    def split(self, group: str, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Outputs of `linears(group)` as one tensor a place of the group."""

    @abstractmethod
    def rows(self, place: str) -> tuple[Rows, ...]:
        """Where the values of a place stand: slices that, one after the other, make its output.

        Empty for a place that is no module of its own.
        """

    def projection(self, place: str) -> tuple[Tensor, Tensor | None]:
        """Weight (D_out, D_in) and bias (D_out,) of a linear place that is rows of one module."""
        (rows,) = self.rows(place)
        return rows.weight.part, None if rows.bias is None else rows.bias.part

    @abstractmethod
    def parts(self, place: str) -> tuple[nn.Module, ...]:
        """Every library module that `norm1`, `norm2` or `act` runs."""

    def forward(self, x: Tensor, at: Visitor, part: Part = "block", middle: Tensor | None = None) -> Any:
        """The stream (B, N, D) after this block.

        The part `attention` gives the block's input, edited, and `middle`, the stream before the mlp, both
        (B, N, D); the part `mlp` goes on from these two.
        """
        if part != "mlp":
            x, middle = self._attention(x, at)
        assert middle is not None, "an mlp needs its stream"
        return (x, middle) if part == "attention" else self._mlp(x, middle, at)

    def _attention(self, x: Tensor, at: Visitor) -> tuple[Tensor, Tensor]:
        x = self.enter(x)
        x = at("in", x, x)
        q, k, v = self._project("qkv", x, "norm1", self.norm1, at)
        x, q = x[:, : at.only], q[:, : at.only]
        (y,) = self._project("proj", self.attend(q, k, v), None, None, at)
        y = at("attn", x, self.scale1(y))
        return x, x + y

    def _mlp(self, x: Tensor, middle: Tensor, at: Visitor) -> Tensor:
        (y,) = self._project("fc1", middle, "norm2", self.norm2, at)
        (y,) = self._project("fc2", y, "act", self.activate, at)
        y = at("mlp", middle, self.scale2(y))
        return at("out", x, middle + y)

    def _project(
        self, group: str, x: Tensor, place: str | None, before: Step | None, at: Visitor
    ) -> tuple[Tensor, ...]:
        """The group's places on h = before(x), where h stands at `place`; all edited."""
        edits = self._row_edits(group, place, at)
        if edits:
            outputs = edited_linears(x, self._again(place, before, at), self.linears(group), edits)
            return self.split(group, outputs)
        h = x
        if before is not None and place is not None:
            h = at.through(place, x, before)
        joined = group == JOINED and (at.grafts_at(group) or group in at.taps)
        if at.stands_in(group):  # for all the linear maps of the group
            whole = at(group, h, h)
            if not joined:
                return (whole,)
            values = torch.split(whole, [sum(one.stop - one.start for one in self.rows(name)) for name in QKV], -1)
        else:
            values = self.split(group, tuple(linear(h) for linear in self.linears(group)))
            if joined:
                whole = at(group, h, torch.cat(values, dim=-1))
                values = torch.split(whole, [value.shape[-1] for value in values], dim=-1)
        return tuple(at(name, h, y) for name, y in zip(GROUPS[group], values, strict=True))

    def _again(self, place: str | None, before: Step | None, at: Visitor) -> Before | None:
        """The step at `place` with its grafts, as one that may run a second time."""
        if before is None or place is None:
            return None
        plain, grafts = before, at.grafts_at(place)
        if not grafts:
            return Before(plain, by_value=place == "act" and self.activates_by_value)
        trained = tuple(value for graft in grafts for value in graft.parameters())
        return Before(lambda x: at.through(place, x, plain), trained)

    def _row_edits(self, group: str, place: str | None, at: Visitor) -> list[RowEdit]:
        """The group's edits as changes of module rows; empty if that is not all there is to do.

        Also in a graph that torch.compile captures: what it keeps and what it computes again it decides itself,
        and an operation of our own would cut the graph at every block.
        """
        if (
            not torch.is_grad_enabled()
            or torch.compiler.is_compiling()
            or (place is not None and not at.repeats(place))
        ):
            return []
        linears = self.linears(group)
        found = []
        for name in dict.fromkeys((group, *GROUPS[group])):
            if name in at.taps:
                return []
            pieces = self.rows(name)
            for graft in at.grafts_at(name):
                edits = graft.weight_edits()
                if edits is None or len(pieces) != 1:
                    return []
                index = next(i for i, linear in enumerate(linears) if linear is pieces[0].module)
                found += [RowEdit(index, pieces[0].start, pieces[0].stop, edit) for edit in edits]
        parts = linears if place is None else (*linears, *self.parts(place))
        trained = any(value.requires_grad for part in parts for value in part.parameters())
        return [] if trained else found

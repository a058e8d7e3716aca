"""Linear maps with edits of their weights, trained without keeping what is cheap to compute again.

Autograd keeps the input of every weight that trains. For an edited projection that input is the output of a
normalisation or of an activation, whose own input is kept anyway: so only that is kept here, and the cheap step
runs once more in the backward pass; where it takes values one by one, for those columns alone that edits need. The
frozen weight itself asks for nothing, and no gradient of its size is formed for an edit of some of its entries.

Where arithmetic is exact enough, all edits are first added to a copy of the weight: one product then does the
work of several passes over the output. Products with a factor put its rank first, (r, B N), which is several
times faster on a CPU than (B N, r).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from vitgraft.core.edits import Columns, LowRankEdit, SparseEdit, WeightEdit, add_product, lines_of
from vitgraft.core.rows import Linear


@dataclass(frozen=True)
class RowEdit:
    """An edit of the output rows start:stop of linear number `module` of a group."""

    module: int
    start: int
    stop: int
    edit: WeightEdit

    def of(self, values: Sequence[Tensor]) -> Tensor:
        """The part (..., rows) of the group's outputs, or of their gradients, that it edits."""
        return values[self.module][..., self.start : self.stop]


@dataclass(frozen=True)
class Before:
    """The cheap step h = run(x) in front of a group, and the values that train in it. Nothing in it is random.

    `by_value` says that it trains nothing and is one operation on each value alone, for which autograd keeps x.
    """

    run: Callable[[Tensor], Tensor]
    trained: tuple[Tensor, ...] = ()
    by_value: bool = False


def edited_linears(
    x: Tensor, before: Before | None, linears: Sequence[Linear], edits: Sequence[RowEdit]
) -> tuple[Tensor, ...]:
    """The outputs of `linears`, with their edits, on h = before(x), or on x itself; x (B, N, D).

    Equal to running them one by one; the graph keeps x and the trained values, and neither h nor a weight. No
    linear may have trained values of its own. `edits` is not empty.
    """
    trained = [value for row in edits for value in row.edit.trained]
    group = _Group(before, tuple(linears), tuple(edits))
    outputs: tuple[Tensor, ...]
    if before is not None and before.by_value:
        outputs = _EditedLinears.apply(x.detach(), before.run(x), group, *trained)
    else:
        steps = () if before is None else before.trained
        outputs = _EditedLinears.apply(x, None, group, *trained, *steps)
    return outputs


def _multiplies_exactly() -> bool:
    """True if products of fp32 values are not allowed to round them, as TF32 does."""
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # it was set by torch's newer interface, which one does only to allow it
        return False


@dataclass(frozen=True)
class _Group:
    """Linears that read the same input h = before(x), and their edits."""

    before: Before | None
    linears: tuple[Linear, ...]
    edits: tuple[RowEdit, ...]

    def h(self, x: Tensor) -> Tensor:
        return x if self.before is None else self.before.run(x)

    def merges(self, dtype: torch.dtype, device: str, trained: Sequence[Tensor]) -> bool:
        """True if weight + edit can be formed without losing an edit far smaller than the weight.

        In half precision, or where a product of fp32 values is allowed to round them, it cannot.
        """
        if torch.is_autocast_enabled(device) or dtype not in (torch.float32, torch.float64):
            return False
        exact = dtype is torch.float64 or _multiplies_exactly()
        return exact and all(value.dtype is dtype for value in (*trained, *(each.weight for each in self.linears)))

    def merged(self, number: int) -> tuple[Tensor, Tensor | None]:
        """Weight (D_out, D_in) and bias of one linear with its edits: new tensors, unless there are none."""
        linear = self.linears[number]
        weight: Tensor = linear.weight
        bias: Tensor | None = linear.bias
        edits = [row for row in self.edits if row.module == number]
        if edits:
            weight = weight.clone(memory_format=torch.contiguous_format)
            bias = None if bias is None else bias.clone()
        for row in edits:
            part = slice(row.start, row.stop)
            row.edit.merge(weight[part], None if bias is None else bias[part])
        return weight, bias


class _Again:
    """What a group reads, computed once more from what was kept of it, when and as far as it is asked for."""

    def __init__(self, group: _Group, x: Tensor, wants_x: bool) -> None:
        self.group, self.x, self.wants_x = group, x, wants_x
        self._whole: tuple[Tensor, Tensor] | None = None

    def columns(self, lines: Tensor | None) -> Tensor:
        """The asked columns (B N, columns) of h, or all of them (B N, D_in)."""
        before = self.group.before
        if lines is not None and self._whole is None and before is not None and before.by_value:
            return before.run(lines_of(self.x, lines)).flatten(0, -2)
        return lines_of(self._both()[1].detach().flatten(0, -2), lines)

    def backward(self, dh: Tensor) -> list[Tensor | None]:
        """The gradients of x (None if it wants none) and of what trains in the step before, from that of h."""
        before = self.group.before
        if before is None:
            return [dh.view_as(self.x).to(self.x.dtype)]
        x, h = self._both()
        wanted = [x, *before.trained] if self.wants_x else list(before.trained)
        found = torch.autograd.grad(h, wanted, dh.view_as(h).to(h.dtype))
        return [*found] if self.wants_x else [None, *found]

    def _both(self) -> tuple[Tensor, Tensor]:
        """x and h, with a graph between them if gradients will go through it."""
        if self._whole is None:
            before = self.group.before
            with torch.set_grad_enabled(before is not None and not before.by_value):
                # A view, because module hooks such as a FLOP counter's cannot stand on a leaf in here.
                start = self.x.detach().requires_grad_(self.wants_x and before is not None).view_as(self.x)
                self._whole = start, self.group.h(start)
        return self._whole


class _EditedLinears(torch.autograd.Function):
    """x is kept. h is given where autograd itself goes back through the step before; else it is made of x."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, given: Tensor | None, group: _Group, *trained: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, *trained)
        ctx.group = group  # type: ignore[attr-defined]
        ctx.autocast = _autocast_state(x.device.type)  # type: ignore[attr-defined]
        h = group.h(x) if given is None else given
        merges = group.merges(h.dtype, h.device.type, trained)
        ctx.merges, ctx.form = merges, (h.shape, h.dtype)  # type: ignore[attr-defined]
        if merges:
            return tuple(F.linear(h, *group.merged(number)) for number in range(len(group.linears)))
        outputs = [linear(h) for linear in group.linears]
        for row in group.edits:
            row.edit.add(row.of(outputs), h)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x = ctx.saved_tensors[0]  # type: ignore[attr-defined]
        group: _Group = ctx.group  # type: ignore[attr-defined]
        wants_x, wants_h = ctx.needs_input_grad[:2]  # type: ignore[attr-defined]
        steps = () if group.before is None else group.before.trained
        again = _Again(group, x, wants_x)
        device, enabled, dtype = ctx.autocast  # type: ignore[attr-defined]
        with torch.autocast(device, dtype=dtype, enabled=enabled):
            flat = [grad.flatten(0, -2) for grad in grads]  # (B N, D_out) each
            low, trained_grads = _edit_grads(group, again.columns, flat)
            if not (wants_x or wants_h or steps):
                return None, None, None, *trained_grads
            dh = _input_grad(group, flat, low, ctx.merges)  # type: ignore[attr-defined]
        if wants_h:
            shape, kind = ctx.form  # type: ignore[attr-defined]
            return None, dh.view(shape).to(kind), None, *trained_grads
        dx, *step_grads = again.backward(dh)
        return dx, None, None, *trained_grads, *step_grads


def _edit_grads(group: _Group, columns: Columns, grads: Sequence[Tensor]) -> tuple[Tensor | None, list[Tensor]]:
    """What reaches the low-rank values, (R, B N) with R the sum of all ranks, and every trained value's gradient.

    grads (B N, D_out) are those of the outputs, `columns` gives the input h (B N, D_in).
    """
    dtype = grads[0].dtype

    def read(lines: Tensor | None) -> Tensor:
        return columns(lines).to(dtype)

    low, factor_grads = _low_rank_grads(group, read, grads)
    paired = iter(factor_grads)
    found: list[Tensor] = []
    for row in group.edits:
        if isinstance(row.edit, LowRankEdit):
            found += (next(paired), next(paired))
        else:
            found += row.edit.gradients(read, row.of(grads))
    return low, found


def _low_rank_grads(
    group: _Group, columns: Columns, grads: Sequence[Tensor]
) -> tuple[Tensor | None, list[Tensor]]:
    """As `_edit_grads`, of low-rank edits alone: they share the passes over h."""
    chosen = [(row, row.edit) for row in group.edits if isinstance(row.edit, LowRankEdit)]
    if not chosen:
        return None, []
    rows = columns(None)
    dtype = rows.dtype
    scaled = [edit.down * edit.scale for _, edit in chosen]
    ranks = [len(down) for down in scaled]
    lows = torch.split(torch.mm(torch.cat(scaled).to(dtype), rows.t()), ranks)  # (r, B N) each
    low_grads, up_grads = [], []
    for (row, edit), low in zip(chosen, lows, strict=True):
        grad = row.of(grads)
        low_grads.append(torch.mm((edit.up * edit.scale).t().to(dtype), grad.t()))
        up_grads.append(torch.mm(low, grad).t())
    stacked = torch.cat(low_grads)
    down_grads = torch.split(torch.mm(stacked, rows), ranks)
    paired = [grad for pair in zip(down_grads, up_grads, strict=True) for grad in pair]
    factors = [factor for _, edit in chosen for factor in edit.trained]
    return stacked, [grad.to(factor.dtype) for grad, factor in zip(paired, factors, strict=True)]


def _input_grad(group: _Group, grads: Sequence[Tensor], low_grads: Tensor | None, merges: bool) -> Tensor:
    """The gradient (B N, D_in) of h: through the merged weights, or through the plain ones and each edit."""
    dtype = grads[0].dtype
    numbers = range(len(group.linears))
    weights = [group.merged(number)[0] if merges else group.linears[number].weight for number in numbers]
    dh = torch.mm(grads[0], weights[0].to(dtype))
    for grad, weight in zip(grads[1:], weights[1:], strict=True):
        add_product(dh, grad, weight)
    if merges:
        return dh
    downs = [row.edit.down for row in group.edits if isinstance(row.edit, LowRankEdit)]
    if low_grads is not None:
        add_product(dh, low_grads.t(), torch.cat(downs))
    for row in group.edits:
        if isinstance(row.edit, SparseEdit):
            row.edit.add_transposed(dh, row.of(grads))
    return dh


def _autocast_state(device: str) -> tuple[str, bool, torch.dtype]:
    return device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

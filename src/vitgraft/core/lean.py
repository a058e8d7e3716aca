"""Linear maps with low-rank edits, trained without keeping what is cheap to compute again.

Autograd keeps the input of every weight that trains. For a low-rank edit of a projection that input is the
output of a normalisation or of an activation, whose own input is kept anyway: so only that is kept here, and
the cheap step runs once more in the backward pass. The frozen weight itself asks for nothing.

Where arithmetic is exact enough, an edit is first added to a copy of the weight: one product then does the
work of three passes over the output. Products with a factor put its rank first, (r, B N), which is several
times faster on a CPU than (B N, r).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from vitgraft.core.graft import LowRankEdit


@dataclass(frozen=True)
class RowEdit:
    """A low-rank edit of the output rows start:stop of linear number `module` of a group."""

    module: int
    start: int
    stop: int
    edit: LowRankEdit


Before = Callable[[Tensor], Tensor]


def edited_linears(
    x: Tensor, before: Before | None, linears: Sequence[nn.Linear], edits: Sequence[RowEdit]
) -> tuple[Tensor, ...]:
    """The outputs of `linears`, with their low-rank edits, on h = before(x); x (B, N, D).

    Equal to running them one by one; the graph keeps x and the factors, and neither h nor a weight.
    `before` must have no trained values and no randomness, and neither may a linear. `edits` is not empty.
    """
    factors = [factor for row in edits for factor in (row.edit.down, row.edit.up)]
    outputs: tuple[Tensor, ...] = _EditedLinears.apply(x, _Group(before, tuple(linears), tuple(edits)), *factors)
    return outputs


@dataclass(frozen=True)
class _Group:
    """Linears that read the same input h = before(x), and their edits."""

    before: Before | None
    linears: tuple[nn.Linear, ...]
    edits: tuple[RowEdit, ...]

    def edits_of(self, linear: int, factors: Sequence[Tensor]) -> Iterator[tuple[RowEdit, Tensor, Tensor]]:
        """The edits of one linear, with down (r, D_in) and up (D_out, r) out of `factors`."""
        for row, down, up in zip(self.edits, factors[::2], factors[1::2], strict=True):
            if row.module == linear:
                yield row, down, up

    def merges(self, dtype: torch.dtype, device: str, factors: Sequence[Tensor]) -> bool:
        """True if weight + edit can be formed without losing an edit far smaller than the weight.

        In half precision, or where a product of fp32 values is allowed to round them, it cannot.
        """
        if torch.is_autocast_enabled(device) or dtype not in (torch.float32, torch.float64):
            return False
        exact = dtype is torch.float64 or torch.get_float32_matmul_precision() == "highest"
        return exact and all(value.dtype is dtype for value in (*factors, *(each.weight for each in self.linears)))

    def weight(self, linear: int, factors: Sequence[Tensor]) -> Tensor:
        """Weight (D_out, D_in) of one linear with its edits added: a new tensor, unless there are none."""
        plain = self.linears[linear].weight
        merged = None
        for row, down, up in self.edits_of(linear, factors):
            merged = plain.clone() if merged is None else merged
            merged[row.start : row.stop].addmm_(up, down, alpha=row.edit.scale)
        return plain if merged is None else merged


class _EditedLinears(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, group: _Group, *factors: Tensor) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, *factors)
        ctx.group = group  # type: ignore[attr-defined]
        ctx.autocast = _autocast_state(x.device.type)  # type: ignore[attr-defined]
        h = x if group.before is None else group.before(x)
        merges = group.merges(h.dtype, h.device.type, factors)
        ctx.merges = merges  # type: ignore[attr-defined]
        outputs = []
        for number, linear in enumerate(group.linears):
            if merges:
                outputs.append(F.linear(h, group.weight(number, factors), linear.bias))
                continue
            out = linear(h)
            for row, down, up in group.edits_of(number, factors):
                low = F.linear(h, down) * row.edit.scale
                _add_product(out[..., row.start : row.stop], low, up.t())
            outputs.append(out)
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, *factors = ctx.saved_tensors  # type: ignore[attr-defined]
        group: _Group = ctx.group  # type: ignore[attr-defined]
        wants_x: bool = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
        device, enabled, dtype = ctx.autocast  # type: ignore[attr-defined]
        with torch.autocast(device, dtype=dtype, enabled=enabled):
            with torch.enable_grad():
                # A view, because module hooks such as a FLOP counter's cannot stand on a leaf in here.
                start = x.detach().requires_grad_(wants_x and group.before is not None).view_as(x)
                h = start if group.before is None else group.before(start)
            flat = [grad.flatten(0, -2) for grad in grads]  # (B N, D_out) each
            low_grads, factor_grads = _factor_grads(group, h.detach().flatten(0, -2), factors, flat)
            if not wants_x:
                return None, None, *factor_grads
            merges: bool = ctx.merges  # type: ignore[attr-defined]
            dh = _input_grad(group, factors, flat, None if merges else low_grads).view_as(h).to(h.dtype)
        dx = dh if group.before is None else torch.autograd.grad(h, start, dh)[0]
        return dx, None, *factor_grads


def _factor_grads(
    group: _Group, rows: Tensor, factors: Sequence[Tensor], grads: Sequence[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """What reaches the low-rank values, (R, B N) with R the sum of all ranks, and the factors' gradients.

    rows (B N, D_in) is the input h, grads (B N, D_out) those of the outputs.
    """
    dtype = grads[0].dtype
    rows = rows.to(dtype)
    downs, ups = factors[::2], factors[1::2]
    low_grads, up_grads = [], []
    scaled = [down * row.edit.scale for row, down in zip(group.edits, downs, strict=True)]
    ranks = [len(down) for down in downs]
    lows = torch.split(torch.mm(torch.cat(scaled).to(dtype), rows.t()), ranks)  # (r, B N) each
    for row, up, low in zip(group.edits, ups, lows, strict=True):
        grad = grads[row.module][:, row.start : row.stop]
        low_grads.append(torch.mm((up * row.edit.scale).t().to(dtype), grad.t()))
        up_grads.append(torch.mm(low, grad).t())
    stacked = torch.cat(low_grads)
    down_grads = torch.split(torch.mm(stacked, rows), ranks)
    paired = [grad for pair in zip(down_grads, up_grads, strict=True) for grad in pair]
    return stacked, [grad.to(factor.dtype) for grad, factor in zip(paired, factors, strict=True)]


def _input_grad(
    group: _Group, factors: Sequence[Tensor], grads: Sequence[Tensor], low_grads: Tensor | None
) -> Tensor:
    """The gradient (B N, D_in) of h: through the merged weights, or through the plain ones and `low_grads`."""
    dtype = grads[0].dtype
    weights = [
        linear.weight if low_grads is not None else group.weight(number, factors)
        for number, linear in enumerate(group.linears)
    ]
    dh = torch.mm(grads[0], weights[0].to(dtype))
    for grad, weight in zip(grads[1:], weights[1:], strict=True):
        _add_product(dh, grad, weight)
    if low_grads is not None:
        _add_product(dh, low_grads.t(), torch.cat(list(factors[::2])))
    return dh


def _add_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    """out += left @ right, in place and in out's dtype; out (..., n), left (..., k), right (k, n)."""
    target = out.flatten(0, -2) if out.is_contiguous() else out.view(-1, out.shape[-1])
    target.addmm_(left.reshape(-1, left.shape[-1]).to(out.dtype), right.to(out.dtype))


def _autocast_state(device: str) -> tuple[str, bool, torch.dtype]:
    return device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

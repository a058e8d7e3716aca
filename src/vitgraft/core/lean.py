"""Linear maps with low-rank edits, trained without keeping what is cheap to compute again.

Autograd keeps the input of every weight that trains. For a low-rank edit of a projection that input is the
output of a normalisation or of an activation, whose own input is kept anyway: so only that is kept here, and
the cheap step runs once more in the backward pass. The frozen weight itself asks for nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

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
    `before` must have no trained values and no randomness, and neither may a linear.
    """
    factors = [factor for row in edits for factor in (row.edit.down, row.edit.up)]
    outputs: tuple[Tensor, ...] = _EditedLinears.apply(x, before, tuple(linears), tuple(edits), *factors)
    return outputs


class _EditedLinears(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: FunctionCtx,
        x: Tensor,
        before: Before | None,
        linears: tuple[nn.Linear, ...],
        edits: tuple[RowEdit, ...],
        *factors: Tensor,
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(x, *factors)
        ctx.before, ctx.linears, ctx.edits = before, linears, edits  # type: ignore[attr-defined]
        ctx.autocast = _autocast_state(x.device.type)  # type: ignore[attr-defined]
        h = x if before is None else before(x)
        outputs = [linear(h) for linear in linears]
        for row, down, up in zip(edits, factors[::2], factors[1::2], strict=True):
            out = outputs[row.module]
            low = F.linear(h, down) * row.edit.scale
            _add_product(out[..., row.start : row.stop], low, up.t())
        return tuple(outputs)

    @staticmethod
    def backward(ctx: FunctionCtx, *grads: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, *factors = ctx.saved_tensors  # type: ignore[attr-defined]
        device, enabled, dtype = ctx.autocast  # type: ignore[attr-defined]
        with torch.autocast(device, dtype=dtype, enabled=enabled):
            return _backward(ctx, x, factors, grads)


def _backward(
    ctx: FunctionCtx, x: Tensor, factors: list[Tensor], grads: tuple[Tensor, ...]
) -> tuple[Tensor | None, ...]:
    before: Before | None = ctx.before  # type: ignore[attr-defined]
    wants_x = ctx.needs_input_grad[0]  # type: ignore[attr-defined]
    with torch.enable_grad():
        leaf = x.detach().requires_grad_(wants_x and before is not None)
        h = leaf if before is None else before(leaf)
    rows = h.detach().flatten(0, -2)  # (B N, D_in)
    flat = [grad.flatten(0, -2) for grad in grads]
    dh = None
    if wants_x:
        dh = torch.mm(flat[0], ctx.linears[0].weight.to(flat[0].dtype))  # type: ignore[attr-defined]
        for grad, linear in zip(flat[1:], ctx.linears[1:], strict=True):  # type: ignore[attr-defined]
            _add_product(dh, grad, linear.weight)
    factor_grads: list[Tensor | None] = []
    for row, down, up in zip(ctx.edits, factors[::2], factors[1::2], strict=True):  # type: ignore[attr-defined]
        grad = flat[row.module][:, row.start : row.stop]
        low_grad = torch.mm(grad, up.to(grad.dtype)) * row.edit.scale  # (B N, r)
        if dh is not None:
            _add_product(dh, low_grad, down)
        low = torch.mm(rows, down.t().to(rows.dtype)) * row.edit.scale
        factor_grads.append(torch.mm(low_grad.t().to(rows.dtype), rows).to(down.dtype))
        factor_grads.append(torch.mm(grad.t(), low.to(grad.dtype)).to(up.dtype))
    dx = None
    if dh is not None:
        dh = dh.view_as(h).to(h.dtype)
        dx = dh if before is None else torch.autograd.grad(h, leaf, dh)[0]
    return dx, None, None, None, *factor_grads


def _add_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    """out += left @ right, in place and in out's dtype; out (..., n), left (..., k), right (k, n)."""
    target = out.flatten(0, -2) if out.is_contiguous() else out.view(-1, out.shape[-1])
    target.addmm_(left.reshape(-1, left.shape[-1]).to(out.dtype), right.to(out.dtype))


def _autocast_state(device: str) -> tuple[str, bool, torch.dtype]:
    return device, torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)

"""Edits that are changes of a linear place's own weight and bias: what the lean operation can train.

Each kind knows how it is added to a copy of the weight, and how to what the plain weight produced; both are the
same edit. `h` (n, D_in) is what the place reads, `out` and `grad` (n, D_out) what it produced and its gradient.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

COPY = 300
"""What it costs to take a value out of a line of a matrix and put it back, in multiplications.

Measured on two cores: about 32 in fp32, where it hardly matters (1.27 and 1.28 of LoRA's step on ViT-B/16 with
300 and 32), and far more in bf16, where products are faster and copies slower (width 96: 413 and 552 ms a step).
"""

Columns = Callable[[Tensor | None], Tensor]
"""What the place reads, computed once more: the asked columns (n, columns) of h, or all of it for None."""


@dataclass(frozen=True)
class LowRankEdit:
    """An edit that is exactly y + scale * x downᵀ upᵀ; down (r, D_in), up (D_out, r)."""

    down: Tensor
    up: Tensor
    scale: float

    @property
    def trained(self) -> tuple[Tensor, ...]:
        return self.down, self.up

    def merge(self, weight: Tensor, bias: Tensor | None) -> None:
        weight.addmm_(self.up, self.down, alpha=self.scale)

    def add(self, out: Tensor, h: Tensor) -> None:
        add_product(out, F.linear(h, self.down) * self.scale, self.up.t())


@dataclass(frozen=True)
class Entries:
    """Chosen entries of a matrix (D_out, D_in), and a block of it that holds them all.

    `index` (k,) are their flat positions. The block is `rows` by `columns`, each None for all of them, and
    `inside` (k,) are the entries' flat positions in it. Sensitive entries share few columns: on a published
    selection for ViT-B/16 the blocks are 0.5% of their matrices, and so are the products with them.
    """

    index: Tensor
    shape: tuple[int, int]
    rows: Tensor | None = field(repr=False)
    columns: Tensor | None = field(repr=False)
    inside: Tensor = field(repr=False)

    @classmethod
    def of(cls, index: Tensor, shape: tuple[int, int]) -> Self:
        """The block with the cheapest product: lines are left out where that saves more than copying costs."""
        outputs, inputs = shape
        rows, row_of = torch.unique(index // inputs, return_inverse=True)
        columns, column_of = torch.unique(index % inputs, return_inverse=True)
        r, c = len(rows), len(columns)
        costs = {
            (some_rows, some_columns): (r if some_rows else outputs) * (c if some_columns else inputs)
            + COPY * (r * some_rows + c * some_columns)
            for some_rows in (False, True)
            for some_columns in (False, True)
        }
        some_rows, some_columns = min(costs, key=lambda choice: costs[choice])
        width = c if some_columns else inputs
        inside = (row_of if some_rows else index // inputs) * width
        inside = inside + (column_of if some_columns else index % inputs)
        return cls(index, shape, rows if some_rows else None, columns if some_columns else None, inside)

    @property
    def block(self) -> tuple[int, int]:
        """How many rows and columns the block has."""
        outputs, inputs = self.shape
        return (
            outputs if self.rows is None else len(self.rows),
            inputs if self.columns is None else len(self.columns),
        )

    def scatter(self, values: Tensor) -> Tensor:
        """The block (rows, columns) with values (k,) at the entries and 0 elsewhere."""
        rows, columns = self.block
        return values.new_zeros(rows * columns).index_copy(0, self.inside, values).view(rows, columns)

    def gather(self, h: Columns, grad: Tensor) -> Tensor:
        """The entries (k,) of gradᵀ h, the weight's gradient; nothing outside of the block is computed."""
        left, right = lines_of(grad, self.rows), h(self.columns)
        rows, columns = self.block
        product = torch.mm(left.t(), right) if rows <= columns else torch.mm(right.t(), left).t()
        return product.reshape(-1)[self.inside]

    def product(self, x: Tensor, block: Tensor) -> Tensor:
        """x (..., D_in) times the block's transpose, (..., rows)."""
        return F.linear(lines_of(x, self.columns), block)

    def spread(self, y: Tensor, part: Tensor) -> Tensor:
        """y (..., D_out) with part (..., rows) added: a new tensor."""
        return y + part if self.rows is None else y.index_add(-1, self.rows, part.to(y.dtype))


def lines_of(x: Tensor, lines: Tensor | None) -> Tensor:
    """The chosen values (..., lines) of x's last dimension, or all of them."""
    return x if lines is None else x.index_select(-1, lines)


@dataclass(frozen=True)
class SparseEdit:
    """An edit that adds values (k,) to the chosen entries of the weight."""

    entries: Entries
    values: Tensor

    @property
    def trained(self) -> tuple[Tensor, ...]:
        return (self.values,)

    def merge(self, weight: Tensor, bias: Tensor | None) -> None:
        weight.view(-1).index_add_(0, self.entries.index, self.values)

    def add(self, out: Tensor, h: Tensor) -> None:
        part = self.entries.product(h, self.entries.scatter(self.values).to(h.dtype)).to(out.dtype)
        _add_lines(out, self.entries.rows, part)

    def add_transposed(self, dh: Tensor, grad: Tensor) -> None:
        """dh += grad Δ: what reaches the input through this edit alone."""
        block = self.entries.scatter(self.values).to(grad.dtype)
        _add_lines(dh, self.entries.columns, torch.mm(lines_of(grad, self.entries.rows), block).to(dh.dtype))

    def gradients(self, h: Columns, grad: Tensor) -> tuple[Tensor, ...]:
        return (self.entries.gather(h, grad).to(self.values.dtype),)


def _add_lines(out: Tensor, lines: Tensor | None, part: Tensor) -> None:
    if lines is None:
        out.add_(part)
    else:
        out.index_add_(-1, lines, part)


@dataclass(frozen=True)
class ShiftEdit:
    """An edit that adds values (m,) to the bias: at `index` (m,), or to all of it if that is None."""

    index: Tensor | None
    values: Tensor

    @property
    def trained(self) -> tuple[Tensor, ...]:
        return (self.values,)

    def merge(self, weight: Tensor, bias: Tensor | None) -> None:
        assert bias is not None, "only a bias that is there can be chosen"
        _add_lines(bias, self.index, self.values.to(bias.dtype))

    def add(self, out: Tensor, h: Tensor) -> None:
        shift = torch.zeros(out.shape[-1], dtype=out.dtype, device=out.device)
        _add_lines(shift, self.index, self.values.to(out.dtype))
        out.add_(shift)

    def gradients(self, h: Columns, grad: Tensor) -> tuple[Tensor, ...]:
        return (lines_of(grad.sum(0), self.index).to(self.values.dtype),)


WeightEdit = LowRankEdit | SparseEdit | ShiftEdit


def add_product(out: Tensor, left: Tensor, right: Tensor) -> None:
    """out += left @ right, in place and in out's dtype; out (..., n), left (..., k), right (k, n)."""
    target = out.flatten(0, -2) if out.is_contiguous() else out.view(-1, out.shape[-1])
    target.addmm_(left.reshape(-1, left.shape[-1]).to(out.dtype), right.to(out.dtype))

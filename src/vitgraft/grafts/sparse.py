"""Sparse edits of a place's own values: SPT's unstructured tuning and its whole vectors (He et al., 2023).

Only the chosen values are trained, each as its distance δ from the frozen one: k values, k gradients, k entries
of an optimizer's state. Positions are no part of a graft's state, since whoever plans one knows them.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from vitgraft.core.edits import Entries, ShiftEdit, SparseEdit, WeightEdit
from vitgraft.core.graft import Graft


class _Vector(nn.Module):
    """δ at chosen positions of a vector (D,), zero at first."""

    def __init__(self, positions: Tensor, size: int) -> None:
        super().__init__()
        self.size = size
        self.values = nn.Parameter(torch.zeros(len(positions)))
        whole = len(positions) == size
        self.register_buffer("index", None if whole else positions, persistent=False)
        self.index: Tensor | None

    def dense(self) -> Tensor:
        """δ with 0 wherever nothing is chosen, (D,)."""
        return self.on(self.values.new_zeros(self.size))

    def on(self, plain: Tensor) -> Tensor:
        """A vector (D,) with δ added."""
        values = self.values.to(plain.dtype)
        return plain + values if self.index is None else plain.index_add(0, self.index, values)


class SparseDelta(Graft):
    """y + x Δᵀ + δ at a linear place: Δ (D_out, D_in) is zero but at k chosen entries, δ (D_out,) but at m.

    `weight` are flat positions of (D_out, D_in) and `bias` positions of (D_out,), ascending, either None for none.
    """

    per_token = True

    def __init__(self, shape: tuple[int, int], weight: Tensor | None = None, bias: Tensor | None = None) -> None:
        super().__init__()
        self.shape = shape
        self.register_buffer("index", weight, persistent=False)
        self.index: Tensor | None
        self.values = None if weight is None else nn.Parameter(torch.zeros(len(weight)))
        self.bias = None if bias is None else _Vector(bias, shape[0])
        self._place()

    def _place(self) -> None:
        """Find out where the chosen entries stand, on the device of their values; on none, nothing is known."""
        known = self.index is not None and not self.index.is_meta
        self.entries = Entries.of(self.index, self.shape) if self.index is not None and known else None

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "SparseDelta":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.index is not None and (self.entries is None or self.entries.index.device != self.index.device):
            self._place()
        return self

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        entries = self.entries
        if entries is not None and self.values is not None:
            y = entries.spread(y, entries.product(x, entries.scatter(self.values)))
        return y if self.bias is None else y + self.bias.dense()

    def weight_edits(self) -> tuple[WeightEdit, ...]:
        found: list[WeightEdit] = []
        entries = self.entries
        if entries is not None and self.values is not None:
            found.append(SparseEdit(entries, self.values))
        if self.bias is not None:
            found.append(ShiftEdit(self.bias.index, self.bias.values))
        return tuple(found)

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.index is not None and self.values is not None:
            weight = weight.flatten().index_add(0, self.index, self.values.to(weight.dtype)).view_as(weight)
        if self.bias is not None and bias is not None:
            bias = self.bias.on(bias)
        return weight, bias


class NormDelta(Graft):
    """The normalisation with values of its own at chosen positions of its scale and shift.

    `norm` is the library's module, which stays as it is; `scale` and `shift` are positions, None for none.
    """

    per_token = True
    repeatable = True
    stands_in = True

    def __init__(self, norm: nn.Module, scale: Tensor | None = None, shift: Tensor | None = None) -> None:
        super().__init__()
        self._shared = (norm,)
        width = len(norm.get_parameter("weight"))
        self.scale = None if scale is None else _Vector(scale, width)
        self.shift = None if shift is None else _Vector(shift, width)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        (norm,) = self._shared
        chosen = {"weight": self.scale, "bias": self.shift}
        # In the graft's own type, which is not the norm's where the model was moved to another one.
        kind = next(self.parameters()).dtype
        values = {name: value.to(kind) for name, value in norm.named_parameters()}
        values |= {name: one.on(values[name]) for name, one in chosen.items() if one is not None}
        edited: Tensor = functional_call(norm, values, (x,))
        return edited

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.scale is not None:
            weight = self.scale.on(weight)
        if self.shift is not None and bias is not None:
            bias = self.shift.on(bias)
        return weight, bias

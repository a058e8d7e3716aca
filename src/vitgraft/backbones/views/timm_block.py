"""The pre-norm block as timm's families spell it: norm1, attn, norm2, mlp; what they do not share is left open."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vitgraft.backbones.views.parts import Projections, activate, activates_by_value, first_linears
from vitgraft.core.block import BlockView
from vitgraft.core.rows import Linear, Rows, rows_of
from vitgraft.core.sites import JOINED, QKV


class TimmBlock(BlockView):
    """A block with `norm1`, `attn`, `norm2` and `mlp`. Families add layer scales, attention and projections."""

    block: Any  # torch types every attribute of a module as "tensor or module"

    def __init__(self, block: nn.Module, projections: Projections) -> None:
        super().__init__()
        self.block = block
        self.projections = projections

    def norm1(self, x: Tensor) -> Tensor:
        return self.block.norm1(x)

    def norm2(self, x: Tensor) -> Tensor:
        return self.block.norm2(x)

    def activate(self, y: Tensor) -> Tensor:
        return activate(self.block.mlp, y)

    @property
    def activates_by_value(self) -> bool:
        return activates_by_value(self.block.mlp)

    @property
    def heads(self) -> int:
        return self.block.attn.num_heads

    def linears(self, group: str) -> tuple[Linear, ...]:
        if group == JOINED:
            return self.projections.linears
        mlp = self.block.mlp
        return first_linears(mlp) if group == "fc1" else ({"proj": self.block.attn.proj, "fc2": mlp.fc2}[group],)

    def split(self, group: str, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        if group == JOINED:
            return self.projections.split(outputs)
        return (outputs[0] if len(outputs) == 1 else torch.cat(tuple(outputs), dim=-1),)

    def rows(self, place: str) -> tuple[Rows, ...]:
        if place in (JOINED, *QKV):
            return self.projections.rows(place)
        if place == "proj":
            return rows_of(self.block.attn.proj)
        if place in ("fc1", "fc2"):
            mlp = self.block.mlp
            return tuple(
                rows
                for linear in (first_linears(mlp) if place == "fc1" else (mlp.fc2,))
                for rows in rows_of(linear)
            )
        return rows_of(self.parts(place)[0]) if place in ("norm1", "norm2") else ()

    def parts(self, place: str) -> tuple[nn.Module, ...]:
        block = self.block
        return {"norm1": (block.norm1,), "norm2": (block.norm2,), "act": (block.mlp.act, block.mlp.norm)}[place]

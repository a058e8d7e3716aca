"""The pre-norm block of transformers' vision models, whatever each family calls its parts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vitgraft.backbones.views.parts import Separate, by_head, together
from vitgraft.core.attention import attention
from vitgraft.core.block import BlockView
from vitgraft.core.rows import Linear, Rows, rows_of
from vitgraft.core.sites import JOINED, QKV

SPELLINGS: dict[str, tuple[str, ...]] = {
    "norm1": ("layernorm_before", "norm1", "layer_norm1"),
    "norm2": ("layernorm_after", "norm2", "layer_norm2"),
    "attention": ("attention", "self_attn"),
}
"""What families call a part of a block. Each block has one of them."""

OUT = ("o_proj", "out_proj")
PROJECTIONS = ("q_proj", "k_proj", "v_proj")
PLAIN = (("fc1",), "fc2", "activation_fn")
GATED = (("gate_proj", "up_proj"), "down_proj", "act_fn")
UNGATED = (("up_proj",), "down_proj", "act_fn")
"""An mlp's first linear maps, its second one, and its activation; the first that it has all of is meant."""

GELUS = ("GELUActivation", "GELUTanh", "NewGELUActivation")
"""transformers' modules that are torch's GELU, one operation on each value alone."""


@dataclass(frozen=True)
class Parts:
    """The modules of one block; `first` are one linear map, or a gate's and the values'."""

    norm1: nn.Module
    norm2: nn.Module
    projections: Separate
    out: Linear
    first: tuple[Linear, ...]
    second: Linear
    act: nn.Module
    scales: tuple[Callable[[Tensor], Tensor] | None, Callable[[Tensor], Tensor] | None]
    heads: int


def parts_of(block: Any) -> Parts | None:
    """The parts of a block, or None where it has others than are known."""
    found = {part: _one(block, names) for part, names in SPELLINGS.items()}
    attn, mlp = found["attention"], getattr(block, "mlp", None)
    kind = next((kind for kind in (PLAIN, GATED, UNGATED) if _has(mlp, (*kind[0], *kind[1:]))), None)
    out = None if attn is None else _one(attn, OUT)
    if None in found.values() or kind is None or out is None or not _has(attn, PROJECTIONS):
        return None
    heads = getattr(attn, "num_heads", None) or attn.num_attention_heads
    return Parts(
        norm1=found["norm1"],
        norm2=found["norm2"],
        projections=Separate(*(getattr(attn, name) for name in PROJECTIONS)),
        out=out,
        first=tuple(getattr(mlp, name) for name in kind[0]),
        second=getattr(mlp, kind[1]),
        act=getattr(mlp, kind[2]),
        scales=(getattr(block, "layer_scale1", None), getattr(block, "layer_scale2", None)),
        heads=heads,
    )


def _one(module: Any, names: Sequence[str]) -> Any:
    return next((getattr(module, name) for name in names if hasattr(module, name)), None)


def _has(module: Any, names: Sequence[str]) -> bool:
    return module is not None and all(hasattr(module, name) for name in names)


class HfBlock(BlockView):
    """A layer of transformers; `turn` rotates (B, heads, M, d) by places in the image, if its family does that."""

    block: Any

    def __init__(self, block: nn.Module, turn: Callable[[Tensor], Tensor] | None) -> None:
        super().__init__()
        parts = parts_of(block)
        assert parts is not None, "it was looked at before"
        self.block = block
        self.own, self.turn = parts, turn

    def norm1(self, x: Tensor) -> Tensor:
        return self.own.norm1(x)

    def norm2(self, x: Tensor) -> Tensor:
        return self.own.norm2(x)

    def scale1(self, y: Tensor) -> Tensor:
        return y if self.own.scales[0] is None else self.own.scales[0](y)

    def scale2(self, y: Tensor) -> Tensor:
        return y if self.own.scales[1] is None else self.own.scales[1](y)

    def activate(self, y: Tensor) -> Tensor:
        if len(self.own.first) == 1:
            return self.own.act(y)
        gate, value = y.chunk(2, dim=-1)
        return self.own.act(gate) * value

    @property
    def activates_by_value(self) -> bool:
        return len(self.own.first) == 1 and type(self.own.act).__name__ in GELUS

    def attend(self, q: Tensor, k: Tensor, v: Tensor, placed: bool = True) -> Tensor:
        q, k, v = (by_head(part, self.own.heads) for part in (q, k, v))
        if self.turn is not None:
            k = self.turn(k)
            q = self.turn(q) if placed else q
        return together(attention(q, k, v))

    @property
    def heads(self) -> int:
        return self.own.heads

    @property
    def absorbs(self) -> bool:
        return self.turn is None

    def after_attention(self, a: Tensor) -> Tensor:
        return a

    def linears(self, group: str) -> tuple[Linear, ...]:
        own = self.own
        groups: dict[str, tuple[Linear, ...]] = {"proj": (own.out,), "fc1": own.first, "fc2": (own.second,)}
        return groups.get(group, own.projections.linears)

    def split(self, group: str, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(outputs) if group == JOINED or len(outputs) == 1 else (torch.cat(tuple(outputs), dim=-1),)

    def rows(self, place: str) -> tuple[Rows, ...]:
        own = self.own
        if place in (JOINED, *QKV):
            return own.projections.rows(place)
        modules: dict[str, tuple[Any, ...]] = {"proj": (own.out,), "fc1": own.first, "fc2": (own.second,)}
        modules |= {"norm1": (own.norm1,), "norm2": (own.norm2,)}
        return tuple(rows for module in modules.get(place, ()) for rows in rows_of(module))

    def parts(self, place: str) -> tuple[nn.Module, ...]:
        return {"norm1": (self.own.norm1,), "norm2": (self.own.norm2,), "act": (self.own.act,)}[place]

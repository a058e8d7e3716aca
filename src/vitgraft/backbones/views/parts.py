"""What the views of several families have in common."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from timm.layers import GELU, GELUTanh, GluMlp, Mlp, SwiGLU
from torch import Tensor, nn

from vitgraft.core.block import StageView
from vitgraft.core.rows import Linear, Rows, Values, rows_of
from vitgraft.core.sites import JOINED, QKV

MLPS = (Mlp, GluMlp, SwiGLU)
"""timm's, but for those with convolutions."""

GELUS = (nn.GELU, GELU, GELUTanh)


class Projections(Protocol):
    """The linear maps that give q, k and v, whatever number of modules they are."""

    @property
    def linears(self) -> tuple[Linear, ...]: ...

    def rows(self, place: str) -> tuple[Rows, ...]:
        """Those of q, k, v, or of all three (`qkv`)."""

    def split(self, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """q, k and v of the outputs of `linears`."""


class Fused:
    """One linear map that gives q, k and v at once."""

    def __init__(self, qkv: nn.Linear) -> None:
        self.linears = (qkv,)

    def rows(self, place: str) -> tuple[Rows, ...]:
        (qkv,) = self.linears
        return rows_of(qkv, *thirds(qkv.out_features, place))

    def split(self, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(outputs[0].unflatten(-1, (3, -1)).unbind(-2))


class Separate:
    """A linear map each."""

    def __init__(self, q: nn.Linear, k: nn.Linear, v: nn.Linear) -> None:
        self.linears = (q, k, v)

    def rows(self, place: str) -> tuple[Rows, ...]:
        chosen = self.linears if place == JOINED else (self.linears[QKV.index(place)],)
        return tuple(rows for linear in chosen for rows in rows_of(linear))

    def split(self, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(outputs)


class BiasApart:
    """timm's fused q, k and v whose module has no bias, as EVA and BEiT have them: q's and v's stand beside it.

    k's is a zero that no file keeps. PEFT's LoRA on such a module is never called: the library reads its weight.
    """

    def __init__(self, attn: Any) -> None:
        self._attn = attn

    @property
    def linears(self) -> tuple[Linear, ...]:
        return (self,)

    @property
    def weight(self) -> Tensor:
        whole: Tensor = self._attn.qkv.weight
        return whole

    @property
    def bias(self) -> Tensor:
        return torch.cat((self._attn.q_bias, self._attn.k_bias, self._attn.v_bias))

    def __call__(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def parameters(self) -> Iterator[nn.Parameter]:
        yield from (self._attn.qkv.weight, self._attn.q_bias, self._attn.v_bias)

    def split(self, outputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        return tuple(outputs[0].unflatten(-1, (3, -1)).unbind(-2))

    def rows(self, place: str) -> tuple[Rows, ...]:
        qkv = self._attn.qkv
        start, stop = thirds(qkv.out_features, place)
        own = {"q": "q_bias", "v": "v_bias"}.get(place)
        bias = None if own is None else Values(self._attn, own, 0, stop - start)
        return (Rows(self, start, stop, Values(qkv, "weight", start, stop), bias),)


def thirds(outputs: int, place: str) -> tuple[int, int]:
    """First row of a place in fused q, k and v of so many outputs, and the one behind its last."""
    if place == JOINED:
        return 0, outputs
    start = QKV.index(place) * outputs // len(QKV)
    return start, start + outputs // len(QKV)


def activate(mlp: Any, y: Tensor) -> Tensor:
    """From the first linear map's output (B, N, .) to the second one's input (B, N, H), in one of `MLPS`."""
    if isinstance(mlp, SwiGLU):
        gate, value = y.chunk(2, dim=-1)
        found: Tensor = mlp.norm(mlp.act(gate) * value)
    elif isinstance(mlp, GluMlp):
        first, second = y.chunk(2, dim=-1)
        found = mlp.norm(first * mlp.act(second) if mlp.gate_last else mlp.act(first) * second)
    else:
        found = mlp.norm(mlp.act(y))
    return found


def activates_by_value(mlp: Any) -> bool:
    """True if that is one operation on each value alone, and autograd keeps its input for it."""
    return type(mlp) is Mlp and type(mlp.act) in GELUS and isinstance(mlp.norm, nn.Identity)


def first_linears(mlp: Any) -> tuple[nn.Linear, ...]:
    """The modules of the place `fc1` in one of `MLPS`."""
    return (mlp.fc1_g, mlp.fc1_x) if isinstance(mlp, SwiGLU) else (mlp.fc1,)


def by_head(x: Tensor, heads: int) -> Tensor:
    """(B, N, A) as (B, heads, N, d)."""
    parts: Tensor = x.unflatten(-1, (heads, -1)).transpose(1, 2)
    return parts


def together(x: Tensor) -> Tensor:
    """(B, heads, N, d) as (B, N, A)."""
    return x.transpose(1, 2).flatten(2)


class ModelStage(StageView):
    """A stage that runs some modules of the whole model, and single parameters: tokens and positions."""

    model: Any

    def __init__(self, model: nn.Module, parts: Sequence[nn.Module | nn.Parameter | None]) -> None:
        super().__init__()
        self.model = model
        modules = [part for part in parts if isinstance(part, nn.Module)]
        own = {id(value) for module in modules for value in module.parameters()}
        single = {id(part) for part in parts if isinstance(part, nn.Parameter)}
        # By name, for a copy of this view has other parameters.
        self._own = {name for name, value in self.named_parameters() if id(value) in own | single}
        self.added_up = frozenset(name for name, value in self.named_parameters() if id(value) in single)

    def own_parameters(self) -> dict[str, nn.Parameter]:
        return {name: value for name, value in self.named_parameters() if name in self._own}


def unknown_mlp(mlp: Any) -> str | None:
    """What is to be said of an mlp that is none of `MLPS`."""
    known = type(mlp) in MLPS and isinstance(mlp.fc2, nn.Linear)
    return None if known else f"with {type(mlp).__name__} as its mlp"

"""A place as a layer of PEFT makes it: the library's module with PEFT's adapter around it."""

import copy
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from vitgraft.core.graft import Graft
from vitgraft.errors import NotFoldable


class Adapted(Graft):
    """layer(x), in which PEFT has wrapped the library's module; that stays shared, and is no value of this one's.

    Adapter values that PEFT itself does not train are buffers. In another floating-point type than the library's
    module the layer has a copy of that of its own.
    """

    per_token = True
    stands_in = True

    def __init__(self, layer: nn.Module, base: nn.Module) -> None:
        super().__init__()
        self._shared = (base,)
        layer._modules.pop("base_layer")
        layer.__dict__["base_layer"] = base
        for module in layer.modules():
            for name, value in list(module.named_parameters(recurse=False)):
                if not value.requires_grad:
                    delattr(module, name)
                    module.register_buffer(name, value.detach())
        self.layer = layer

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if self.training and isinstance(x, FakeTensor):  # where costs are counted, nothing can be drawn
            self.layer.eval()
            try:
                made: Tensor = self.layer(x)
            finally:
                self.layer.train()
            return made
        made = self.layer(x)
        return made

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "Adapted":
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        (base,) = self._shared
        kind = next(self.parameters()).dtype
        same = next(base.parameters()).dtype is kind
        self.layer.__dict__["base_layer"] = base if same else copy.deepcopy(base).to(kind)
        return self

    def fold(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        layer: Any = copy.deepcopy(self.layer)
        base = layer.base_layer
        base.weight = nn.Parameter(weight.detach().clone(), requires_grad=False)
        base.bias = None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)
        try:
            layer.merge(safe_merge=True)
        except (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
            raise NotFoldable(f"PEFT's {type(self.layer).__name__} does not merge there ({error})") from None
        whole = layer.get_base_layer()
        return whole.weight.detach(), None if whole.bias is None else whole.bias.detach()

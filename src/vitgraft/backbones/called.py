"""Whether a library's own forward pass calls a module, or reads its weight and never asks it."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from vitgraft.core.backbone import Backbone


def never_called(backbone: Backbone, names: Iterable[str]) -> list[str]:
    """Those of the backbone's modules that its library's pass does not call, on a blank picture.

    What stands in the place of such a module, or listens to it by a hook, is never heard: timm's BEiT and EVA-02
    compute with `qkv.weight` and call no `qkv`.
    """
    view, heard = backbone.view, set()

    def listener(name: str) -> Any:
        return lambda *_: heard.add(name)

    wanted = list(names)
    hooks = [view.model.get_submodule(name).register_forward_hook(listener(name)) for name in wanted]
    try:
        with torch.no_grad():
            size = (1, view.channels, *view.image_size)
            view.library_pass(torch.zeros(size, device=backbone.device, dtype=backbone.dtype))
    finally:
        for hook in hooks:
            hook.remove()
    return [name for name in wanted if name not in heard]


def owner(model: nn.Module, name: str) -> str:
    """What kind of module holds the module `name`."""
    return type(model.get_submodule(name.rpartition(".")[0])).__name__

"""Which models have a view, and how a library's model object becomes a backbone."""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from vitgraft.backbones.views.hf_families import FAMILIES, inner
from vitgraft.backbones.views.hf_model import HfModel
from vitgraft.backbones.views.timm_beit import TimmBeit
from vitgraft.backbones.views.timm_eva import TimmEva
from vitgraft.backbones.views.timm_swin import TimmSwin
from vitgraft.backbones.views.timm_vit import TimmViT
from vitgraft.core.backbone import Backbone
from vitgraft.core.model_view import ModelView
from vitgraft.errors import BackboneError

TIMM: tuple[Any, ...] = (TimmViT, TimmEva, TimmBeit, TimmSwin)
"""Views of timm's families. Each names its `models` and says what one of these `lacks` to be walked through."""


def wrap(
    model: nn.Module,
    name: str,
    config: dict[str, object] | None = None,
    image_size: tuple[int, int] | None = None,
    global_pool: str | None = None,
) -> Backbone:
    """A Backbone over a library's model, which itself stays as it is; the two share their weights.

    A model of transformers takes `image_size` (height, width) and a pooling; timm's are built for theirs.

    Raises:
        BackboneError: the model's class, or a part of its blocks, has no view.
    """
    view: Callable[..., ModelView] | None = next((one for one in TIMM if type(model) in one.models), None)
    if view is None and inner(model) is not None:
        view = partial(HfModel, pooling=global_pool, image_size=image_size)
        lacks = HfModel.lacks(model)
    else:
        lacks = "model" if view is None else view.lacks(model)  # type: ignore[attr-defined]
    if view is None or lacks:
        raise BackboneError(
            f"{name} is a {type(model).__name__} {lacks}, which vitgraft has no view of. Supported are timm's "
            f"{listed()} with pre-norm blocks (ViT, DeiT, DINO to DINOv3, MAE, CLIP, SigLIP, EVA-02, BEiT, Swin "
            f"and their like) and transformers' {', '.join(FAMILIES)}; `vitgraft backbones` lists well-known ones."
        )
    return Backbone(view(_share_storage(model)), name, config)


def viewed(model: nn.Module) -> bool:
    """True if there is a view of the model's class."""
    return any(type(model) in one.models for one in TIMM)


def listed() -> str:
    """The classes that have a view, for a sentence."""
    names = [kind.__name__ for one in TIMM for kind in one.models]
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _share_storage(model: nn.Module) -> nn.Module:
    """A copy of `model` that shares its tensors but not its modes, hooks or `requires_grad`."""
    memo: dict[int, object] = {
        id(value): nn.Parameter(value.detach(), requires_grad=False) for value in model.parameters()
    }
    memo.update({id(value): value.detach() for value in model.buffers()})
    return copy.deepcopy(model, memo)

"""vitgraft: cheap fine-tuning of vision transformers.

    model = vitgraft.graft("vit_base_patch16_224.augreg_in21k", "lora", classes=10)
    vitgraft.fit(model, train, val)
    model.save("runs/mine")
    model = vitgraft.load("runs/mine")
    plain = model.merge()

Names are looked up when they are first used, so that `import vitgraft` costs nothing.
"""

from importlib import import_module, metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Backbone": "vitgraft.core.backbone",
    "Bundle": "vitgraft.models.bundle",
    "Model": "vitgraft.models.model",
    "Training": "vitgraft.train.settings",
    "VitgraftError": "vitgraft.errors",
    "auto": "vitgraft.selection.auto",
    "export": "vitgraft.models.programs.export",
    "fit": "vitgraft.models.training",
    "graft": "vitgraft.models.model",
    "load": "vitgraft.models.model",
    "load_backbone": "vitgraft.backbones.loading",
    "load_task": "vitgraft.data.source",
}

if TYPE_CHECKING:
    from vitgraft import results as results
    from vitgraft.backbones.loading import load_backbone as load_backbone
    from vitgraft.core.backbone import Backbone as Backbone
    from vitgraft.data.source import load_task as load_task
    from vitgraft.errors import VitgraftError as VitgraftError
    from vitgraft.models.bundle import Bundle as Bundle
    from vitgraft.models.model import Model as Model
    from vitgraft.models.model import graft as graft
    from vitgraft.models.model import load as load
    from vitgraft.models.programs.export import export as export
    from vitgraft.models.training import fit as fit
    from vitgraft.selection.auto import auto as auto
    from vitgraft.train.settings import Training as Training

__all__ = [
    "Backbone",
    "Bundle",
    "Model",
    "Training",
    "VitgraftError",
    "auto",
    "export",
    "fit",
    "graft",
    "load",
    "load_backbone",
    "load_task",
]


def __dir__() -> list[str]:
    """What completion offers: the public names, reading records, and every method's class."""
    return sorted([*__all__, "results", *_methods()])


def _methods() -> dict[str, Any]:
    registry = import_module("vitgraft.methods.registry")
    return {kind.__name__: kind for kind in map(registry.method_named, registry.names())}


def __getattr__(name: str) -> Any:
    """Public names, rooms, and every method's class (`vitgraft.LoRA`), found where they live."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "__version__":
        return metadata.version("vitgraft")
    if name[:1].islower() and find_spec(f"vitgraft.{name}") is not None:  # a room, such as vitgraft.results
        return import_module(f"vitgraft.{name}")
    if name[:1].isupper():
        kinds = _methods()
        if name in kinds:
            return kinds[name]
    raise AttributeError(f"module 'vitgraft' has no attribute {name!r}")

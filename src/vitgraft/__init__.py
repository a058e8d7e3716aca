"""vitgraft: cheap fine-tuning of vision transformers.

    model = vitgraft.graft("vit_base_patch16_224.augreg_in21k", "lora", classes=10)
    vitgraft.fit(model, train, val)
    model.save("runs/mine")
    model = vitgraft.load("runs/mine")
    plain = model.merge()

Names are looked up when they are first used, so that `import vitgraft` costs nothing.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Backbone": "vitgraft.core.backbone",
    "Bundle": "vitgraft.bundle",
    "Model": "vitgraft.model",
    "Training": "vitgraft.train.settings",
    "fit": "vitgraft.model",
    "graft": "vitgraft.model",
    "load": "vitgraft.model",
    "load_backbone": "vitgraft.model",
    "load_task": "vitgraft.data.source",
}

if TYPE_CHECKING:
    from vitgraft.bundle import Bundle as Bundle
    from vitgraft.core.backbone import Backbone as Backbone
    from vitgraft.data.source import load as load_task
    from vitgraft.model import Model as Model
    from vitgraft.model import fit as fit
    from vitgraft.model import graft as graft
    from vitgraft.model import load as load
    from vitgraft.model import load_backbone as load_backbone
    from vitgraft.train.settings import Training as Training

__all__ = ["Backbone", "Bundle", "Model", "Training", "fit", "graft", "load", "load_backbone", "load_task"]


def __getattr__(name: str) -> Any:
    """Public names, and every method's class (`vitgraft.LoRA`), found where they live."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), "load" if name == "load_task" else name)
    if name == "__version__":
        return metadata.version("vitgraft")
    if name[:1].isupper():
        registry = import_module("vitgraft.methods.registry")
        kinds = {kind.__name__: kind for kind in map(registry.method_named, registry.names())}
        if name in kinds:
            return kinds[name]
    raise AttributeError(f"module 'vitgraft' has no attribute {name!r}")

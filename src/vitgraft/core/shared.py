"""Several tasks on one backbone: one walk over the union of what their heads read."""

from collections.abc import Sequence

from torch import Tensor

from vitgraft.core.tuned import Tuned
from vitgraft.errors import ConfigError


def answers(models: Sequence[Tuned], images: Tensor) -> list[Tensor]:
    """Logits (B, C_i) of each model for the same preprocessed images (B, 3, height, width), without autograd in
    the backbone.

    What no trained value reaches is walked once for all; a model that edits the first block walks by itself.

    Raises:
        ConfigError: the models do not share one backbone.
    """
    backbone = models[0].backbone
    if any(model.backbone is not backbone for model in models):
        raise ConfigError(
            "These models stand on different backbones, which cannot share a pass. Load them on one: "
            "vitgraft.load(folder, backbone=first.backbone)."
        )
    taps = frozenset(tap for model in models if model.prefix is not None for tap in model.prefix.taps)
    readings = backbone.read(images.to(backbone.dtype), taps) if taps else {}
    return [
        model(images if model.prefix is None else {tap: readings[tap] for tap in model.prefix.taps})
        for model in models
    ]

"""A backbone for what does not depend on its weights: cost and speed. Nothing is downloaded."""

from vitgraft.backbones.loading import random_backbone
from vitgraft.core.backbone import Backbone

WEIGHTS = "random weights, on which none of these numbers depend"


def bare(name: str, image_size: str | None = None) -> Backbone:
    """A backbone by its name, with random weights, drawn from a fixed seed.

    Raises:
        BackboneError: an unknown name or size, or a model without a view.
    """
    return random_backbone(name, image_size)

"""A backbone for what does not depend on its weights: cost and speed. Nothing is downloaded."""

from vitgraft.backbones.create import create_model
from vitgraft.backbones.families import wrap
from vitgraft.core.backbone import Backbone

WEIGHTS = "random weights, on which none of these numbers depend"


def bare(name: str, image_size: str | None = None) -> Backbone:
    """A backbone by its name, with random weights, drawn from a fixed seed.

    Raises:
        BackboneError: an unknown name or size, or a model without a view.
    """
    return wrap(create_model(name, pretrained=False, image_size=image_size)[0], name)

"""What a program computes, from pixels to probabilities, and what is told beside it."""

import copy
import json
import math
from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from vitgraft.core.merge import settled
from vitgraft.core.tuned import Tuned
from vitgraft.data.preprocessing import Preprocessing
from vitgraft.errors import ConfigError, NotFoldable, unknown
from vitgraft.methods import spec_of
from vitgraft.models.model import Model
from vitgraft.results.provenance import versions
from vitgraft.train.targets import CLASSES, Target
from vitgraft.train.targets.numbers import Numbers

Pixels = Literal["uint8", "unit", "normalised"]
"""What a program takes: whole numbers 0 to 255, fp32 from 0 to 1, or fp32 that is normalised already."""

PIXELS: tuple[Pixels, ...] = get_args(Pixels)
INPUT, OUTPUTS = "images", ("logits", "probabilities")
OF_NUMBERS = ("deviations", "numbers")
"""The outputs of a model that predicts numbers: as it was trained, and in the user's units."""

FITTED = {
    "crop": "scaled to cover {0} x {1} pixels, of which the centre {2} x {3} is kept",
    "stretch": "scaled to {0} x {1} pixels whatever their shape, of which the centre {2} x {3} is kept",
    "pad": "scaled to lie within {0} x {1} pixels and filled up with the mean colour, of which the centre {2} x "
    "{3} is kept",
}
"""How pictures of another shape are made fit, by `Preprocessing.mode`."""


class Served(nn.Module):
    """Images (B, channels, H, W) of the right size -> logits (B, C) and probabilities (B, C), both fp32.

    Of a model of numbers these are deviations and numbers.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: nn.Module,
        preprocessing: Preprocessing,
        pixels: Pixels,
        divisor: float = 1.0,
        target: Target = CLASSES,
    ) -> None:
        super().__init__()
        self.model = model
        self.pixels = pixels
        self.divisor = divisor
        self.says = _says(target)
        self.outputs = outputs_of(target)
        self.register_buffer("mean", torch.tensor(preprocessing.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocessing.std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if self.pixels != "normalised":
            scaled = images.to(torch.float32) / 255 if self.pixels == "uint8" else images
            images = (scaled - self.mean) / self.std
        found = self.model(images)
        logits: Tensor = found if isinstance(found, Tensor) else found.logits  # transformers' models say more
        return logits, self.says(logits / self.divisor)


class _Units(nn.Module):
    """Deviations (B, K) as numbers in the user's units."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean.float())
        self.register_buffer("scale", scale.float())

    def forward(self, outputs: Tensor) -> Tensor:
        return outputs * self.scale + self.mean


def _says(target: Target) -> nn.Module:
    """From outputs (B, C) to what is said of pictures."""
    if isinstance(target, Numbers):
        return _Units(*target.units)
    return nn.Softmax(1) if target.kind == CLASSES.kind else nn.Sigmoid()


def outputs_of(target: Target) -> tuple[str, str]:
    """What a program's outputs are called."""
    return OF_NUMBERS if isinstance(target, Numbers) else OUTPUTS


def served(model: Model, pixels: Pixels) -> tuple[Served, str | None]:
    """A model as a program, merged where that is possible, and else why it is not; on the CPU, in fp32.

    Raises:
        ConfigError: no such kind of pixels.
    """
    if pixels not in PIXELS:
        raise ConfigError(unknown("kind of pixels", str(pixels), PIXELS))
    why = None
    try:
        inner = model.merge()
    except NotFoldable as error:
        inner, why = _settled(model.tuned), str(error)
    backbone = model.backbone
    if backbone.device.type != "cpu" or backbone.dtype is not torch.float32:
        inner = copy.deepcopy(inner).to("cpu", torch.float32)
    return Served(inner, model.preprocessing, pixels, model.divisor, model.target).eval(), why


def _settled(tuned: Tuned) -> Tuned:
    """The same model, with what stands in for the backbone's own values written into a copy of that."""
    values, _ = settled(tuned.backbone, tuned.edits())
    if not values:
        return tuned
    twin = copy.deepcopy(tuned)
    _, rest = settled(twin.backbone, twin.edits())
    with torch.no_grad():
        for name, value in values.items():
            twin.backbone.model.get_parameter(name).copy_(value)
    return Tuned(twin.backbone, replace(twin.plan, grafts=rest.grafts, unfreeze=frozenset()))


def example(model: Model, pixels: Pixels, count: int) -> Tensor:
    """Seeded noise (count, channels, H, W) as a program takes it."""
    generator = torch.Generator().manual_seed(count)
    shape = (count, len(model.preprocessing.mean), *model.preprocessing.size)
    if pixels == "uint8":
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    return torch.rand(shape, generator=generator) if pixels == "unit" else torch.randn(shape, generator=generator)


def facts(model: Model, pixels: Pixels) -> dict[str, str]:
    """What travels with a program, each a JSON text: classes, preprocessing, what goes in and out, and whence."""
    own = model.preprocessing
    height, width = own.size
    shape = ["batch", len(own.mean), height, width]
    values = {
        "uint8": "RGB, 0 to 255: the program scales and normalises them",
        "unit": "RGB, 0 to 1: the program normalises them",
        "normalised": "RGB, 0 to 1, minus `mean`, divided by `std` of the preprocessing",
    }
    found: dict[str, Any] = {
        "class_names": list(model.class_names),
        "preprocessing": own.to_json(),
        "input": {
            "name": INPUT,
            "type": "uint8" if pixels == "uint8" else "float32",
            "shape": shape,
            "values": values[pixels],
            "resize": fitted(own),
        },
        "outputs": {name: ["batch", len(model.class_names)] for name in outputs_of(model.target)},
        "target": model.target.to_json(),
        "temperature": model.divisor,
        "method": spec_of(model.method),
        "backbone": {"name": model.backbone.name, "fingerprint": model.backbone.fingerprint()},
        "versions": versions(),
    }
    return {name: json.dumps(value) for name, value in found.items()}


def fitted(own: Preprocessing) -> str:
    """What must be done to pictures of another size before a program can take them, in words."""
    whole = [math.floor(side / own.crop) for side in own.size]
    return f"{own.interpolation}, {FITTED[own.mode].format(*whole, *own.size)}"

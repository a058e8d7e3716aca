"""Where the places of a backbone stand in a model that PEFT adapts: the library's own, or one of transformers."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from vitgraft.backbones.transformers_names import place_of
from vitgraft.core.backbone import Backbone
from vitgraft.core.sites import JOINED, LINEAR_PLACES, QKV, Site
from vitgraft.errors import ArtefactError


@dataclass(frozen=True)
class Slot:
    """Output rows start:stop of the linear map `name` (outputs, inputs) of some model."""

    name: str
    start: int
    stop: int
    outputs: int
    inputs: int


@dataclass(frozen=True)
class Names:
    """The slots of each linear place, one after the other, and the modules that are a model's classifier."""

    slots: Mapping[Site, tuple[Slot, ...]]
    heads: tuple[str, ...]

    def site_of(self, name: str) -> Site | None:
        """The place that a linear map is, as a whole."""
        for site, slots in self.slots.items():
            if len(slots) == 1 and slots[0].name == name and slots[0].stop - slots[0].start == slots[0].outputs:
                return site
        return None


def names_of(backbone: Backbone) -> Names:
    """The library model's own names."""
    paths = {id(module): path for path, module in backbone.model.named_modules()}
    slots: dict[Site, tuple[Slot, ...]] = {}
    for block in range(backbone.depth):
        for place in (*LINEAR_PLACES, JOINED):
            rows = backbone.rows((block, place))
            linears = [one for part in rows if isinstance(one := part.weight.module, nn.Linear)]
            if linears and len(linears) == len(rows):
                slots[block, place] = tuple(
                    Slot(
                        paths[id(linear)],
                        part.weight.start,
                        part.weight.stop,
                        linear.out_features,
                        linear.in_features,
                    )
                    for part, linear in zip(rows, linears, strict=True)
                )
    return Names(slots, _classifiers(backbone))


def _classifiers(backbone: Backbone) -> tuple[str, ...]:
    """Modules that are new in a copy, which shares all values, that gets a classifier."""
    memo: dict[int, object] = {
        id(value): nn.Parameter(value.detach(), requires_grad=False) for value in backbone.model.parameters()
    }
    own = set(backbone.parameter_names())
    some = torch.zeros(2, backbone.width)
    twin = backbone.view.with_head(copy.deepcopy(backbone.model, memo), some, some[:, 0])
    new = [name for name, _ in twin.named_parameters() if name not in own]
    return tuple(dict.fromkeys(name.rpartition(".")[0] for name in new))


def names_in(model: nn.Module, classes: int) -> Names:
    """The names in a transformers model of images, whose classifier has `classes` outputs.

    Raises:
        ArtefactError: no such model, or no such classifier.
    """
    slots: dict[Site, tuple[Slot, ...]] = {}
    heads: list[str] = []
    for path, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        site = place_of(path)
        if site is not None:
            slots[site] = (Slot(path, 0, module.out_features, module.out_features, module.in_features),)
        elif module.out_features == classes:
            heads.append(path)
    for block in {block for block, _ in slots}:
        if all((block, place) in slots for place in QKV):
            slots[block, JOINED] = tuple(slots[block, place][0] for place in QKV)
    if not slots or len(heads) != 1:
        raise ArtefactError(
            f"{type(model).__name__} has {len({block for block, _ in slots})} blocks that vitgraft knows and "
            f"{len(heads)} classifiers of {classes} classes. Give a transformers model for image classification, "
            f"such as ViTForImageClassification, made with num_labels={classes}."
        )
    return Names(slots, tuple(heads))

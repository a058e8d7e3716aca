"""Where the places of a backbone stand in a model that PEFT adapts: the library's own, or one of transformers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from vitgraft.backbones.injected import shared_copy
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
    """The slots of each linear place, one after the other, and the values of a model's classifier, by name.

    `kind` is the model's class. `own` has the names in the backbone's model, where they may be others.
    """

    slots: Mapping[Site, tuple[Slot, ...]]
    heads: Mapping[str, Tensor]
    kind: type[nn.Module]
    own: Mapping[str, str] = field(default_factory=dict)

    def site_of(self, name: str) -> Site | None:
        """The place that a linear map is, as a whole."""
        for site, slots in self.slots.items():
            if len(slots) == 1 and slots[0].name == name and slots[0].stop - slots[0].start == slots[0].outputs:
                return site
        return None


def names_of(backbone: Backbone, weight: Tensor, bias: Tensor | None) -> Names:
    """The names in the library's plain model with a classifier: weight (C, D), bias (C,).

    Raises:
        NotFoldable: the library has no such classifier.
    """
    paths = {id(module): path for path, module in backbone.model.named_modules()}
    twin = backbone.view.with_head(shared_copy(backbone.model), weight, bias)  # it shares all other values
    theirs = {one.weight.data_ptr(): path for path, one in twin.named_modules() if isinstance(one, nn.Linear)}
    slots: dict[Site, tuple[Slot, ...]] = {}
    own: dict[str, str] = {}
    for block in range(backbone.depth):
        for place in (*LINEAR_PLACES, JOINED):
            values = [part.weight for part in backbone.rows((block, place))]
            linears = [one for part in values if isinstance(one := part.module, nn.Linear)]
            if not linears or len(linears) < len(values):
                continue
            names = [theirs[linear.weight.data_ptr()] for linear in linears]
            own |= {name: paths[id(linear)] for name, linear in zip(names, linears, strict=True)}
            slots[block, place] = tuple(
                Slot(name, part.start, part.stop, linear.out_features, linear.in_features)
                for name, part, linear in zip(names, values, linears, strict=True)
            )
    known = {value.data_ptr() for value in backbone.model.parameters()}
    heads = {name: one.detach() for name, one in twin.named_parameters() if one.data_ptr() not in known}
    return Names(slots, heads, type(twin), own)


def names_in(model: nn.Module, weight: Tensor, bias: Tensor | None) -> Names:
    """The names in a transformers model of images, whose classifier is to be this one.

    Raises:
        ArtefactError: no such model, or no such classifier.
    """
    slots: dict[Site, tuple[Slot, ...]] = {}
    heads: list[str] = []
    classes = len(weight)
    for path, module in model.named_modules():
        if not isinstance(module, nn.Linear):
            continue
        site = place_of(path)
        if site is not None:
            slots[site] = (Slot(path, 0, module.out_features, module.out_features, module.in_features),)
        elif (module.out_features, module.in_features) == tuple(weight.shape):
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
    values = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    return Names(slots, {f"{heads[0]}.{leaf}": one.detach() for leaf, one in values.items()}, type(model))

"""Merging: a plan's edits written into a copy of the plain model."""

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from vitgraft.core.backbone import Backbone, Edits
from vitgraft.core.graft import Graft
from vitgraft.core.plan import Head
from vitgraft.core.rows import Values
from vitgraft.core.sites import Site
from vitgraft.errors import NotFoldable


def merged(backbone: Backbone, edits: Edits, head: Head) -> nn.Module:
    """A copy of the backbone's model with the edits in its weights and the head as its classifier.

    Everything is folded before anything is copied. Raises NotFoldable.
    """
    classifier = head.plain_classifier()
    if classifier is None:
        raise NotFoldable(
            f"The head is a {type(head).__name__}, which a plain model's one linear classifier cannot express. "
            "Keep the graft as it is: `save` and `load` need no merge."
        )
    folded = _Folded(backbone, edits)
    with torch.no_grad():
        for site, grafts in edits.grafts.items():
            _fold_site(backbone, site, grafts, folded)
    weight, bias = classifier
    model = copy.deepcopy(backbone.model)
    with torch.no_grad():
        for name, value in folded.values.items():
            model.get_parameter(name).copy_(value)
        return backbone.view.with_head(model, weight.detach(), None if bias is None else bias.detach())


def settled(backbone: Backbone, edits: Edits) -> tuple[dict[str, Tensor], Edits]:
    """Values that stand in for the backbone's own, by name, and the edits that must run beside them.

    Folded are values that are trained, and grafts that do a place's whole work, where a plain weight can say that.
    """
    folded = _Folded(backbone, edits)
    rest: dict[Site, Sequence[Graft]] = {}
    with torch.no_grad():
        for site, grafts in edits.grafts.items():
            try:
                if not grafts[0].stands_in:
                    raise NotFoldable("it works on what the place gives")
                _fold_site(backbone, site, grafts, folded)
            except NotFoldable:
                rest[site] = grafts
    return folded.values, Edits(rest)


class _Folded:
    """Parameters by their names, as they stand after what has been folded so far."""

    def __init__(self, backbone: Backbone, edits: Edits) -> None:
        self.values = {name: value.detach() for name, value in edits.values.items()}
        self._paths: dict[int, str] = {id(module): path for path, module in backbone.model.named_modules()}

    def path(self, where: Values) -> str:
        """Of the module."""
        return self._paths[id(where.module)]

    def name(self, where: Values) -> str:
        return f"{self.path(where)}.{where.name}".removeprefix(".")

    def read(self, where: Values) -> Tensor:
        """(rows, D_in) of a matrix, whatever the shape of a row, or (rows,) of a vector."""
        part = self.values.get(self.name(where), where.whole.detach())[where.start : where.stop]
        return part.flatten(1) if part.dim() > 1 else part

    def write(self, where: Values, value: Tensor) -> None:
        whole = self.values.get(self.name(where), where.whole.detach()).clone()
        part = whole[where.start : where.stop]
        part.copy_(value.view_as(part))
        self.values[self.name(where)] = whole


def _fold_site(backbone: Backbone, site: Site, grafts: Iterable[Graft], folded: _Folded) -> None:
    block, place = site
    rows = backbone.rows(site)
    biases = [one.bias for one in rows if one.bias is not None]
    whole = len(biases) == len(rows)
    for graft in grafts:
        if not rows:
            raise NotFoldable(
                f"{type(graft).__name__} at block {block}, place {place!r} cannot be merged: that place is no "
                "weight of the model. Keep the graft as it is: `save` and `load` need no merge."
            )
        try:
            weight, bias = graft.fold(
                torch.cat([folded.read(one.weight) for one in rows]),
                torch.cat([folded.read(one) for one in biases]) if whole else None,
            )
        except NotFoldable as error:
            raise NotFoldable(f"Block {block}, place {place!r} cannot be merged: {error}.") from None
        if bias is not None and not whole:
            raise NotFoldable(
                f"Block {block}, place {place!r} cannot be merged: {type(graft).__name__} needs a bias there, and "
                f"{folded.path(rows[0].weight)} has none. Keep the graft as it is: `save` and `load` need no "
                "merge."
            )
        sizes = [len(one) for one in rows]
        for one, part in zip(rows, weight.split(sizes), strict=True):
            folded.write(one.weight, part)
        if bias is not None:
            for where, part in zip(biases, bias.split(sizes), strict=True):
                folded.write(where, part)

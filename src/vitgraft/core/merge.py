"""Merging: a plan's edits written into a copy of the plain model."""

import copy
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vitgraft.core.backbone import Backbone, Edits
from vitgraft.core.block import Rows
from vitgraft.core.graft import Graft
from vitgraft.core.plan import Head
from vitgraft.core.sites import Site
from vitgraft.errors import NotFoldable

Folded = dict[str, Tensor]


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
    values: Folded = {name: value.detach() for name, value in edits.values.items()}
    paths = {id(module): path for path, module in backbone.model.named_modules()}
    with torch.no_grad():
        for site, grafts in edits.grafts.items():
            _fold_site(backbone, site, grafts, paths, values)
    weight, bias = classifier
    model = copy.deepcopy(backbone.model)
    with torch.no_grad():
        for name, value in values.items():
            model.get_parameter(name).copy_(value)
        return backbone.view.with_head(model, weight.detach(), None if bias is None else bias.detach())


def _fold_site(
    backbone: Backbone, site: Site, grafts: Iterable[Graft], paths: dict[int, str], values: Folded
) -> None:
    block, place = site
    rows = backbone.rows(site)
    for graft in grafts:
        if not rows:
            raise NotFoldable(
                f"{type(graft).__name__} at block {block}, place {place!r} cannot be merged: that place is no "
                "weight of the model. Keep the graft as it is: `save` and `load` need no merge."
            )
        pieces = [_Piece(part, paths[id(part.module)], values) for part in rows]
        biases = [piece.bias for piece in pieces if piece.bias is not None]
        try:
            weight, bias = graft.fold(
                torch.cat([piece.weight for piece in pieces]), torch.cat(biases) if biases else None
            )
        except NotFoldable as error:
            raise NotFoldable(f"Block {block}, place {place!r} cannot be merged: {error}.") from None
        if bias is not None and len(biases) < len(pieces):
            raise NotFoldable(
                f"Block {block}, place {place!r} cannot be merged: {type(graft).__name__} needs a bias there, and "
                f"{pieces[0].path} has none."
            )
        start = 0
        for piece in pieces:
            stop = start + len(piece.weight)
            piece.write(weight[start:stop], None if bias is None else bias[start:stop], values)
            start = stop


class _Piece:
    """The rows of one module, as they stand after what has been folded so far."""

    def __init__(self, rows: Rows, path: str, values: Folded) -> None:
        self.path = path
        self._span = slice(rows.start, rows.stop)
        self._whole = {
            name: values.get(f"{path}.{name}", own).detach().clone()
            for name in ("weight", "bias")
            if (own := getattr(rows.module, name, None)) is not None
        }
        whole = self._whole["weight"]
        self._matrix = whole.flatten(1) if whole.dim() > 1 else whole

    @property
    def weight(self) -> Tensor:
        """(rows, D_in), or (rows,) of a normalisation."""
        part: Tensor = self._matrix[self._span]
        return part

    @property
    def bias(self) -> Tensor | None:
        whole = self._whole.get("bias")
        return None if whole is None else whole[self._span]

    def write(self, weight: Tensor, bias: Tensor | None, values: Folded) -> None:
        self._matrix[self._span] = weight
        values[f"{self.path}.weight"] = self._matrix.view_as(self._whole["weight"])
        if bias is not None:
            self._whole["bias"][self._span] = bias
            values[f"{self.path}.bias"] = self._whole["bias"]

"""A narrow block as a submatrix of a wide one: LST's initialisation by structural pruning (Sung et al., 2022).

Layers are walked in order. Of each weight the rows of highest importance are kept, and the columns that match the
rows kept before it; biases and normalisations follow the current set. Queries, keys and values share one set, so
that scores keep their meaning; whether the residual stream keeps its meaning is not asked, as published.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from vitgraft.core.backbone import Backbone
from vitgraft.core.block import GROUPS, BlockView
from vitgraft.core.rows import Rows, inputs_of, outputs_of
from vitgraft.core.sites import LINEAR_PLACES, STEM
from vitgraft.heads.ladder import WIDENING, LadderHead, SideBlock

Importance = Callable[[str, Tensor], Tensor]
"""From a parameter's name in the library model and its value to the importance of each of its entries."""


def magnitude(name: str, value: Tensor) -> Tensor:
    """|W|, the importance that published runs call L1."""
    return value.abs()


def fisher(squared_gradients: Mapping[str, Tensor]) -> Importance:
    """Sums of squared single-sample gradients, by the parameter's name."""
    return lambda name, value: squared_gradients[name]


def prunable(backbone: Backbone) -> bool:
    """True if every block has plain layers: one linear map a place, and an mlp without gates."""
    blocks = backbone.view.blocks
    single = all(len(view.rows(place)) == 1 for view in blocks for place in LINEAR_PLACES)
    return single and all(outputs_of(view.rows("fc1")) == inputs_of(view.rows("fc2")) for view in blocks)


@torch.no_grad()
def kept_rows(backbone: Backbone, width: int, importance: Importance = magnitude) -> dict[str, Tensor]:
    """The rows of a backbone's places that a side network of `width` values a token keeps, by `_name`.

    They are ascending indices within their place. The backbone's blocks must be `prunable`.
    """
    names = {id(value): name for name, value in backbone.model.named_parameters()}

    def weigh(weight: Tensor) -> Tensor:
        return importance(names[id(weight)], weight).flatten(1)

    kept = _top(weigh(backbone.rows((STEM, "patch"))[0].weight.whole).sum(1), width)
    found = {_name(STEM, "patch"): kept}
    for block, view in enumerate(backbone.view.blocks):
        rows = [view.rows(place)[0] for place in ("q", "k", "v")]
        scores = [weigh(part.weight.whole)[part.start : part.stop, kept].sum(1) for part in rows]
        # By the product of the three; in logarithms, so that it does not vanish.
        tiny = torch.finfo(scores[0].dtype).tiny
        kept = _top(torch.stack([score.clamp_min(tiny).log() for score in scores]).sum(0), width)
        found[_name(block, "qkv")] = kept
        for place, count in (("proj", width), ("fc1", WIDENING * width), ("fc2", width)):
            kept = _top(weigh(_rows(view, place).weight.whole)[:, kept].sum(1), count)
            found[_name(block, place)] = kept
    return found


@torch.no_grad()
def prune_into(head: LadderHead, backbone: Backbone, rows: Mapping[str, Tensor]) -> None:
    """Fill the side blocks of `head` with the submatrices of the backbone's blocks that `kept_rows` chose.

    A bias or scale that the backbone does not have stays as it is.
    """
    kept = rows[_name(STEM, "patch")]
    for block, (view, side) in enumerate(zip(backbone.view.blocks, head.blocks, strict=True)):
        assert isinstance(side, SideBlock)
        inner, middle, hidden, out = (rows[_name(block, group)] for group in GROUPS)
        _copy_norm(side.norm1, view, "norm1", kept)
        for place, linear in (("q", side.q), ("k", side.k), ("v", side.v)):
            _copy(linear, _rows(view, place), inner, kept)
        _copy(side.proj, _rows(view, "proj"), middle, inner)
        _copy_norm(side.norm2, view, "norm2", middle)
        _copy(side.fc1, _rows(view, "fc1"), hidden, middle)
        _copy(side.fc2, _rows(view, "fc2"), out, hidden)
        kept = out


def _name(block: int, group: str) -> str:
    return f"{block}:{group}"


def _rows(view: BlockView, place: str) -> Rows:
    (rows,) = view.rows(place)
    return rows


def _top(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest scores, ascending."""
    return scores.topk(count).indices.sort().values


def _copy(target: nn.Linear, source: Rows, rows: Tensor, columns: Tensor) -> None:
    target.weight.copy_(source.weight.part[rows][:, columns])
    if source.bias is not None:
        target.bias.copy_(source.bias.part[rows])


def _copy_norm(target: nn.LayerNorm, view: BlockView, place: str, kept: Tensor) -> None:
    for part in view.rows(place):
        for name, value in part.module.named_parameters():
            target.get_parameter(name).copy_(value[kept])

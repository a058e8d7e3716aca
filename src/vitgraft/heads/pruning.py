"""A narrow block as a submatrix of a wide one: LST's initialisation by structural pruning (Sung et al., 2022).

Layers are walked in order. Of each weight the rows of highest importance are kept, and the columns that match the
rows kept before it; biases and normalisations follow the current set. Queries, keys and values share one set, so
that scores keep their meaning; whether the residual stream keeps its meaning is not asked, as published.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from vitgraft.core.backbone import Backbone
from vitgraft.core.block import BlockView
from vitgraft.core.sites import LINEAR_PLACES, STEM
from vitgraft.heads.ladder import LadderHead, SideBlock

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
    return single and all(_linear(view, "fc1").out_features == _linear(view, "fc2").in_features for view in blocks)


@torch.no_grad()
def prune_into(head: LadderHead, backbone: Backbone, importance: Importance = magnitude) -> None:
    """Fill the side blocks of `head` with submatrices of the backbone's blocks, which must be `prunable`.

    A bias or scale that the backbone does not have stays as it is.
    """
    names = {id(value): name for name, value in backbone.model.named_parameters()}

    def weigh(weight: Tensor) -> Tensor:
        return importance(names[id(weight)], weight).flatten(1)

    kept = _top(weigh(backbone.rows((STEM, "patch"))[0].module.get_parameter("weight")).sum(1), head.width)
    for view, side in zip(backbone.view.blocks, head.blocks, strict=True):
        assert isinstance(side, SideBlock)
        _copy_norm(side.norm1, view, "norm1", kept)
        rows = [view.rows(place)[0] for place in ("q", "k", "v")]
        scores = [weigh(part.module.get_parameter("weight"))[part.start : part.stop, kept].sum(1) for part in rows]
        # By the product of the three; in logarithms, so that it does not vanish.
        tiny = torch.finfo(scores[0].dtype).tiny
        inner = _top(torch.stack([score.clamp_min(tiny).log() for score in scores]).sum(0), head.width)
        for linear, part in zip((side.q, side.k, side.v), rows, strict=True):
            _copy(linear, part.module, inner + part.start, kept)
        columns = inner
        for place, linear in (("proj", side.proj), ("fc1", side.fc1), ("fc2", side.fc2)):
            if place == "fc1":
                _copy_norm(side.norm2, view, "norm2", columns)
            source = _linear(view, place)
            found = _top(weigh(source.weight)[:, columns].sum(1), linear.out_features)
            _copy(linear, source, found, columns)
            columns = found
        kept = columns


def _linear(view: BlockView, place: str) -> nn.Linear:
    linear = view.rows(place)[0].module
    assert isinstance(linear, nn.Linear)
    return linear


def _top(scores: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest scores, ascending."""
    return scores.topk(count).indices.sort().values


def _copy(target: nn.Linear, source: nn.Module, rows: Tensor, columns: Tensor) -> None:
    target.weight.copy_(source.get_parameter("weight")[rows][:, columns])
    if getattr(source, "bias", None) is not None:
        target.bias.copy_(source.get_parameter("bias")[rows])


def _copy_norm(target: nn.LayerNorm, view: BlockView, place: str, kept: Tensor) -> None:
    for part in view.rows(place):
        for name, value in part.module.named_parameters():
            target.get_parameter(name).copy_(value[kept])

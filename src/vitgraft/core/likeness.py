"""Whether two libraries' models have the same weights: a digest by sites, whatever their tensors are called.

What stands at a site enters by its place, q, k and v apart; a bias of zeros is none. Class tokens, registers and
positions enter as what they add to patches of zeros, for libraries add them up at different times. What stands at
no site (LayerScale, norms within attention, an attention pool) enters as values and rows in any order, for
libraries split it otherwise.
"""

import hashlib
from collections.abc import Iterable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from vitgraft.core.backbone import Backbone
from vitgraft.core.block import StageView
from vitgraft.core.rows import Rows
from vitgraft.core.sites import JOINED, PLACES, STEM

_KNOWN: WeakKeyDictionary[Backbone, tuple[str, str]] = WeakKeyDictionary()


def likeness(backbone: Backbone, fingerprint: str | None = None) -> str | None:
    """The digest, of 16 hexadecimal digits; None for a twin in another type, whose values are rounded.

    `fingerprint`, if it was computed, saves the work where it is the same as last time.
    """
    if backbone.known_as is not None:
        return None
    now = fingerprint or backbone.fingerprint()
    before = _KNOWN.get(backbone)
    if before is None or before[0] != now:
        before = _KNOWN[backbone] = (now, _digest(backbone))
    return before[1]


@torch.no_grad()
def _digest(backbone: Backbone) -> str:
    view, depth = backbone.view, backbone.depth
    found = hashlib.sha256(f"{depth}:{backbone.width}:{view.pooling}:{view.prefix_tokens}".encode())
    blank = next(backbone.parameters()).new_zeros(1, view.channels, *view.image_size)
    found.update(_bytes(view.stem.added(blank)))
    stages = enumerate((view.stem, *view.blocks, view.tail), start=STEM)
    for block, stage in stages:
        places = PLACES if 0 <= block < depth else ("patch", "norm", "pooled")
        placed: list[Rows] = []
        for place in places:
            rows = () if place == JOINED else backbone.rows((block, place)) if _has(block, place, depth) else ()
            found.update(f"{block}:{place}".encode())
            _enter(found, rows)
            placed += rows
        _enter_rest(found, stage, placed)
    return found.hexdigest()[:16]


def _has(block: int, place: str, depth: int) -> bool:
    """Of the two stages around the blocks, which has the place."""
    return 0 <= block < depth or (block == STEM) == (place == "patch")


def _enter(found: "hashlib._Hash", rows: Iterable[Rows]) -> None:
    for one in rows:
        found.update(_bytes(one.weight.part.flatten(1) if one.weight.part.dim() > 1 else one.weight.part))
    biases = [one.bias.part for one in rows if one.bias is not None]
    if any(bool(bias.any()) for bias in biases):
        found.update(b"bias")
        for bias in biases:
            found.update(_bytes(bias))


def _enter_rest(found: "hashlib._Hash", stage: StageView, placed: list[Rows]) -> None:
    entered = {id(where.whole) for one in placed for where in (one.weight, one.bias) if where is not None}
    rest = [
        value.detach()
        for name, value in stage.own_parameters().items()
        if id(value) not in entered and name not in stage.added_up
    ]
    vectors = [value for value in rest if value.dim() < 2]
    if vectors:
        found.update(_bytes(torch.cat([value.flatten() for value in vectors]).sort().values))
    rows = [row for value in rest if value.dim() > 1 for row in value.flatten(0, -2)]
    for digest in sorted(hashlib.sha256(_bytes(row)).digest() for row in rows):
        found.update(digest)


def _bytes(value: Tensor) -> bytes:
    return value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()

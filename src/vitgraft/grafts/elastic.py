"""A supernet: grafts that can be cut to many sizes, all of which share values (NOAH, Zhang et al., 2022).

A size's values are the first of a larger size's (weight entanglement), so that one training serves all.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor
from torch.func import functional_call

from vitgraft.core.graft import Graft
from vitgraft.core.sites import Site
from vitgraft.grafts.prompt import Prompt
from vitgraft.search.evolution import Candidate, Dial


class Elastic(Graft):
    """The first `size` units of a graft: at 0 it does nothing, and at first it is whole."""

    def __init__(self, graft: Graft) -> None:
        super().__init__()
        self.graft = graft
        self.per_token = graft.per_token
        name, dimension = next(iter(graft.units.items()))
        self.largest = self.size = graft.get_parameter(name).shape[dimension]

    def values(self) -> dict[str, Tensor]:
        """The parameters of this size: views of the graft's own."""
        units = self.graft.units
        return {
            name: value.narrow(units[name], 0, self.size) if name in units else value
            for name, value in self.graft.named_parameters()
        }

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if self.size == 0:
            return y
        edited: Tensor = functional_call(self.graft, self.values(), (x, y))
        return edited

    def count(self, size: int) -> int:
        """How many values a graft of a size trains."""
        if size == 0:
            return 0
        units = self.graft.units
        return sum(
            value.numel() // value.shape[units[name]] * size if name in units else value.numel()
            for name, value in self.graft.named_parameters()
        )


Parts = Sequence[Sequence[Mapping[Site, Graft]]]
"""The grafts of each kind at each of its positions; those at one position share a size."""


class Supernet:
    """Grafts of several kinds, one of whose sizes is chosen at a time."""

    def __init__(self, dials: Sequence[Dial], parts: Parts) -> None:
        self.dials = tuple(dials)
        self.parts = [[{site: Elastic(one) for site, one in at.items()} for at in kind] for kind in parts]

    @property
    def grafts(self) -> dict[Site, tuple[Graft, ...]]:
        """What a plan takes."""
        return combined(self.parts)

    def choose(self, candidate: Candidate) -> None:
        """Cut every graft to its size."""
        for kind, sizes in zip(self.parts, candidate, strict=True):
            standing = 0
            for at, size in zip(kind, sizes, strict=True):
                for elastic in at.values():
                    elastic.size = size
                    if isinstance(elastic.graft, Prompt) and size:
                        elastic.graft.replaces, standing = standing, size

    def draw(self, seed: int) -> None:
        """Choose sizes by a seed, all depths and all sizes being equally likely."""
        random = np.random.default_rng(seed)
        self.choose(tuple(dial.drawn(random) for dial in self.dials))

    def count(self, candidate: Candidate) -> int:
        """How many values a candidate trains, classifier excluded; what no input reaches is not among them."""
        return sum(
            elastic.count(size)
            for kind, sizes in zip(self.parts, candidate, strict=True)
            for at, size in zip(kind, sizes, strict=True)
            for elastic in at.values()
        )


def combined(parts: Sequence[Sequence[Mapping[Site, Graft]]]) -> dict[Site, tuple[Graft, ...]]:
    """Grafts of all kinds by site."""
    found: dict[Site, tuple[Graft, ...]] = {}
    for kind in parts:
        for at in kind:
            for site, one in at.items():
                found[site] = (*found.get(site, ()), one)
    return found

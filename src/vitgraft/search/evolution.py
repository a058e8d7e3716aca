"""Evolutionary search for the sizes of grafts (as in NOAH, Zhang et al., 2022, and AutoFormer, Chen et al., 2021).

It knows nothing of models: a candidate is numbers, what is allowed and how good it is are functions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

Sizes = tuple[int, ...]
"""The size of one kind of graft at each position; 0 where none stands."""

Candidate = tuple[Sizes, ...]
"""Sizes of each kind."""

Score = tuple[float, ...]
"""How good a candidate is; the larger the better, the first number first."""

ATTEMPTS = 250
"""So often a mutation, or a crossover, is tried for in a generation."""

DRAWS = 20_000
"""So often a random candidate is drawn for in a generation: a low limit allows few of them."""


@dataclass(frozen=True)
class Dial:
    """One kind of graft: it stands at the first `depths`[i] of `positions`, with any of `sizes` at each."""

    name: str
    positions: int
    sizes: tuple[int, ...]
    depths: tuple[int, ...]

    def drawn(self, random: np.random.Generator) -> Sizes:
        """A random depth, and random sizes so deep."""
        return self._filled((), int(random.choice(self.depths)), random)

    def mutated(self, sizes: Sizes, random: np.random.Generator, depth_rate: float, size_rate: float) -> Sizes:
        """Each size drawn again at a rate, then the depth at another: cut, or continued by random sizes."""
        depth = sum(size > 0 for size in sizes)
        kept = tuple(
            int(random.choice(self.sizes)) if random.random() < size_rate else size for size in sizes[:depth]
        )
        if random.random() < depth_rate:
            depth = int(random.choice(self.depths))
        return self._filled(kept[:depth], depth, random)

    def _filled(self, first: Sizes, depth: int, random: np.random.Generator) -> Sizes:
        more = tuple(int(random.choice(self.sizes)) for _ in range(depth - len(first)))
        return (*first, *more, *(0,) * (self.positions - depth))

    @property
    def least(self) -> Sizes:
        """The smallest sizes that there are."""
        depth = min(self.depths)
        return (*(min(self.sizes),) * depth, *(0,) * (self.positions - depth))


@dataclass(frozen=True)
class Evolution:
    """How much is tried: the best `parents` of all so far give each generation its mutations and crossovers.

    A generation has `population` new candidates, half of them mutated, half crossed; random ones fill it up.
    `depth_rate` is of each kind of graft: a fifth of the kinds, and two in five of those (NOAH).
    """

    population: int = 50
    generations: int = 15
    parents: int = 10
    depth_rate: float = 0.08
    size_rate: float = 0.2
    seed: int = 0


@dataclass
class Search:
    """A search at some point: `scores` of every candidate so far, on which and the seed alone the next depend."""

    dials: Sequence[Dial]
    allowed: Callable[[Candidate], bool]
    evolution: Evolution
    scores: dict[Candidate, Score] = field(default_factory=dict)

    def best(self, count: int) -> list[Candidate]:
        """The best candidates so far, the first of equals first."""
        return sorted(self.scores, key=lambda one: self.scores[one], reverse=True)[:count]

    def generation(self, number: int) -> list[Candidate]:
        """New candidates, all allowed and none seen before; fewer than the population where there are no more."""
        random = np.random.default_rng((self.evolution.seed, number))
        new: dict[Candidate, None] = {}
        parents = self.best(self.evolution.parents)
        half = self.evolution.population // 2
        if parents:
            self._add(new, half, lambda: self._mutated(parents, random))
            self._add(new, len(new) + half, lambda: self._crossed(parents, random))
        fill = self.evolution.population
        self._add(new, fill, lambda: tuple(dial.drawn(random) for dial in self.dials), DRAWS)
        if not (new or self.scores):
            self._add(new, 1, lambda: tuple(dial.least for dial in self.dials), 1)
        return list(new)

    def _add(
        self, new: dict[Candidate, None], until: int, make: Callable[[], Candidate], attempts: int = ATTEMPTS
    ) -> None:
        """Fill `new` up to a number of candidates, as far as that many attempts find them."""
        for _ in range(attempts):
            if len(new) >= until:
                return
            candidate = make()
            if candidate not in new and candidate not in self.scores and self.allowed(candidate):
                new[candidate] = None

    def _mutated(self, parents: list[Candidate], random: np.random.Generator) -> Candidate:
        parent = parents[random.integers(len(parents))]
        rates = (self.evolution.depth_rate, self.evolution.size_rate)
        return tuple(dial.mutated(sizes, random, *rates) for dial, sizes in zip(self.dials, parent, strict=True))

    def _crossed(self, parents: list[Candidate], random: np.random.Generator) -> Candidate:
        """All sizes of a kind come from one parent."""
        pair = [parents[random.integers(len(parents))] for _ in range(2)]
        return tuple(pair[random.integers(2)][kind] for kind in range(len(self.dials)))

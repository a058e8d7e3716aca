"""Running an evolutionary search over a trained supernet, generation by generation, so that it can go on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vitgraft.errors import ConfigError
from vitgraft.search.evolution import Candidate, Score, Search

State = dict[str, Tensor]
"""Candidates (n, sizes of all kinds), their scores (n, s) and how many generations are over."""


@dataclass
class Hunt:
    """A search and what it needs: `score` measures a candidate, `keep` stores its state after each generation.

    `tell` gets the best candidate's score, how many were measured, and what the number of the generation is.
    """

    search: Search
    score: Callable[[Candidate], Score]
    keep: Callable[[State], None]
    tell: Callable[[str], None]

    def go(self, kept: Mapping[str, Tensor] | None) -> Candidate:
        """The best candidate; `kept` is the state of an earlier session.

        Raises:
            ConfigError: nothing that is allowed was found.
        """
        done = self._restore(kept) if kept else 0
        scores = self.search.scores
        for number in range(done, self.search.evolution.generations):
            found = {one: self.score(one) for one in self.search.generation(number)}
            scores.update(found)
            self.keep(self._state(number + 1))
            if not found:
                break
            best = self.search.best(1)[0]
            generation = f"generation {number + 1} of {self.search.evolution.generations}"
            self.tell(f"{generation}: {len(scores)} candidates, the best has top-1 {scores[best][0]:.2f} %")
        if not scores:
            raise ConfigError("No candidate within the limit was found. Raise the limit, or allow smaller sizes.")
        return self.search.best(1)[0]

    def _state(self, done: int) -> State:
        scores = self.search.scores
        candidates = [[size for sizes in one for size in sizes] for one in scores]
        return {
            "candidates": torch.tensor(candidates),
            "scores": torch.tensor(list(scores.values()), dtype=torch.float64),
            "done": torch.tensor(done),
        }

    def _restore(self, kept: Mapping[str, Tensor]) -> int:
        """Take up a state; returns how many generations are over."""
        positions = [dial.positions for dial in self.search.dials]
        for row, score in zip(kept["candidates"], kept["scores"].tolist(), strict=True):
            candidate = tuple(tuple(sizes.tolist()) for sizes in row.split(positions))
            self.search.scores[candidate] = tuple(score)
        return int(kept["done"])

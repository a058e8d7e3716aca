"""The search itself, on numbers alone: what is allowed, where children come from, that it finds what is best."""

import itertools

import numpy as np
import torch

from vitgraft.search.evolution import Candidate, Dial, Evolution, Search
from vitgraft.train.hunt import Hunt, State

DIALS = (Dial("a", 6, (1, 5, 10), (2, 4, 6)), Dial("b", 4, (1, 2), (4,)))
SMALL = Evolution(population=20, generations=6, parents=4)


def total(candidate: Candidate) -> int:
    return sum(map(sum, candidate))


def search(limit: int = 40, evolution: Evolution = SMALL) -> Search:
    return Search(DIALS, lambda one: total(one) <= limit, evolution)


def hunt(one: Search) -> tuple[Candidate, list[State]]:
    """Look for the largest total: alternately, later positions weigh more."""
    kept: list[State] = []
    said: list[str] = []

    def score(candidate: Candidate) -> tuple[float, ...]:
        return (float(sum(size * (1 + place) for sizes in candidate for place, size in enumerate(sizes))),)

    found = Hunt(one, score, kept.append, said.append).go(None)
    assert kept
    return found, kept


def test_drawn__stands_at_the_first_positions_with_known_sizes() -> None:
    random = np.random.default_rng(0)
    drawn = [DIALS[0].drawn(random) for _ in range(300)]
    for sizes in drawn:
        depth = sum(size > 0 for size in sizes)
        assert depth in (2, 4, 6)
        assert set(sizes[:depth]) <= {1, 5, 10}
        assert not any(sizes[depth:])
    assert {sum(size > 0 for size in sizes) for sizes in drawn} == {2, 4, 6}


def test_generation__is_new_allowed_and_a_function_of_seed_and_number() -> None:
    one, again, other = search(), search(), search(evolution=Evolution(20, 6, 4, seed=1))
    first = one.generation(0)
    assert len(first) == len(set(first)) == 20
    assert all(total(candidate) <= 40 for candidate in first)
    assert first == again.generation(0)
    assert first != other.generation(0)
    one.scores.update({candidate: (float(total(candidate)),) for candidate in first})
    second = one.generation(1)
    assert not set(first) & set(second)
    assert all(total(candidate) <= 40 for candidate in second)


def test_crossed__has_whole_kinds_of_its_parents() -> None:
    one = search()
    parents = one.generation(0)[:4]
    random = np.random.default_rng(0)
    for _ in range(50):
        child = one._crossed(parents, random)
        assert all(child[kind] in [parent[kind] for parent in parents] for kind in range(2))


def test_mutated__keeps_some_and_changes_sizes_and_depths() -> None:
    sizes, random = (10, 10, 10, 10, 0, 0), np.random.default_rng(0)
    found = [DIALS[0].mutated(sizes, random, 0.4, 0.2) for _ in range(400)]
    depths = {sum(size > 0 for size in one) for one in found}
    assert depths == {2, 4, 6}
    kept = [one[:2] for one in found]
    same = np.mean([first == 10 for pair in kept for first in pair])
    assert 0.8 < same < 0.93  # a size is drawn anew at a rate of 0.2, one in three times the same
    assert DIALS[0].mutated(sizes, random, 0.0, 0.0) == sizes


def test_hunt__finds_a_better_candidate_than_chance() -> None:
    found, kept = hunt(search())
    scores = kept[-1]["scores"][:, 0]
    assert total(found) <= 40
    assert scores.max() > scores[: SMALL.population].max()


def test_hunt__goes_on_where_it_was() -> None:
    whole, kept = hunt(search())
    states: list[State] = []
    again = Hunt(
        search(),
        lambda one: (float(sum(size * (1 + place) for sizes in one for place, size in enumerate(sizes))),),
        states.append,
        lambda line: None,
    )
    assert again.go(kept[2]) == whole
    assert len(states) == len(kept) - 3
    for ours, theirs in itertools.zip_longest(states, kept[3:]):
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_hunt__ends_where_nothing_new_is_allowed() -> None:
    only = tuple(dial.least for dial in DIALS)
    found, kept = hunt(Search(DIALS, lambda one: one == only, Evolution(4, 9, 2)))
    assert found == only
    assert len(kept) < 9


def test_generation__is_filled_although_few_candidates_are_allowed() -> None:
    """One in thousands of random candidates is so small."""
    least = tuple(dial.least for dial in DIALS)
    first = search(total(least) + 1).generation(0)
    assert first
    assert all(total(one) <= total(least) + 1 for one in first)
    assert search(total(least), Evolution(population=3)).generation(0) == [least]

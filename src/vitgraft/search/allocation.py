"""Where a budget of trained values goes: SPT's rule (He et al., 2023, sec. 3.2), as functions of scores alone.

All weights and biases of a backbone's blocks and its final normalisation are candidates, ranked together. Of the
best τ, a matrix that holds enough is tuned by a module (low-rank factors, an adapter), a vector that holds enough
is tuned whole, and every other entry is tuned by itself. What a budget pays for follows from τ; here it is known
for every τ at once, from one sort.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from vitgraft.core.rows import outputs_of
from vitgraft.core.sites import LINEAR_PLACES, Site
from vitgraft.errors import ConfigError

if TYPE_CHECKING:
    from vitgraft.core.backbone import Backbone

SAMPLE = 1 << 20
"""How many scores are looked at to guess where the best ones begin."""

PUBLISHED_LEVELS = tuple(range(20_000, 1_600_000, 20_000))
"""The 79 values of τ among which the published runs choose."""

Scores = np.ndarray[tuple[int], np.dtype[np.float32]]
Order = np.ndarray[tuple[int], np.dtype[np.int64]]
Form = Literal["structured", "whole", "sparse", "frozen"]


@dataclass(frozen=True)
class Candidate:
    """A place's weight, (D_out, D_in) or (D,), or its bias, (D_out,)."""

    site: Site
    kind: Literal["weight", "bias"]
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """`3:q:weight`"""
        return f"{self.site[0]}:{self.site[1]}:{self.kind}"

    @property
    def size(self) -> int:
        return self.shape[0] * (self.shape[1] if self.matrix else 1)

    @property
    def matrix(self) -> bool:
        return len(self.shape) == 2


@dataclass(frozen=True)
class Rule:
    """A matrix is structured from price / `alpha` entries on, a vector whole from length / `beta` on.

    `price` gives the values of a module on a matrix (D_out, D_in). Both divisors are at least 1, so that no
    decision saves values and a larger τ never costs less.
    """

    price: Callable[[int, int], int]
    alpha: float = 10.0
    beta: float = 5.0

    def cost(self, candidate: Candidate) -> int:
        """Values that are trained if it is structured or whole."""
        return self.price(candidate.shape[0], candidate.shape[1]) if candidate.matrix else candidate.size

    def needs(self, candidate: Candidate) -> int:
        """How many entries make it structured or whole."""
        return ceil(self.cost(candidate) / (self.alpha if candidate.matrix else self.beta))


@dataclass(frozen=True)
class Ranking:
    """The best entries of all candidates, best first: each one's candidate and its position there, (n,) both.

    Among equals the earlier one comes first, so that every τ means exactly τ entries. `complete` says that there
    are no others.
    """

    candidates: tuple[Candidate, ...]
    owner: Tensor
    position: Tensor
    complete: bool


@dataclass(frozen=True)
class Allocation:
    """What is trained of each candidate.

    `counts` (candidates,) are entries among the best `level`; a structured or whole candidate holds some, and 0
    says that it is not known how many. `sparse` holds positions, ascending, of those that are tuned by
    themselves. `always` values are trained in any case (the class token).
    """

    candidates: tuple[Candidate, ...]
    counts: Tensor
    structured: frozenset[int]
    whole: frozenset[int]
    sparse: Mapping[int, Tensor]
    always: int = 0

    @property
    def level(self) -> int | None:
        """How many entries were among the best; None for a published selection, which does not say."""
        known = all(self.chosen(number) is not None for number in range(len(self.candidates)))
        return int(self.counts.sum()) if known else None

    def chosen(self, number: int) -> int | None:
        """How many entries of one candidate were among the best, None if that is not known."""
        count = int(self.counts[number])
        return count if count or self.form(number) in ("sparse", "frozen") else None

    def form(self, number: int) -> Form:
        if number in self.structured:
            return "structured"
        return "whole" if number in self.whole else "sparse" if number in self.sparse else "frozen"

    def by_site(self) -> dict[Site, list[int]]:
        """The numbers of each site's candidates, weight first."""
        found: dict[Site, list[int]] = {}
        for number, candidate in enumerate(self.candidates):
            found.setdefault(candidate.site, []).append(number)
        return found

    def trained(self, number: int, rule: Rule) -> int:
        """Values that are trained for one candidate."""
        form = self.form(number)
        own = len(self.sparse[number]) if form == "sparse" else 0
        return own if form in ("sparse", "frozen") else rule.cost(self.candidates[number])

    def total(self, rule: Rule) -> int:
        """Values that are trained in all, the classifier excluded."""
        return self.always + sum(self.trained(number, rule) for number in range(len(self.candidates)))

    def tensors(self) -> dict[str, Tensor]:
        """The allocation as named tensors, from which `restored` makes it again."""
        named = {self.candidates[number].name: index for number, index in self.sparse.items()}
        chosen = {"structured": self.structured, "whole": self.whole}
        numbers = {name: torch.tensor(sorted(found), dtype=torch.int64) for name, found in chosen.items()}
        return {"counts": self.counts, **numbers, **named}


def candidates(backbone: "Backbone") -> tuple[Candidate, ...]:
    """Every candidate of a backbone in the order of its blocks; ViT-B/16 has 194, 85,056,000 values in all.

    Classifier, class token, patch and position embeddings are none, nor is what stands at no site of its own
    (LayerScale, normalisations within attention).
    """
    places = ("norm1", "q", "k", "v", "proj", "norm2", "fc1", "fc2")
    sites: list[Site] = [(block, place) for block in range(backbone.depth) for place in places]
    found = []
    for site in (*sites, (backbone.depth, "norm")):
        rows = backbone.rows(site)
        if not rows or (site[1] not in LINEAR_PLACES and len(rows) > 1):
            continue
        outputs = outputs_of(rows)
        inputs = tuple(rows[0].weight.whole.shape[1:])
        found.append(Candidate(site, "weight", (outputs, *inputs)))
        if all(part.bias is not None for part in rows):
            found.append(Candidate(site, "bias", (outputs,)))
    return tuple(found)


def scores_of(backbone: "Backbone", values: Mapping[str, Tensor]) -> list[Tensor]:
    """Each candidate's part of `values`, which are named and shaped as the backbone's parameters."""
    names = {id(value): name for name, value in backbone.model.named_parameters()}
    found = []
    for candidate in candidates(backbone):
        rows = backbone.rows(candidate.site)
        where = [part.weight if candidate.kind == "weight" else part.bias for part in rows]
        parts = [values[names[id(one.whole)]][one.start : one.stop] for one in where if one is not None]
        found.append(parts[0] if len(parts) == 1 else torch.cat(parts))
    return found


def rank(chosen: Sequence[Candidate], scores: Sequence[Tensor], count: int) -> Ranking:
    """The `count` highest scores (or all, if there are fewer), exactly, without sorting the rest."""
    flat = [score.detach().flatten().float().cpu().numpy() for score in scores]
    total = sum(map(len, flat))
    count = min(count, total)
    floor = _floor(flat, count, total)
    found = [np.flatnonzero(score >= floor) for score in flat]
    if sum(map(len, found)) < count:
        found = [np.arange(len(score)) for score in flat]
    owner = np.repeat(np.arange(len(flat)), [len(one) for one in found])
    position = np.concatenate(found)
    values = np.concatenate([score[one] for score, one in zip(flat, found, strict=True)])
    order = torch.sort(torch.from_numpy(values), descending=True, stable=True).indices[:count].numpy()
    return Ranking(
        tuple(chosen), torch.from_numpy(owner[order]), torch.from_numpy(position[order]), count == total
    )


def _floor(scores: Sequence[Scores], count: int, total: int) -> float:
    """A score that a little more than `count` of all reach, judged by a sample."""
    step = max(total // SAMPLE, 1)
    sample = np.concatenate([score[::step] for score in scores])
    wanted = ceil(len(sample) * count / total * 1.05) + 1_000
    return -np.inf if wanted >= len(sample) else float(np.partition(sample, -wanted)[-wanted])


def _by_owner(owner: Tensor) -> Order:
    """The order that brings each candidate's entries together and keeps theirs; two bytes a key sort fastest."""
    keys = owner.numpy()
    order: Order = keys.astype(np.uint16 if keys.max(initial=0) < 2**16 else np.int64).argsort(kind="stable")
    return order


def totals(ranking: Ranking, rule: Rule, always: int = 0) -> Tensor:
    """What is trained in all if the best 1, 2, ... entries are: (n,), never falling."""
    steps = np.ones(len(ranking.owner), dtype=np.int64)
    sizes = torch.bincount(ranking.owner, minlength=len(ranking.candidates)).tolist()
    for candidate, own in zip(
        ranking.candidates, np.split(_by_owner(ranking.owner), np.cumsum(sizes)[:-1]), strict=True
    ):
        needs = rule.needs(candidate)
        if 0 < needs <= len(own):
            steps[own[needs - 1]] = rule.cost(candidate) - needs + 1
            steps[own[needs:]] = 0
    return torch.from_numpy(always + np.cumsum(steps))


def allocate(ranking: Ranking, rule: Rule, level: int, always: int = 0) -> Allocation:
    """What is trained if the best `level` entries are."""
    owner, position = ranking.owner[:level], ranking.position[:level]
    counts = torch.bincount(owner, minlength=len(ranking.candidates))
    split = torch.split(position[torch.from_numpy(_by_owner(owner))], counts.tolist())
    structured: set[int] = set()
    whole: set[int] = set()
    sparse = {}
    for number, (candidate, index) in enumerate(zip(ranking.candidates, split, strict=True)):
        if len(index) and len(index) >= rule.needs(candidate):
            (structured if candidate.matrix else whole).add(number)
        elif len(index):
            sparse[number] = index.sort().values
    return Allocation(ranking.candidates, counts, frozenset(structured), frozenset(whole), sparse, always)


def spend(
    chosen: Sequence[Candidate],
    scores: Sequence[Tensor],
    rule: Rule,
    budgets: Sequence[int],
    always: int = 0,
    published: bool = False,
) -> list[Allocation]:
    """The allocation of each budget, all from one sort.

    Each takes the largest τ whose total is within the budget; if `published`, the one of the 79 published levels
    whose total is nearest (the larger of two), which may be above it.

    Raises:
        ConfigError: a budget that pays for nothing.
    """
    whole = everything(chosen, rule, always)
    most = whole.total(rule)
    if not published and max(budgets) >= most:  # no ranking is needed to know what everything costs
        less = [budget for budget in budgets if budget < most]
        some = iter(spend(chosen, scores, rule, less, always) if less else ())
        return [whole if budget >= most else next(some) for budget in budgets]
    count = PUBLISHED_LEVELS[-1] if published else max(2 * max(budgets), 10_000)
    while True:
        ranking = rank(chosen, scores, count)
        found = totals(ranking, rule, always)
        if published or ranking.complete or int(found[-1]) > max(budgets):
            break
        count *= 2
    levels = [_level(found, budget, published) for budget in budgets]
    if 0 in levels:
        raise ConfigError(
            f"A budget of {budgets[levels.index(0)]:,} values pays for nothing: {always:,} are trained anyway "
            f"(the class token), and the first entry makes it {int(found[0]):,}."
        )
    return [allocate(ranking, rule, level, always) for level in levels]


def everything(chosen: Sequence[Candidate], rule: Rule, always: int = 0) -> Allocation:
    """What is trained if all entries are among the best."""
    found: dict[Form, dict[int, Candidate]] = {"structured": {}, "whole": {}, "sparse": {}}
    for number, candidate in enumerate(chosen):
        form: Form = "structured" if candidate.matrix else "whole"
        found[form if candidate.size >= rule.needs(candidate) else "sparse"][number] = candidate
    sparse = {number: torch.arange(candidate.size) for number, candidate in found["sparse"].items()}
    counts = torch.tensor([candidate.size for candidate in chosen])
    return Allocation(
        tuple(chosen), counts, frozenset(found["structured"]), frozenset(found["whole"]), sparse, always
    )


def _level(found: Tensor, budget: int, published: bool) -> int:
    """τ for a budget, by the totals (n,) of τ = 1, 2, ..."""
    if not published:
        return int(torch.searchsorted(found, budget, right=True))
    levels = [level for level in PUBLISHED_LEVELS if level <= len(found)] or [len(found)]
    return min(reversed(levels), key=lambda level: abs(int(found[level - 1]) - budget))


def restored(chosen: Sequence[Candidate], tensors: Mapping[str, Tensor], always: int = 0) -> Allocation:
    """The allocation that `tensors` came from.

    Raises:
        ConfigError: tensors of another backbone's candidates.
    """
    numbers = {candidate.name: number for number, candidate in enumerate(chosen)}
    sparse = {numbers[name]: index for name, index in tensors.items() if name in numbers}
    fits = len(tensors["counts"]) == len(chosen) and len(sparse) == len(tensors) - 3
    if not fits or any(int(index.max()) >= chosen[number].size for number, index in sparse.items()):
        raise ConfigError(
            "What was found in training data is a choice among other values than this backbone has. Load the "
            "graft on the backbone that it was trained on."
        )
    picked = {name: frozenset(tensors[name].tolist()) for name in ("structured", "whole")}
    return Allocation(tuple(chosen), tensors["counts"], picked["structured"], picked["whole"], sparse, always)

"""Where a task's sensitive values lie: by block and by operation, and how unevenly (SPT, fig. 3, A to E).

The sensitivity of a value is its squared gradient, summed over batches (He et al., 2023, eq. 2); those that rank
best are the sensitive ones. What an operation is, the walk's sites say, so that fused q, k and v count apart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitgraft.core.sites import LINEAR_PLACES
from vitgraft.report.figure import Figure
from vitgraft.search.allocation import Allocation, Rule

NORMS = "norms"
OPERATIONS = (*LINEAR_PLACES, NORMS)
"""The linear maps of a block with their biases, and all normalisations together."""

NAMES = {"proj": "o"}
"""What papers call a place that is called otherwise here."""

TOP = 0.01
"""The share of values whose part of all sensitivity tells how uneven it is."""

Measure = Literal["sensitive", "trained"]
Counts = NDArray[np.int64]

COLUMNS = ("backbone", "task", "block", "operation", "values", "counted", "share", "share of all values")
SPREADS = ("backbone", "task", "values", "mean", "variance", "relative variance", "share of the top 1 %")


@dataclass(frozen=True)
class Spread:
    """How uneven sensitivities s_n are over all n values: their mean, variance, and the top percent's part (%).

    A loss of another scale multiplies all s_n by one number: `relative`, Var(s) / mean(s)², stays the same, and is
    what backbones are compared by. It is 0 if all values are alike.
    """

    values: int
    mean: float
    variance: float
    top: float

    @property
    def relative(self) -> float:
        return self.variance / self.mean**2 if self.mean else 0.0


@dataclass(frozen=True)
class Pattern:
    """Of one task on one backbone: `counts` (L + 1, operations) are its sensitive values, or those that a budget
    trains; `sizes` are all values there. Row L is what stands behind the last block.

    `level` is τ, how many were taken for sensitive, None where it is not known.
    """

    backbone: str
    task: str
    counts: Counts
    sizes: Counts
    budget: int
    level: int | None
    spread: Spread | None = None

    @property
    def by_block(self) -> NDArray[np.float64]:
        """Percent of the counted values in each block, and behind the last, (L + 1,)."""
        return _percent(self.counts.sum(axis=1))

    @property
    def by_operation(self) -> NDArray[np.float64]:
        """Percent of the counted values in each of `OPERATIONS`."""
        return _percent(self.counts.sum(axis=0))


def _percent(counts: Counts) -> NDArray[np.float64]:
    return np.asarray(100 * counts / max(int(counts.sum()), 1))


def pattern(
    allocation: Allocation, rule: Rule, measure: Measure, backbone: str, task: str, spread: Spread | None = None
) -> Pattern:
    """Count an allocation's values by block and operation: the best τ, or what is trained (class token apart)."""
    depth = 1 + max(candidate.site[0] for candidate in allocation.candidates if candidate.site[1] != "norm")
    counts = np.zeros((depth + 1, len(OPERATIONS)), dtype=np.int64)
    sizes = np.zeros_like(counts)
    for number, candidate in enumerate(allocation.candidates):
        block, place = candidate.site
        where = block, OPERATIONS.index(place if place in LINEAR_PLACES else NORMS)
        chosen = allocation.chosen(number) if measure == "sensitive" else allocation.trained(number, rule)
        assert chosen is not None, "a published selection does not say how many values are sensitive"
        counts[where] += chosen
        sizes[where] += candidate.size
    return Pattern(backbone, task, counts, sizes, allocation.total(rule), allocation.level, spread)


def spread(scores: Sequence[Tensor]) -> Spread:
    """How uneven the scores of all candidates are."""
    flat = torch.cat([score.detach().flatten().double() for score in scores])
    count = max(round(TOP * len(flat)), 1)
    best = np.partition(flat.numpy(), -count)[-count:].sum()
    mean = float(flat.mean())
    variance = float((flat - mean).square().mean())
    return Spread(len(flat), mean, variance, float(100 * best / max(float(flat.sum()), 1e-300)))


def rows(patterns: Sequence[Pattern]) -> list[tuple[str | float | None, ...]]:
    """One row a block and operation that has values, by `COLUMNS`; shares in percent."""
    found: list[tuple[str | float | None, ...]] = []
    for one in patterns:
        of_all = 100 * one.sizes / one.sizes.sum()
        share = _percent(one.counts)
        for block, column in np.argwhere(one.sizes > 0).tolist():
            at = block, column
            name = _named(OPERATIONS[column])
            values, counted = int(one.sizes[at]), int(one.counts[at])
            found.append(
                (one.backbone, one.task, block, name, values, counted, round(share[at], 4), round(of_all[at], 4))
            )
    return found


def _named(operation: str) -> str:
    return NAMES.get(operation, operation)


def figure(
    name: str, command: str, patterns: Sequence[Pattern], measure: Measure, facts: Mapping[str, object]
) -> Figure:
    """What stands around the shares; `facts` are fields of the figure that the caller knows."""
    what = {
        "sensitive": "Share of the sensitive values (the best τ of all values that SPT ranks, τ by the budget)",
        "trained": "Share of the values that a budget trains (modules, whole vectors, single entries)",
    }[measure]
    several = len({one.backbone for one in patterns}) > 1 or len({one.task for one in patterns}) > 1
    lines = [f"{one.backbone}, {one.task}: {told(one)}" for one in patterns]
    apart = " A point is a task." if several else ""
    return Figure(
        name=name,
        title="Where sensitive values lie" if measure == "sensitive" else "Where a budget's values go",
        caption=f"{what}, by block (left; norm is the final normalisation) and by operation (right; o is the "
        f"attention's output, norms are all normalisations).{apart} The grey marks are the share of all values "
        "that is there, which a choice at random would give. " + ". ".join(lines) + ".",
        command=command,
        columns=COLUMNS,
        rows=rows(patterns),
        units={"share": "%", "share of all values": "%"},
        found={
            "by operation": {
                f"{one.backbone}, {one.task}": {
                    _named(key): round(float(share), 2)
                    for key, share in zip(OPERATIONS, one.by_operation, strict=True)
                }
                for one in patterns
            }
        },
        **facts,  # type: ignore[arg-type]
    )


def _shares(one: Pattern) -> dict[str, float]:
    """Percent by the operation's name."""
    return {_named(name): round(float(share), 2) for name, share in zip(OPERATIONS, one.by_operation, strict=True)}


def told(one: Pattern) -> str:
    """A pattern in words: the three operations that have most, q and k, the block that has most, τ and budget."""
    order = np.argsort(-one.by_operation, kind="stable")[:3]
    most = ", ".join(f"{_named(OPERATIONS[at])} {one.by_operation[at]:.1f} %" for at in order)
    paired = sum(one.by_operation[OPERATIONS.index(name)] for name in ("q", "k"))
    block = int(one.by_block.argmax())
    where = f"block {block}" if block < len(one.counts) - 1 else "the final normalisation"
    level = "" if one.level is None else f", τ = {one.level:,}"
    return (
        f"{most}; q and k together {paired:.1f} %; most in {where}, {one.by_block[block]:.1f} %; "
        f"{one.budget:,} values trained{level}"
    )


def spread_figure(name: str, command: str, patterns: Sequence[Pattern], facts: Mapping[str, object]) -> Figure:
    """What stands around the variances."""
    known = [(one, one.spread) for one in patterns if one.spread is not None]
    medians = {
        backbone: float(np.median([found.relative for one, found in known if one.backbone == backbone]))
        for backbone in dict.fromkeys(one.backbone for one, _ in known)
    }
    told = ", ".join(f"{backbone} {value:,.0f}" for backbone, value in sorted(medians.items(), key=lambda x: x[1]))
    table = [
        (one.backbone, one.task, found.values, found.mean, found.variance, found.relative, round(found.top, 3))
        for one, found in known
    ]
    return Figure(
        name=name,
        title="Variance of sensitivity by pre-training",
        caption="Variance of the sensitivities of all values that SPT ranks, over the square of their mean, which "
        "the scale of a loss does not change: 0 if all values are alike. Plain variances are in the CSV: which of "
        "the two SPT's figure E shows is not known here. A point is a task, a bar the median of a backbone. "
        f"From the lowest: {told}.",
        command=command,
        columns=SPREADS,
        rows=table,
        units={"share of the top 1 %": "%"},
        found={"median relative variance": medians},
        **facts,  # type: ignore[arg-type]
    )

"""Which method to take: of those within the limits the one that did best on tasks like one's own.

1. Methods that exceed a limit (memory, minutes, values) are out.
2. Of the others, records decide: most points over the middle of all methods. Those within a point of the best are
   as good as it, since seeds differ by as much; of them the fastest is taken.
3. Without records for any of them, the order below decides: what papers report on VTAB-1k, from what trains the
   blocks and merges, over what reads a frozen backbone, to a classifier alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

TIE = 1.0
"""Points within which two methods are as good as each other."""

ORDER = (
    "spt-lora",
    "lora",
    "adaptformer",
    "ssf",
    "adapter",
    "spt-adapter",
    "noah",
    "synqt",
    "vpt-deep",
    "vqt",
    "head2toe",
    "lst",
    "bias",
    "vpt-shallow",
    "mlp",
    "partial",
    "full",
    "linear",
)


@dataclass(frozen=True)
class Candidate:
    """A method as the rule sees it: `exceeded` names the limits that it does not keep, `points` are None without
    records.
    """

    method: str
    name: str
    minutes: float
    exceeded: tuple[str, ...] = ()
    points: float | None = None


@dataclass(frozen=True)
class Choice:
    """The method to take, if there is one, and why."""

    method: str | None
    reason: str


def recommend(candidates: Sequence[Candidate]) -> Choice:
    """One method, and why it is this one."""
    within = [one for one in candidates if not one.exceeded]
    if not within:
        nearest = min(candidates, key=lambda one: (len(one.exceeded), one.minutes))
        return Choice(
            None, f"No method keeps all limits; {nearest.method} comes nearest: {', '.join(nearest.exceeded)}."
        )
    known = [one for one in within if one.points is not None]
    out = f" of the {len(within)} methods within the limits" if len(within) < len(candidates) else ""
    if not known:
        first = min(within, key=lambda one: (_place(one.name), one.minutes))
        return Choice(
            first.method,
            f"It comes first{out} in the order that papers' results suggest, as no record is like this.",
        )
    best = max(one.points or 0.0 for one in known)
    equals = [one for one in known if (one.points or 0.0) >= best - TIE]
    chosen = min(equals, key=lambda one: (one.minutes, -(one.points or 0.0)))
    why = f"On tasks that records tell of, it is {chosen.points:+.1f} points from the middle of all methods"
    if len(equals) > 1:
        return Choice(
            chosen.method, f"{why}, within a point of the best{out}, and the fastest of these {len(equals)}."
        )
    return Choice(chosen.method, f"{why}, the most{out}.")


def _place(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)

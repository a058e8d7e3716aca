"""One method against another, seed by seed: what a difference of means is worth."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitgraft.errors import ConfigError
from vitgraft.report.summary import DIGITS, Found, Spread
from vitgraft.results.record import Record


@dataclass(frozen=True)
class Difference:
    """Test accuracy of `first` less that of `second`, in points of percent.

    `all` is of the means over tasks, one difference a seed; `tasks` and `groups` are of means over seeds.
    """

    first: str
    second: str
    all: Spread
    tasks: Mapping[str, float]
    groups: Mapping[str, float]

    @property
    def ahead(self) -> int:
        """Tasks on which the first is better."""
        return sum(round(value, DIGITS) > 0 for value in self.tasks.values())

    @property
    def sign(self) -> int:
        """1 if the first is better by more than the deviation over seeds, -1 if the second is, 0 in between."""
        if self.all.deviation is None or abs(self.all.mean) <= self.all.deviation:
            return 0
        return 1 if self.all.mean > 0 else -1


def difference(found: Found, first: str, second: str, tasks: Sequence[str], seeds: int) -> Difference:
    """Two methods of a suite on the tasks that both have done with all of `seeds` seeds.

    Raises:
        ConfigError: there is no such task.
    """
    shared = [task for task in tasks if all(len(found[name].get(task, ())) >= seeds for name in (first, second))]
    if not shared:
        raise ConfigError(f"There is no task yet that {first} and {second} have both done with every seed.")
    ours, theirs = ({task: _by_seed(found[name][task]) for task in shared} for name in (first, second))
    each = {task: {seed: top1 - theirs[task][seed] for seed, top1 in ours[task].items()} for task in shared}
    order = next(iter(each.values()))
    by_task = {task: statistics.mean(own.values()) for task, own in each.items()}
    groups: dict[str, list[float]] = {}
    for task, value in by_task.items():
        groups.setdefault(found[first][task][0].task.group or "other", []).append(value)
    return Difference(
        first,
        second,
        Spread.of([statistics.mean(own[seed] for own in each.values()) for seed in order]),
        by_task,
        {name: statistics.mean(values) for name, values in groups.items()},
    )


def _by_seed(records: Sequence[Record]) -> dict[int, float]:
    return {record.seed: record.test.main for record in records if record.test is not None}

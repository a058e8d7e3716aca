"""What a page tells of: runs by row and task, their numbers, and where in the page each of them stands."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from vitgraft.report.page.gather import Epochs
from vitgraft.report.page.shown import Shown
from vitgraft.report.render import Part
from vitgraft.report.style import Look, looks
from vitgraft.report.summary import Summary, summarise
from vitgraft.results.record import Record, Scores


@dataclass(frozen=True)
class Run:
    """A record by the name of its file, in a row of the tables; `log` has an entry an epoch if it is there.

    A run that was `tried` counts in no number, even if it read the test split.
    """

    record: Record
    file: str
    row: str
    log: Epochs = ()
    tried: bool = False


@dataclass(frozen=True)
class Material:
    """All of a page. `counted` are the runs that numbers are of, by row and task; others were only tried.

    `split` is the one whose accuracy is told: test, or val where no run has read its test split.
    """

    title: str
    runs: Sequence[Run]
    tasks: Sequence[str]
    seeds: int
    split: str = "test"
    parts: Sequence[Part] = ()
    figures: Sequence[Shown] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    about: str = ""

    @classmethod
    def of(cls, title: str, runs: Sequence[Run], tasks: Sequence[str] | None = None, seeds: int = 1) -> "Material":
        """Of runs; without `tasks`, of all of theirs, by group. A cell of fewer than `seeds` runs is missing."""
        split = "test" if any(run.record.test for run in runs) else "val"
        found = {run.record.task.name: run.record.task.group or "~" for run in runs}
        return cls(title, runs, tasks or sorted(found, key=lambda name: (found[name], name)), seeds, split)

    def beside(self, parts: Sequence[Part]) -> "Material":
        """The same with further tables."""
        return replace(self, parts=parts)

    def scores(self, run: Run) -> Scores | None:
        """What a run reached on the split that is told."""
        return run.record.test if self.split == "test" else run.record.val

    @cached_property
    def rows(self) -> tuple[str, ...]:
        """Names of all rows, the best mean first; those without a mean as they came."""
        names = dict.fromkeys(run.row for run in self.runs)
        means = {row.method: row.mean_of_tasks for row in self.summary.rows if row.mean_of_tasks is not None}
        return tuple(sorted(names, key=lambda name: -means.get(name, -1.0)))

    @cached_property
    def cells(self) -> Mapping[tuple[str, str], Sequence[Run]]:
        """The runs that numbers are of, by row and task, in the order of their seeds."""
        found: dict[tuple[str, str], list[Run]] = {}
        for run in sorted(self.runs, key=lambda run: run.record.seed):
            if not run.tried and self.scores(run) is not None and run.record.task.name in self.tasks:
                found.setdefault((run.row, run.record.task.name), []).append(run)
        return found

    @cached_property
    def summary(self) -> Summary:
        """The numbers of the comparison."""
        found: dict[str, dict[str, list[Record]]] = {run.row: {} for run in self.runs}
        for (row, task), runs in self.cells.items():
            found[row][task] = [replace(run.record, test=self.scores(run)) for run in runs]
        return summarise(found, self.tasks, self.seeds)

    @cached_property
    def looks(self) -> Mapping[str, Look]:
        """The look of each row, which is its method's in every figure."""
        names = {f"{run.record.method.name}:{run.row}": run.row for run in self.ordered()}
        return {names[name]: look for name, look in looks(list(names)).items()}

    def key(self, row: str) -> str:
        """What ties a row of a table to marks of charts."""
        return str(self._places[row])

    def anchor(self, row: str, task: str | None = None) -> str:
        """Where the runs of a row, or of a row on one task, begin in the page."""
        return f"m{self.key(row)}" if task is None else f"m{self.key(row)}-{self._tasks.index(task)}"

    def number(self, run: Run) -> str:
        """The id of a run's facts."""
        return f"r{self._numbers[id(run)]}"

    def ordered(self) -> list[Run]:
        """All runs by row and task, those that were only tried last, by seed."""

        def order(run: Run) -> tuple[int, int, bool, int]:
            tried = run.tried or self.scores(run) is None
            return self._places[run.row], self._tasks.index(run.record.task.name), tried, run.record.seed

        return sorted(self.runs, key=order)

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {row: index for index, row in enumerate(self.rows)}

    @cached_property
    def _tasks(self) -> list[str]:
        """All tasks, those that are compared first."""
        return list(dict.fromkeys([*self.tasks, *(run.record.task.name for run in self.runs)]))

    @cached_property
    def _numbers(self) -> Mapping[int, int]:
        return {id(run): index for index, run in enumerate(self.ordered(), 1)}


def seeds_of(runs: Sequence[Run]) -> str:
    """The seeds of runs in words: seeds 0, 1, 2."""
    found = sorted({run.record.seed for run in runs})
    return f"seed{'s' * (len(found) > 1)} {', '.join(map(str, found))}"


def median(values: Sequence[float | None]) -> float | None:
    """Of the values that were measured; None if none was."""
    there = [value for value in values if value is not None]
    return statistics.median(there) if there else None

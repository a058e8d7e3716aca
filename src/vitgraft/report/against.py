"""What was found beside what was published: by task where tasks are the same, by order where they are not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vitgraft import methods
from vitgraft.errors import ConfigError
from vitgraft.report import reference
from vitgraft.report.summary import Row, Spread, Summary

PAPER = "paper"
"""Every published table at once."""


@dataclass(frozen=True)
class Pair:
    """One of our numbers and a published one, in percent, of the same task (or mean over the same tasks).

    `legacy` is ours of the epoch that was best on test, where runs were asked for it: to be compared with numbers
    that were published so, and with nothing else. `exact` says that the published method has just our fields.
    """

    method: str
    name: str
    ours: float
    published: float
    row: reference.Row
    exact: bool
    legacy: float | None = None

    @property
    def difference(self) -> float:
        return self.ours - self.published


@dataclass(frozen=True)
class Order:
    """Methods that a published table has, too, to be compared by their order.

    `means` has for each group that both know, and for "all", ours and the table's mean over its tasks by method;
    `rows` has one of the table's cells by method, which tells what was published there, and whether it is of a
    method with just our fields.
    """

    means: Mapping[str, Mapping[str, tuple[float, float]]]
    rows: Mapping[str, tuple[reference.Row, bool]]

    def places(self, group: str) -> dict[str, tuple[int, int]]:
        """Each method's place by ours and by the table's mean, 1 for the best."""
        ours, published = (sorted(column, reverse=True) for column in self._columns(group))
        return {name: (1 + ours.index(a), 1 + published.index(b)) for name, (a, b) in self.means[group].items()}

    def correlation(self, group: str) -> float | None:
        """Spearman's, of the two orders: 1 where they are the same, -1 where one is the other's reverse.

        None for fewer than three methods, or where all are equal.
        """
        from scipy.stats import spearmanr

        ours, published = self._columns(group)
        if len(ours) < LEAST or 1 in (len(set(ours)), len(set(published))):
            return None
        return float(spearmanr(ours, published).statistic)

    def _columns(self, group: str) -> tuple[list[float], list[float]]:
        values = self.means[group].values()
        return [ours for ours, _ in values], [published for _, published in values]


LEAST = 3
"""The order of fewer methods says nothing."""


def chosen(table: str) -> list[str]:
    """The published tables that a name means. Raises ConfigError."""
    if table == PAPER:
        return [name for name in reference.tables() if reference.rows(table=name, unit="%")]
    reference.rows(table=table)
    return [table]


def pairs(summary: Summary, kinds: Mapping[str, str], table: str) -> list[Pair]:
    """Numbers of the same task in one published table; `kinds` has the text of each method, as lora:rank=16.

    A task is the same if it is a benchmark's and has the table's name there, as in vtab1k:cifar100. Where a whole
    benchmark was run, both kinds of mean are paired, too, recomputed from the table's cells.
    """
    found = []
    for row in summary.rows:
        for cells, exact in _published(table, kinds.get(row.method, "")):
            values = {cell.task: cell for cell in cells}
            same = {task: values[key] for task in row.tasks if (key := _key(task)) in values}
            legacy = {} if row.legacy is None else row.legacy.tasks
            found += [
                Pair(row.method, task, row.tasks[task].mean, one.value, one, exact, _mean(legacy.get(task)))
                for task, one in same.items()
            ]
            if len(same) == len(values) == len(summary.tasks):
                found += _means(row, cells, exact)
    return found


def order(summary: Summary, kinds: Mapping[str, str], table: str) -> Order | None:
    """Our methods' means beside a table's of other tasks; None if no method is in both."""
    means: dict[str, dict[str, tuple[float, float]]] = {}
    rows = {}
    for row in summary.complete:
        for cells, exact in _published(table, kinds.get(row.method, ""))[:1]:
            rows[row.method] = cells[0], exact
            found = reference.means(cells)
            published = {**found.groups, reference.ALL: found.of_tasks}
            for group, mean in {**row.groups, reference.ALL: row.mean_of_tasks}.items():
                if mean is not None and group in published:
                    means.setdefault(group, {})[row.method] = (mean, published[group])
    return Order(means, rows) if rows else None


def _key(task: str) -> str | None:
    """A task's name in its benchmark; None if it is of none, for a drawn task may have a published one's name."""
    parts = task.split(":")
    return parts[1] if len(parts) > 1 else None


def _published(table: str, method: str) -> list[tuple[Sequence[reference.Row], bool]]:
    """The cells of each of a table's rows of accuracies that are of a method of ours, given as text.

    Rows of just these fields are preferred (lora:rank=16 is LoRA-16); where no table has any, the method as most
    papers have it stands for them, and that is told (lora:rank=4 beside LoRA-8).
    """
    if not method:
        return []
    parsed = methods.parse(method)
    spec, known = methods.spec_of(parsed), {row.ours for row in reference.rows(unit="%")}
    exact = spec in known
    ours = spec if exact else parsed.name
    found: dict[tuple[str, str], list[reference.Row]] = {}
    for row in reference.rows(table=table):
        if row.ours == ours and row.unit == "%" and row.kind == "cell":
            found.setdefault((row.method, row.variant), []).append(row)
    return [(cells, exact) for cells in found.values() if _whole(cells)]


def _whole(cells: Sequence[reference.Row]) -> bool:
    try:
        reference.means(cells)
    except ConfigError:
        return False
    return True


def _means(row: Row, cells: Sequence[reference.Row], exact: bool) -> list[Pair]:
    means = reference.means(cells)
    theirs = {**means.groups, "mean of groups": means.of_groups, "mean of tasks": means.of_tasks}
    ours, legacy = _all_means(row), {} if row.legacy is None else _all_means(row.legacy)
    return [
        Pair(row.method, name, value, published, cells[0], exact, legacy.get(name))
        for name, value in ours.items()
        if value is not None and (published := theirs.get(name)) is not None
    ]


def _all_means(row: Row) -> dict[str, float | None]:
    return {**row.groups, "mean of groups": row.mean_of_groups, "mean of tasks": row.mean_of_tasks}


def _mean(cell: Spread | None) -> float | None:
    return None if cell is None else cell.mean

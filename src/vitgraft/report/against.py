"""What was found beside what was published: by task where tasks are the same, by order where they are not."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from vitgraft import methods
from vitgraft.errors import ConfigError
from vitgraft.report import reference
from vitgraft.report.summary import DIGITS, Row, Spread, Summary

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
        places = zip(*self._columns(group), strict=True)
        return {
            name: (1 + ours.index(a), 1 + published.index(b))
            for name, (a, b) in zip(self.means[group], places, strict=True)
        }

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
        return [round(ours, DIGITS) for ours, _ in values], [round(published, DIGITS) for _, published in values]


OF_GROUPS, OF_TASKS = "mean of groups", "mean of tasks"

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
        ours = {_key(task): task for task in row.tasks}
        legacy = {} if row.legacy is None else row.legacy.tasks
        for one in _published(table, kinds.get(row.method, "")):
            same = {ours[key]: cell for key, cell in one.cells.items() if key in ours}
            found += [
                Pair(row.method, task, row.tasks[task].mean, cell.value, cell, one.exact, _mean(legacy.get(task)))
                for task, cell in same.items()
            ]
            if len(summary.tasks) == len(ours) and ours.keys() == one.tasks:
                found += _means(row, one)
    return found


def order(summary: Summary, kinds: Mapping[str, str], table: str) -> Order | None:
    """Our methods' means beside a table's of other tasks; None if no method is in both."""
    means: dict[str, dict[str, tuple[float, float]]] = {}
    rows = {}
    for row in summary.complete:
        for one in _published(table, kinds.get(row.method, ""))[:1]:
            rows[row.method] = one.row, one.exact
            for group, mean in _all_means(row).items():
                if mean is not None and group in one.means and group != OF_GROUPS:
                    name = reference.ALL if group == OF_TASKS else group
                    means.setdefault(name, {})[row.method] = (mean, one.means[group])
    return Order(means, rows) if rows else None


def _key(task: str) -> str | None:
    """A task's name in its benchmark; None if it is of none, for a drawn task may have a published one's name."""
    parts = task.split(":")
    return parts[1] if len(parts) > 1 else None


@dataclass(frozen=True)
class _Published:
    """One method of a table: its cells by task, none where a table prints means alone, and its means by name.

    `tasks` are those that the means are over, and `row` is one of its numbers, which tells how all were measured.
    """

    cells: Mapping[str, reference.Row]
    means: Mapping[str, float]
    tasks: Set[str]
    row: reference.Row
    exact: bool


def _published(table: str, method: str) -> list[_Published]:
    """What a table has of a method of ours, given as text: several where it prints variants.

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
        if row.ours == ours and row.unit == "%":
            found.setdefault((row.method, row.variant), []).append(row)
    read = (_of_cells(rows, exact) or _of_means(rows, exact) for rows in found.values())
    return [one for one in read if one is not None]


def _of_cells(rows: Sequence[reference.Row], exact: bool) -> _Published | None:
    """A method with a number for each task of a benchmark: its means are computed anew."""
    cells = {row.task: row for row in rows if row.kind == "cell"}
    try:
        means = reference.means([row for row in rows if row.kind == "cell"])
    except ConfigError:
        return None
    named = {**means.groups, OF_TASKS: means.of_tasks}
    if means.of_groups is not None:
        named[OF_GROUPS] = means.of_groups
    return _Published(cells, named, cells.keys(), next(iter(cells.values())), exact)


def _of_means(rows: Sequence[reference.Row], exact: bool) -> _Published | None:
    """A method of VTAB-1k of which means alone were printed."""
    printed = [row for row in rows if row.kind == "mean" and row.task in (*reference.GROUPS, reference.ALL)]
    if not printed or len(printed) < len(rows):
        return None
    of_all = {"tasks": OF_TASKS, "groups": OF_GROUPS}
    named = {of_all[row.average] if row.task == reference.ALL else row.task: row.value for row in printed}
    tasks = {task for group in reference.GROUPS.values() for task in group}
    return _Published({}, named, tasks, printed[0], exact)


def _means(row: Row, one: _Published) -> list[Pair]:
    legacy = {} if row.legacy is None else _all_means(row.legacy)
    return [
        Pair(row.method, name, value, one.means[name], one.row, one.exact, legacy.get(name))
        for name, value in _all_means(row).items()
        if value is not None and name in one.means
    ]


def _all_means(row: Row) -> dict[str, float | None]:
    return {**row.groups, OF_GROUPS: row.mean_of_groups, OF_TASKS: row.mean_of_tasks}


def _mean(cell: Spread | None) -> float | None:
    return None if cell is None else cell.mean

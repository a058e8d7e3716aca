"""Numbers of a comparison: what methods reached by task, by group and in all, and what they cost."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from vitgraft.results.record import MAIN, ONE_CLASS, Expense, Record

Found = Mapping[str, Mapping[str, Sequence[Record]]]
"""Tested records by method and task."""


@dataclass(frozen=True)
class Spread:
    """Test accuracy in percent over seeds: its mean, and its standard deviation where there are several."""

    mean: float
    deviation: float | None
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        deviation = statistics.stdev(values) if len(values) > 1 else None
        return cls(statistics.mean(values), deviation, len(values))


@dataclass(frozen=True)
class Cost:
    """Medians over a method's runs: trained values without and with the classifier, bytes, FLOPs, seconds."""

    trained: float
    head: float
    kept_bytes: float
    flops: float
    step_flops: float
    graft_bytes: float
    seconds: float

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Cost":
        def median(of: Callable[[Expense], float]) -> float:
            return statistics.median(of(record.cost) for record in records)

        return cls(
            trained=median(lambda cost: cost.trained_method),
            head=median(lambda cost: cost.trained_head),
            kept_bytes=median(lambda cost: cost.kept_bytes_per_image),
            flops=median(lambda cost: cost.flops_per_image),
            step_flops=median(lambda cost: cost.step_flops_per_image),
            graft_bytes=median(lambda cost: cost.graft_bytes),
            seconds=median(lambda cost: cost.train_seconds + cost.cache_seconds),
        )


@dataclass(frozen=True)
class Row:
    """One method. Means over tasks exist only where every task has all seeds.

    `legacy` has the accuracies of the epochs that were best on test, where every run of a task was asked for them:
    apart from all others, and without rank or cost.
    """

    method: str
    tasks: Mapping[str, Spread]
    groups: Mapping[str, float] = field(default_factory=dict)
    mean_of_groups: float | None = None
    mean_of_tasks: float | None = None
    rank: float | None = None
    cost: Cost | None = None
    legacy: "Row | None" = None


@dataclass(frozen=True)
class Origin:
    """Where numbers came from: how many runs, of which backbones, by which code (commits, or releases), with which
    torch, on which devices; how copies of benchmarks were kept, and the tasks of which there were several copies.
    """

    runs: int
    backbones: tuple[str, ...]
    code: tuple[str, ...]
    torch: tuple[str, ...]
    devices: tuple[str, ...]
    copies: tuple[str, ...]
    mixed: tuple[str, ...]
    other: tuple[str, ...] = ()

    @classmethod
    def of(cls, records: Sequence[Record]) -> "Origin":
        def told(of: Callable[[Record], str]) -> tuple[str, ...]:
            return tuple(sorted({of(record) for record in records}))

        return cls(
            len(records),
            told(lambda record: record.backbone.name),
            told(_code),
            told(lambda record: record.versions.get("torch", "?")),
            told(lambda record: record.device),
            tuple(copy for copy in told(lambda record: record.task.copy) if copy),
            _mixed(records),
            _other(records),
        )


@dataclass(frozen=True)
class Summary:
    """All methods on all tasks; `complete` are those that ran on every task with every seed."""

    tasks: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    rows: tuple[Row, ...]
    origin: Origin

    @property
    def complete(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.mean_of_tasks is not None)


def summarise(found: Found, tasks: Sequence[str], seeds: int) -> Summary:
    """The numbers of a comparison. A cell with fewer than `seeds` records counts as missing."""
    groups: dict[str, list[str]] = {}
    for task in tasks:
        group = next((record.task.group for cells in found.values() for record in cells.get(task, ())), None)
        groups.setdefault(group or "other", []).append(task)
    whole = {
        method: {task: cells[task] for task in tasks if len(cells.get(task, ())) >= seeds}
        for method, cells in found.items()
    }
    rows = {}
    for method, cells in whole.items():
        reached = {task: Spread.of([_top1(record) for record in cell]) for task, cell in cells.items()}
        rows[method] = _row(method, reached, groups)
    complete = [row.method for row in rows.values() if row.mean_of_tasks is not None]
    ranks = _ranks({method: [rows[method].tasks[task].mean for task in tasks] for method in complete})
    for method, cells in whole.items():
        records = [record for cell in cells.values() for record in cell]
        cost = Cost.of(records) if records else None
        legacy = _legacy(method, cells, groups)
        rows[method] = replace(rows[method], rank=ranks.get(method), cost=cost, legacy=legacy)
    counted = [record for cells in whole.values() for cell in cells.values() for record in cell]
    told = {name: tuple(own) for name, own in groups.items()}
    return Summary(tuple(tasks), told, tuple(rows.values()), Origin.of(counted))


def _row(method: str, cells: Mapping[str, Spread], groups: Mapping[str, Sequence[str]]) -> Row:
    """Accuracies by task with their means, if every task of every group has one."""
    if any(task not in cells for own in groups.values() for task in own):
        return Row(method, cells)
    means = {name: statistics.mean(cells[task].mean for task in own) for name, own in groups.items()}
    of_tasks = statistics.mean(cell.mean for cell in cells.values())
    return Row(method, cells, means, statistics.mean(means.values()), of_tasks)


def _legacy(method: str, cells: Mapping[str, Sequence[Record]], groups: Mapping[str, Sequence[str]]) -> Row | None:
    """What the epochs that were best on test reached; None where no task's runs recorded that."""
    found = {}
    for task, records in cells.items():
        values = [best for record in records if (best := record.history.legacy_best_on_test) is not None]
        if len(values) == len(records):
            found[task] = Spread.of(values)
    return _row(method, found, groups) if found else None


def pareto(points: Mapping[str, tuple[float, float]]) -> set[str]:
    """Names of points (cost, accuracy) that no other beats: none is as good for less, or better for as little."""
    return {
        name
        for name, (cost, reached) in points.items()
        if not any(
            other != (cost, reached) and other[0] <= cost and other[1] >= reached for other in points.values()
        )
    }


DIGITS = 9
"""Decimals of a percentage that are more than noise of adding up: equal hits are equal."""

SHORT = 7
"""Digits by which a commit is known."""


def _other(records: Sequence[Record]) -> tuple[str, ...]:
    """Tasks whose labels are not one class a picture, and what their percentages are."""
    kinds = {record.task.name: record.task.labels for record in records}
    return tuple(f"{task}: {MAIN[kind]}" for task, kind in sorted(kinds.items()) if kind != ONE_CLASS)


def _mixed(records: Sequence[Record]) -> tuple[str, ...]:
    """Tasks whose runs did not have the same images, though train and val may be one for some of them."""
    prints: dict[tuple[str, str], set[str]] = {}
    counts: dict[str, set[tuple[int, int]]] = {}
    for record in records:
        name, sizes = record.task.name, record.task.sizes
        prints.setdefault((name, repr(sizes)), set()).add(record.task.fingerprint)
        chosen_on = sizes.get("train", 0) + sizes.get("val", 0)
        counts.setdefault(name, set()).add((chosen_on, sizes.get("test", 0)))
    others = {name for name, found in counts.items() if len(found) > 1}
    return tuple(sorted({*(task for (task, _), found in prints.items() if len(found) > 1), *others}))


def _code(record: Record) -> str:
    if record.commit is None:
        return record.versions.get("vitgraft", "?")
    return record.commit[:SHORT] + ("+" if record.commit.endswith("+") else "")


def _top1(record: Record) -> float:
    assert record.test is not None, "only tested records are compared"
    return record.test.main


def _ranks(means: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Each method's mean rank over tasks, 1 for the best; equals share the mean of their ranks."""
    if not means:
        return {}
    rounded = {method: [round(value, DIGITS) for value in values] for method, values in means.items()}
    columns = list(zip(*rounded.values(), strict=True))

    def rank(value: float, column: Sequence[float]) -> float:
        above, equal = sum(other > value for other in column), sum(other == value for other in column)
        return above + (equal + 1) / 2

    return {
        method: statistics.mean(rank(value, column) for value, column in zip(values, columns, strict=True))
        for method, values in rounded.items()
    }

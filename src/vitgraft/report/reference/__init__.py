"""Published numbers, as printed: tables of the papers that this library reproduces, one row a number.

    cells = reference.rows(table="spt-t2", ours="lora", kind="cell")
    reference.means(cells)  # both kinds of mean
    reference.flagged()     # what is not to be trusted, and why

Papers average in two ways, and one table mixes them: the mean of three group means ("groups") and the mean of all
tasks ("tasks"), which differ by two to five points. `README.md` tells where every file comes from. Nothing here
imports torch.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from importlib import resources
from statistics import mean
from typing import Any, Literal

from vitgraft.errors import ConfigError, unknown

GROUPS: Mapping[str, tuple[str, ...]] = {
    "natural": ("cifar100", "caltech101", "dtd", "flowers102", "pets", "svhn", "sun397"),
    "specialized": ("camelyon", "eurosat", "resisc45", "retinopathy"),
    "structured": (
        *("clevr_count", "clevr_dist", "dmlab", "kitti_dist"),
        *("dspr_loc", "dspr_ori", "snorb_azim", "snorb_ele"),
    ),
}
"""The tasks of VTAB-1k by group, in the order in which papers print them."""

FGVC = ("cub200", "nabirds", "flowers", "dogs", "cars")
ALL = "all"
"""What a mean over a whole benchmark has in place of a task; a group's mean has the group."""


@dataclass(frozen=True)
class Row:
    """One published number.

    `method` is as printed, `variant` tells rows of the same method apart, `ours` is the nearest method of vitgraft
    ("" for none). `kind` is cell (a measurement), mean (printed, not recomputed) or size (how much is tuned).
    `average` is what a mean is of: tasks or groups. `head` says how a size counts the classifier: no, vtab or fgvc
    (the benchmark's mean classifier is in it), both (the mean of these two), unknown. `selection` is how the epoch
    was chosen: last epoch, best on test, not stated.

    `flag` is "" or repaired (misprinted; `printed` has the original), rounding (a mean that is off by no more than
    its cells' rounding explains), unreconciled (a mean off by more), suspect (a cell that other sources or its
    mean contradict), convention (a mean of another kind than its table says). `reason` says why; without a flag it
    says what one should know. `text` is the value with the decimals that were printed.
    """

    table: str
    source: str
    method: str
    variant: str
    ours: str
    backbone: str
    pretraining: str
    task: str
    text: str
    unit: str
    kind: Literal["cell", "mean", "size"]
    average: Literal["", "tasks", "groups"]
    head: str
    selection: str
    flag: str
    printed: str
    reason: str

    @property
    def value(self) -> float:
        return float(self.text)

    @property
    def half_unit(self) -> float:
        """Half of the last decimal: how far rounding moves a value at most."""
        return 0.5 * 10.0 ** -len(self.text.partition(".")[2])


@dataclass(frozen=True)
class Means:
    """Means over a benchmark, in percent: of each group, of the groups' means, of all tasks.

    FGVC has no groups; there `of_groups` is None.
    """

    groups: Mapping[str, float]
    of_groups: float | None
    of_tasks: float


@cache
def _all() -> tuple[Row, ...]:
    """Every row of every file, in the files' order."""
    found: list[Row] = []
    columns = {item.name for item in fields(Row)}
    for file in sorted(resources.files(__package__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".csv"):
            for line in csv.DictReader(file.read_text(encoding="utf-8").splitlines()):
                values: dict[str, Any] = {"text" if name == "value" else name: text for name, text in line.items()}
                assert values.keys() == columns, f"{file.name} has columns {', '.join(line)}"
                found.append(Row(**values))
    assert found, "the tables of reference numbers are not installed"
    return tuple(found)


def tables() -> Mapping[str, str]:
    """Names of all tables, and the source of each."""
    return {row.table: row.source for row in _all()}


def rows(**wanted: str) -> tuple[Row, ...]:
    """The rows whose columns have these values, such as table="spt-t2", method="LoRA-8", kind="cell".

    Raises:
        ConfigError: a column that does not exist, or a value that occurs in none of its rows.
    """
    known = {item.name for item in fields(Row)}
    found = _all()
    for column, value in wanted.items():
        if column not in known:
            raise ConfigError(unknown("column of reference tables", column, known))
        values = {getattr(row, column) for row in _all()}
        if value not in values:
            raise ConfigError(unknown(f"{column} in reference tables", value, values))
        found = tuple(row for row in found if getattr(row, column) == value)
    return found


def flagged() -> tuple[Row, ...]:
    """Rows that carry a flag; each has its `reason`."""
    return tuple(row for row in _all() if row.flag)


def means(cells: Sequence[Row]) -> Means:
    """Both kinds of mean over the cells of one method on a whole benchmark.

    Raises:
        ConfigError: cells of several methods, or of a part of the tasks: such a mean would pass for another.
    """
    values = {row.task: row.value for row in cells}
    if len(values) < len(cells) or any(row.kind != "cell" or row.unit != "%" for row in cells):
        raise ConfigError(
            "A mean is over one method's accuracies, one a task. Choose a table, a method, a variant."
        )
    vtab = tuple(task for tasks in GROUPS.values() for task in tasks)
    expected = FGVC if values.keys() & set(FGVC) else vtab
    if values.keys() != set(expected):
        wrong = ", ".join(sorted(values.keys() ^ set(expected)))
        raise ConfigError(f"{len(values)} tasks are no whole benchmark of {len(expected)}; it is about {wrong}.")
    of_tasks = mean(values.values())
    if expected is FGVC:
        return Means({}, None, of_tasks)
    groups = {name: mean(values[task] for task in tasks) for name, tasks in GROUPS.items()}
    return Means(groups, mean(groups.values()), of_tasks)


def recomputed(row: Row) -> float:
    """A printed mean from its own table: from the cells, or from printed group means where there are no cells.

    Raises:
        ConfigError: a row that is no mean, or one whose table prints nothing to compute it from.
    """
    if row.kind != "mean":
        raise ConfigError(f"{row.method}, {row.task or row.unit}: only a printed mean can be recomputed.")
    same = [one for one in rows(table=row.table, method=row.method) if one.variant == row.variant]
    cells = [one for one in same if one.kind == "cell"]
    if cells:
        found = means(cells)
        value = found.groups.get(row.task, found.of_tasks if row.average == "tasks" else found.of_groups)
        assert value is not None, f"{row.table} has no groups"
        return value
    parts = [one.value for one in same if one.kind == "mean" and one.task in GROUPS]
    if row.task != ALL or len(parts) < len(GROUPS):
        raise ConfigError(f"{row.source} prints neither cells nor groups from which {row.task} follows.")
    return mean(parts)


def reconciles(row: Row) -> bool:
    """True if a printed mean is what its table's own numbers give, rounded as it was printed."""
    return abs(row.value - recomputed(row)) <= row.half_unit + 1e-9

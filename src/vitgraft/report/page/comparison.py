"""The tables of a comparison: accuracy by task with means, and what each method costs."""

from collections.abc import Callable

from vitgraft.report.page.markup import Html, h, together
from vitgraft.report.page.material import Material
from vitgraft.report.page.plane import COSTS, values
from vitgraft.report.page.tables import Cell, Column, Row, table
from vitgraft.report.summary import DIGITS
from vitgraft.report.summary import Row as Reached

Means = dict[str, Callable[[Reached], float | None]]


def accuracy(material: Material) -> Html:
    """A row for each method: means over tasks and groups, the mean rank, tasks with the deviation over seeds."""
    summary = material.summary
    reached = {row.method: row for row in summary.rows}
    means = _means(material)
    tasks = [Column(task, number=True) for task in material.tasks]
    columns = [Column("method"), *(Column(name, number=True) for name in means), *tasks]
    best = {
        task: _best([row.tasks[task].mean for row in summary.rows if task in row.tasks]) for task in material.tasks
    }
    best |= {
        name: _best([value for row in summary.rows if (value := of(row)) is not None])
        for name, of in means.items()
    }
    if "mean rank" in means:
        best["mean rank"] = min((row.rank for row in summary.rows if row.rank is not None), default=None)
    rows = []
    for name in material.rows:
        row = reached[name]
        link = f"#{material.anchor(name)}"
        cells = []
        for key, of in means.items():
            value = of(row)
            shown = None if value is None else f"{value:.1f}"
            cells.append(
                Cell(shown, value, link if shown else None, best=value is not None and _same(value, best[key]))
            )
        cells += [_spread(material, row, task, best[task]) for task in material.tasks]
        rows.append(Row([Cell(name, link=link), *cells], key=material.key(name)))
    return table("accuracy-table", _said(material), columns, rows, filtered=True, leads=True)


def _said(material: Material) -> str:
    complete = " Means are of methods that have all tasks." if len(material.tasks) > 1 else ""
    return (
        f"Accuracy on {material.split} in percent, mean ± standard deviation over seeds; n where seeds differ. "
        f"The best of a column is bold.{complete} Each number leads to its runs. "
        "The filter holds for the charts, too."
    )


def _means(material: Material) -> Means:
    """Columns before the tasks, as far as they say something new."""
    found: Means = {}
    if len(material.tasks) > 1:
        found["mean of tasks"] = lambda row: row.mean_of_tasks
    if len(material.summary.groups) > 1:
        found["mean of groups"] = lambda row: row.mean_of_groups
    if len(material.tasks) > 1 and len(material.summary.complete) > 1:
        found["mean rank"] = lambda row: row.rank
    if len(material.summary.groups) > 1:
        for group in material.summary.groups:
            found[group] = lambda row, group=group: row.groups.get(group)  # type: ignore[misc]
    return found


def _spread(material: Material, row: Reached, task: str, best: float | None) -> Cell:
    cell = row.tasks.get(task)
    if cell is None:
        return Cell(None)
    deviation = None if cell.deviation is None else h("small", f" ± {cell.deviation:.1f}")
    most = max(len(runs) for runs in material.cells.values())
    count = h("small", f" (n = {cell.seeds})") if cell.seeds < most else None
    link = f"#{material.anchor(row.method, task)}"
    return Cell(together([f"{cell.mean:.1f}", deviation, count]), cell.mean, link, best=_same(cell.mean, best))


def _best(found: list[float]) -> float | None:
    return max(found) if len(found) > 1 else None


def _same(one: float, other: float | None) -> bool:
    return other is not None and round(one, DIGITS) == round(other, DIGITS)


def costs(material: Material) -> Html:
    """A row for each method: medians over its runs."""
    columns = [Column("method"), *(Column(cost.name, number=True, said=cost.title) for cost in COSTS)]
    found = [values(material, cost) for cost in COSTS]
    rows = []
    for name in material.rows:
        link = f"#{material.anchor(name)}"
        cells = [
            Cell(cost.told(own[name]), own[name], link) if name in own else Cell(None)
            for cost, own in zip(COSTS, found, strict=True)
        ]
        rows.append(Row([Cell(name, link=link), *cells], key=material.key(name)))
    said = (
        "What a method costs: medians over its runs. Trained values with those of the classifier, then without; "
        "bytes that autograd keeps an image; FLOPs an image, forward and in training; time with the frozen "
        "part's; memory of the whole process; bytes of the trained values on disk."
    )
    return table("costs-table", said, columns, rows)

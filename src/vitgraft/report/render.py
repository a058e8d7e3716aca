"""A comparison as Markdown or CSV."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from vitgraft.report.pairs import Difference
from vitgraft.report.patterns import Shares
from vitgraft.report.summary import Cost, Origin, Row, Spread, Summary

MISSING = "–"

COSTS: tuple[tuple[str, Callable[[Cost], str]], ...] = (
    ("trained", lambda cost: f"{cost.trained:,.0f}"),
    ("head", lambda cost: f"{cost.head:,.0f}"),
    ("together", lambda cost: f"{cost.trained + cost.head:,.0f}"),
    ("kept/image", lambda cost: _bytes(cost.kept_bytes)),
    ("GFLOPs/image", lambda cost: f"{cost.flops / 1e9:.3g}"),
    ("time", lambda cost: f"{cost.seconds:.0f} s"),
)
"""Columns of what a method costs: trained values without, of, and with the classifier; medians over runs."""


Line = tuple[str, str, str, float]
"""What CSV says of a number besides ours: method, kind, name, percent."""

LEGACY = "best on test (legacy)"
"""What labels accuracies of epochs that were chosen on test: to compare with papers that did so, no results."""


class Part(NamedTuple):
    """A table of a report besides those that every report has, and what is said of it."""

    said: str
    columns: Sequence[str]
    rows: list[list[str]]


def markdown(summary: Summary, parts: Iterable[Part] = ()) -> str:
    """Markdown tables of accuracies, of those best on test if there are any, and of costs; their origin; parts."""
    texts = [*(_piped(*table) for table in _tables(summary)), origin(summary.origin)]
    for said, columns, rows in parts:
        texts += [said, _piped(columns, rows)] if said else [_piped(columns, rows)]
    return "\n\n".join(texts) + "\n"


NAMED = 4
"""So many versions of the code are named at most."""


def origin(of: Origin) -> str:
    """A sentence on where numbers came from; it names some versions of the code, by which they may differ."""
    code = f"vitgraft {', '.join(of.code[:NAMED])}"
    if len(of.code) > 1:
        rest = ", .." if len(of.code) > NAMED else ""
        code = f"{len(of.code)} versions of the code ({code}{rest}; +: changed since)"
    said = [f"{of.runs} runs of {', '.join(of.backbones)} by {code}, torch {', '.join(of.torch)}, "]
    said.append(f"on {'; '.join(of.devices)}.")
    if of.copies:
        said.append(f" Pictures: {'; '.join(of.copies)}.")
    if of.other:
        said.append(f" Not accuracies, but in percent, too: {'; '.join(of.other)}.")
    if of.mixed:
        said.append(f" Not to be compared, as runs had different copies of the data: {', '.join(of.mixed)}.")
    return "".join(said)


def table(summary: Summary, published: Iterable[Line] = ()) -> str:
    """CSV with one row a method and task (accuracies in percent), and rows of means; numbers are not rounded.

    `published` are lines of numbers beside them, which have no cost.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("method", "kind", "name", "top1", "deviation", "seeds", *(name for name, _ in FIELDS)))
    for row in summary.rows:
        costs = [get(row.cost) if row.cost else "" for _, get in FIELDS]
        writer.writerows((row.method, *cells, *costs) for cells in _lines(row))
        if row.legacy is not None:
            best = _lines(row.legacy)
            writer.writerows((row.method, f"{kind}, {LEGACY}", *cells, *costs) for kind, *cells in best)
    writer.writerows((*line, *[""] * (2 + len(FIELDS))) for line in published)
    return out.getvalue()


def _lines(row: Row) -> list[tuple[object, ...]]:
    """What CSV says of one method's accuracies: kind, name, mean, deviation, seeds."""
    lines: list[tuple[object, ...]] = []
    for task, cell in row.tasks.items():
        deviation = "" if cell.deviation is None else cell.deviation
        lines.append(("task", task, cell.mean, deviation, cell.seeds))
    lines += [("group", group, mean, "", "") for group, mean in row.groups.items()]
    means = (("mean of groups", row.mean_of_groups), ("mean of tasks", row.mean_of_tasks), ("rank", row.rank))
    return lines + [("all", name, value, "", "") for name, value in means if value is not None]


FIELDS: tuple[tuple[str, Callable[[Cost], float]], ...] = (
    ("trained", lambda cost: cost.trained),
    ("head", lambda cost: cost.head),
    ("kept_bytes_per_image", lambda cost: cost.kept_bytes),
    ("flops_per_image", lambda cost: cost.flops),
    ("seconds", lambda cost: cost.seconds),
)


WORTH = {1: "better", 0: "open", -1: "worse"}
"""What a difference says that is larger than its deviation, or is not."""


def differences(found: Sequence[Difference]) -> str:
    """A Markdown table of differences in points of percent, a method against another in each row."""
    groups = list(dict.fromkeys(group for one in found for group in one.groups))
    rows = []
    for one in found:
        spread = MISSING if one.all.deviation is None else f"{one.all.deviation:.2f}"
        cells = [_signed(one.groups.get(group)) for group in groups]
        ahead = f"{one.ahead} of {len(one.tasks)}"
        rows.append(
            [f"{one.first} - {one.second}", f"{one.all.mean:+.2f}", spread, WORTH[one.sign], ahead, *cells]
        )
    return _piped(("points", "difference", "deviation", "outcome", "tasks ahead", *groups), rows) + "\n"


def shares(found: Mapping[str, Shares]) -> Part:
    """Percent of the trained values by operation."""
    places = list(dict.fromkeys(place for shares in found.values() for place in shares))
    rows = [[name, *(f"{own.get(place, 0):.1f}" for place in places)] for name, own in found.items()]
    return Part("", ("% of the trained values", *places), rows)


Table = tuple[Sequence[str], list[list[str]]]
"""Columns and rows."""


def _tables(summary: Summary) -> list[Table]:
    tables = [_accuracies(summary), (("method", *(name for name, _ in COSTS)), _costs(summary))]
    if (table := legacy(summary)) is not None:
        tables.insert(1, table)
    return tables


def legacy(summary: Summary) -> Table | None:
    """Accuracies of the epochs that were best on test; None where no run was asked for them."""
    found = tuple(row.legacy for row in summary.rows if row.legacy is not None)
    if not found:
        return None
    (_, *columns), rows = _accuracies(replace(summary, rows=found))
    return (LEGACY, *columns[:-1]), [row[:-1] for row in rows]


def _accuracies(summary: Summary) -> Table:
    """Tasks, group means, both kinds of mean, the mean rank."""
    groups = list(summary.groups) if len(summary.groups) > 1 else []
    columns = ["method", *summary.tasks, *groups, "mean of groups", "mean of tasks", "mean rank"]
    if not groups:
        columns.remove("mean of groups")
    rows = []
    for row in summary.rows:
        cells = [_spread(row.tasks.get(task)) for task in summary.tasks]
        means = [_number(row.groups.get(group)) for group in groups]
        means += [_number(row.mean_of_groups)] if groups else []
        rows.append([row.method, *cells, *means, _number(row.mean_of_tasks), _number(row.rank)])
    return columns, rows


def _costs(summary: Summary) -> list[list[str]]:
    return [[row.method, *_cost(row)] for row in summary.rows]


def _cost(row: Row) -> list[str]:
    return [MISSING if row.cost is None else text(row.cost) for _, text in COSTS]


def _spread(cell: Spread | None) -> str:
    if cell is None:
        return MISSING
    return f"{cell.mean:.1f}" if cell.deviation is None else f"{cell.mean:.1f} ± {cell.deviation:.1f}"


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return MISSING if value is None else f"{value:+.1f}"


def _bytes(count: float) -> str:
    return f"{count / 2**20:.2f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"


def _piped(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])

"""A comparison as Markdown, CSV or HTML."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape

from vitgraft.report import against as comparison
from vitgraft.report import reference
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


LEGACY = "best on test (legacy)"
"""What labels accuracies of epochs that were chosen on test: to compare with papers that did so, no results."""


def markdown(summary: Summary) -> str:
    """Markdown tables of accuracies, of those best on test if there are any, and of costs; then their origin."""
    return "\n\n".join([*(_piped(*table) for table in _tables(summary)), origin(summary.origin)]) + "\n"


def html(summary: Summary, title: str) -> str:
    """One HTML page with the same tables."""
    tables = _tables(summary)
    body = "\n".join([*(_html(*table) for table in tables), f"<p>{escape(origin(summary.origin))}</p>"])
    style = (
        "body{font:14px sans-serif;margin:2em}table{border-collapse:collapse;margin:1em 0}"
        "td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}"
        "td:first-child,th:first-child{text-align:left}"
    )
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{style}</style>'
    return f"<!doctype html>\n<html><head>{head}</head>\n<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"


NAMED = 4
"""So many versions of the code are named at most."""


def origin(of: Origin) -> str:
    """A sentence on where numbers came from; it names some versions of the code, by which they may differ."""
    code = f"vitgraft {', '.join(of.code[:NAMED])}"
    if len(of.code) > 1:
        rest = ", .." if len(of.code) > NAMED else ""
        code = f"{len(of.code)} versions of the code ({code}{rest}; +: changed since)"
    return f"{of.runs} runs by {code}, torch {', '.join(of.torch)}, on {'; '.join(of.devices)}."


def table(summary: Summary) -> str:
    """CSV with one row a method and task (accuracies in percent), and rows of means; numbers are not rounded."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("method", "kind", "name", "top1", "deviation", "seeds", *(name for name, _ in FIELDS)))
    for row in summary.rows:
        costs = [get(row.cost) if row.cost else "" for _, get in FIELDS]
        writer.writerows((row.method, *cells, *costs) for cells in _lines(row))
        if row.legacy is not None:
            legacy = _lines(row.legacy)
            writer.writerows((row.method, f"{kind}, {LEGACY}", *cells, *costs) for kind, *cells in legacy)
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


def shares(found: Mapping[str, Shares]) -> str:
    """A Markdown table of percent of the trained values by operation."""
    places = list(dict.fromkeys(place for shares in found.values() for place in shares))
    rows = [[name, *(f"{own.get(place, 0):.1f}" for place in places)] for name, own in found.items()]
    return _piped(("% of the trained values", *places), rows) + "\n"


def against(summary: Summary, kinds: Mapping[str, str], tables: Sequence[str]) -> str:
    """Markdown tables that put published numbers beside ours, one for each published table that has some."""
    found = []
    for table in tables:
        source = f"Published: {reference.tables()[table]} ({table})."
        if pairs := comparison.pairs(summary, kinds, table):
            of_pairs = ("method", "task", "ours", "published", "difference", LEGACY, *AS)
            found.append(f"{source}\n\n{_piped(of_pairs, [_pair(one) for one in pairs])}\n")
        elif order := comparison.order(summary, kinds, table):
            found.append(f"{source} {OTHER_TASKS}\n\n{_order(order)}\n")
    return "\n".join(found)


OTHER_TASKS = "Other tasks than ours, perhaps another backbone: only the order can be compared (in brackets)."
AS = ("published as", "epoch chosen", "flag")
ON_TEST = "best on test"
"""What reference tables say of numbers whose epoch was chosen so."""


def _pair(one: comparison.Pair) -> list[str]:
    numbers = (f"{one.ours:.1f}", f"{one.published:.1f}", f"{one.difference:+.1f}", _like(one))
    return [one.method, one.name, *numbers, *_as(one.row)]


def _like(one: comparison.Pair) -> str:
    """Ours of the epoch that was best on test; where the published number is one, too, with the difference."""
    if one.legacy is None or one.row.selection != ON_TEST:
        return _number(one.legacy)
    return f"{one.legacy:.1f} ({one.legacy - one.published:+.1f})"


def _order(order: comparison.Order) -> str:
    """Means by group, ours and published, with places; and how like each other the two orders are."""
    columns = [column for group in order.means for column in (group, f"{group}, published")]
    rows = []
    for method, row in order.rows.items():
        cells = []
        for group, means in order.means.items():
            places = order.places(group)[method]
            cells += [f"{mean:.1f} ({place})" for mean, place in zip(means[method], places, strict=True)]
        rows.append([method, *cells, *_as(row)])
    likeness = [order.correlation(group) for group in order.means]
    last = [cell for value in likeness for cell in ("", MISSING if value is None else f"{value:+.2f}")]
    return _piped(("method", *columns, *AS), [*rows, ["rank correlation", *last, *[""] * len(AS)]])


def _as(row: reference.Row) -> list[str]:
    """How a number was published: the method's name there, how its epoch was chosen, what to beware of."""
    return [" ".join(filter(None, (row.method, row.variant))), row.selection or MISSING, row.flag or MISSING]


Table = tuple[Sequence[str], list[list[str]]]
"""Columns and rows."""


def _tables(summary: Summary) -> list[Table]:
    tables = [_accuracies(summary), (("method", *(name for name, _ in COSTS)), _costs(summary))]
    legacy = tuple(row.legacy for row in summary.rows if row.legacy is not None)
    if legacy:
        (_, *columns), rows = _accuracies(replace(summary, rows=legacy))
        tables.insert(1, ((LEGACY, *columns[:-1]), [row[:-1] for row in rows]))
    return tables


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


def _html(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"

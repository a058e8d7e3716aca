"""Published numbers beside ours, as parts of a report."""

from collections.abc import Iterator, Mapping, Sequence

from vitgraft.report import against, reference
from vitgraft.report.render import LEGACY, MISSING, Line, Part
from vitgraft.report.summary import Summary

AS = ("published as", "epoch chosen", "flag")
ON_TEST = "best on test"
"""What reference tables say of numbers whose epoch was chosen so."""

OTHER_TASKS = "Other tasks than ours: only the order can be compared (in brackets)."

Kinds = Mapping[str, str]
"""The text of each method, as lora:rank=16, by the name that the report has for it."""


def parts(summary: Summary, kinds: Kinds, tables: Sequence[str]) -> list[Part]:
    """A part for each published table with numbers to put beside ours: of the same tasks, else by order."""
    found = []
    for table in tables:
        if pairs := against.pairs(summary, kinds, table):
            columns = ("method", "task", "ours", "published", "difference", LEGACY, *AS)
            rows = [_pair(one) for one in pairs]
            found.append(Part(_source(summary, table, [one.row for one in pairs]), columns, rows))
        elif order := against.order(summary, kinds, table):
            said = _source(summary, table, [row for row, _ in order.rows.values()])
            found.append(Part(f"{said} {OTHER_TASKS}", *_order(order)))
    return found


def lines(summary: Summary, kinds: Kinds, tables: Sequence[str]) -> Iterator[Line]:
    """The same numbers for CSV: what was published, and ours less that where the task is the same."""
    for table in tables:
        if pairs := against.pairs(summary, kinds, table):
            for one in pairs:
                yield one.method, f"published in {table}", one.name, one.published
                yield one.method, f"difference to {table}", one.name, one.difference
        elif order := against.order(summary, kinds, table):
            for group, means in order.means.items():
                for method, (_, published) in means.items():
                    yield method, f"published in {table}, other tasks", group, published


def _source(summary: Summary, table: str, rows: Sequence[reference.Row]) -> str:
    """Where numbers were published, of which backbone, and what ours are of."""
    trained = sorted({f"{row.backbone}, {row.pretraining}" for row in rows})
    ours = ", ".join(summary.origin.backbones)
    return f"Published: {reference.tables()[table]} ({table}), of {'; '.join(trained)}. Ours: of {ours}."


def _pair(one: against.Pair) -> list[str]:
    numbers = (f"{one.ours:.1f}", f"{one.published:.1f}", f"{one.difference:+.1f}", _like(one))
    return [one.method, one.name, *numbers, *_as(one.row, one.exact)]


def _like(one: against.Pair) -> str:
    """Ours of the epoch that was best on test; where the published number is one, too, with the difference."""
    if one.legacy is None:
        return MISSING
    if one.row.selection != ON_TEST:
        return f"{one.legacy:.1f}"
    return f"{one.legacy:.1f} ({one.legacy - one.published:+.1f})"


def _order(order: against.Order) -> tuple[Sequence[str], list[list[str]]]:
    """Means by group, ours and published, with places; and how like each other the two orders are."""
    columns = [column for group in order.means for column in (group, f"{group}, published")]
    rows = []
    for method, (row, exact) in order.rows.items():
        cells = []
        for group, means in order.means.items():
            places = order.places(group)[method]
            cells += [f"{mean:.1f} ({place})" for mean, place in zip(means[method], places, strict=True)]
        rows.append([method, *cells, *_as(row, exact)])
    likeness = [order.correlation(group) for group in order.means]
    last = [cell for value in likeness for cell in ("", MISSING if value is None else f"{value:+.2f}")]
    return ("method", *columns, *AS), [*rows, ["rank correlation", *last, *[""] * len(AS)]]


def _as(row: reference.Row, exact: bool) -> list[str]:
    """How a number was published: the method's name there, how its epoch was chosen, what to beware of."""
    name = " ".join(filter(None, (row.method, row.variant, "" if exact else "(nearest)")))
    return [name, row.selection or MISSING, row.flag or MISSING]

"""Tables that sort and filter, and lists of facts."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from vitgraft.report.page.markup import Html, h, together

MISSING = "–"


@dataclass(frozen=True)
class Column:
    """A column's name with its unit; `number` aligns and sorts it as numbers, `said` tells what it holds."""

    name: str
    unit: str = ""
    number: bool = False
    said: str = ""


@dataclass(frozen=True)
class Cell:
    """What a cell shows; `value` is what it is sorted by, if that is not its text, and `link` where it leads."""

    shown: object
    value: float | str | None = None
    link: str | None = None
    said: str = ""
    best: bool = False


@dataclass(frozen=True)
class Row:
    """Cells, the first of which names the row; `key` ties it to marks of charts with the same key."""

    cells: Sequence[Cell | str | None]
    id: str | None = None
    key: str | None = None


def table(
    name: str,
    caption: object,
    columns: Sequence[Column | str],
    rows: Sequence[Row],
    *,
    filtered: bool = False,
    leads: bool = False,
) -> Html:
    """A table that its headers sort, in a box that scrolls by itself where a page is narrow.

    `name` is its id, which no other element of the page has. With `filtered` it has a field for words, all of
    which a row must hold to be shown; if it `leads`, marks of charts whose keys no row shown has are hidden, too.
    """
    wide = [Column(one) if isinstance(one, str) else one for one in columns]
    head = h("thead", h("tr", *(_header(column) for column in wide)))
    body = h("tbody", *(_row(row, wide) for row in rows))
    said = h("caption", h("span", caption, id=f"{name}-caption"))
    grid = h("table", said, head, body, id=name, class_="sorts")
    box = h("div", grid, class_="scroll", tabindex=0, role="region", aria_labelledby=f"{name}-caption")
    return together([_filter(name, len(rows), leads) if filtered else None, box])


def facts(pairs: Mapping[str, object]) -> Html:
    """Names and what they are, one below the other; those that are None are left out."""
    told = ((name, value) for name, value in pairs.items() if value is not None)
    return h("dl", *(together((h("dt", name), h("dd", value))) for name, value in told), class_="facts")


def breaking(name: str) -> Html:
    """A name that may go on in the next line behind a colon, a comma or a slash: lora:rank=8."""
    first, *others = re.split(r"(?<=[:,/])(?=.)", name)
    return together([first, *(piece for part in others for piece in (h("wbr"), part))])


def _header(column: Column) -> Html:
    unit = h("span", f" {column.unit}", class_="unit") if column.unit else None
    button = h("button", column.name, unit, type="button", title=column.said or None)
    kind = "number" if column.number else None
    return h("th", button, scope="col", class_=kind, aria_sort="none")


def _row(row: Row, columns: Sequence[Column]) -> Html:
    first, *others = (one if isinstance(one, Cell) else Cell(one) for one in row.cells)
    named = replace(first, shown=breaking(first.shown)) if isinstance(first.shown, str) else first
    cells = [h("th", _inside(named), scope="row", data_v=_sorted_by(first))]
    for cell, column in zip(others, columns[1:], strict=True):
        kinds = " ".join(filter(None, ("number" * column.number, "best" * cell.best)))
        cells.append(h("td", _inside(cell), class_=kinds or None, data_v=_sorted_by(cell)))
    return h("tr", *cells, id=row.id, data_key=row.key)


def _inside(cell: Cell) -> Html:
    shown = MISSING if cell.shown is None or cell.shown == "" else cell.shown
    if cell.link is not None:
        return h("a", shown, href=cell.link, title=cell.said or None)
    return h("span", shown, title=cell.said) if cell.said else together([shown])


def _sorted_by(cell: Cell) -> str | None:
    if isinstance(cell.value, float):
        return f"{cell.value:.6g}" if math.isfinite(cell.value) else None
    return None if cell.value is None else str(cell.value)


def _filter(name: str, count: int, leads: bool) -> Html:
    field = h(
        "input",
        type="search",
        id=f"{name}-filter",
        data_filters=name,
        data_leads=leads,
        autocomplete="off",
        spellcheck="false",
    )
    label = h("label", "Filter ", field, for_=f"{name}-filter")
    shown = h("output", f"{count:,} rows", for_=f"{name}-filter")
    return h("p", label, " ", shown, class_="filter needs-script")

"""Printing results: tables for people, JSON for programs."""

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TextIO

import typer

from vitgraft.atomic import json_of

PIPED_WIDTH = 140
"""Columns of a table that is not printed on a terminal."""

NARROW = 110
"""Fewer columns than this leave no room for everything."""

GAP = 2
"""Spaces between two columns."""

LEAST = 12
"""Columns that a cell needs to be read, if it is not shorter; longer ones go on in the next line."""


def plain() -> bool:
    """True if the user wants no colours (https://no-color.org), or the terminal has none."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    right: Sequence[str] = (),
    spare: Sequence[str] = (),
) -> None:
    """Print a table.

    The columns in `right` hold numbers and are aligned to the right; those in `spare` are left out where the
    terminal is narrow.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours: Literal["auto"] | None = None if plain() else "auto"
    console = Console(color_system=colours)
    if not console.is_terminal:
        console = Console(width=PIPED_WIDTH)
    shown = [index for index, column in enumerate(columns) if console.width >= NARROW or column not in spare]
    grid = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    lines = list(rows)
    for index in shown:
        column = columns[index]
        longest = max(len(row[index]) for row in [columns, *lines])
        aligned: Literal["left", "right"] = "right" if column in right else "left"
        whole = index == 0 and longest <= console.width // 2
        grid.add_column(column, justify=aligned, no_wrap=whole, overflow="fold", min_width=min(longest, LEAST))
    for row in lines:
        grid.add_row(*(Text(row[index]) for index in shown))
    console.print(grid)
    left_out = [column for index, column in enumerate(columns) if index not in shown]
    if left_out:
        typer.echo(f"A wider terminal shows more: {', '.join(left_out)}.")


class Stream:
    """A table whose rows are printed as they come.

    `widest` holds the cells of the widest row that can come, a column each; so every row is laid out alike. Longer
    cells go on in the next line; columns in `right` hold numbers.
    """

    def __init__(self, columns: Sequence[str], widest: Sequence[str], right: Sequence[str], file: TextIO) -> None:
        from rich.cells import cell_len
        from rich.console import Console

        class Piped(Console):
            """A console that lets the command end as it does when nobody reads its other results."""

            def on_broken_pipe(self) -> None:
                raise BrokenPipeError

        self._console = Piped(file=file)
        if not self._console.is_terminal:
            self._console = Piped(file=file, width=PIPED_WIDTH)
        wanted = [max(cell_len(column), cell_len(cell)) for column, cell in zip(columns, widest, strict=True)]
        self._widths = _fitted(wanted, self._console.width - GAP * (len(columns) - 1))
        self._right = [column in right for column in columns]
        self.row(columns)
        self._console.print("─" * (sum(self._widths) + GAP * (len(columns) - 1)))

    def row(self, cells: Sequence[str]) -> None:
        """Print a row."""
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, GAP, 0, 0))
        for width, right in zip(self._widths, self._right, strict=True):
            grid.add_column(width=width, justify="right" if right else "left", overflow="fold")
        grid.add_row(*map(Text, cells))
        self._console.print(grid)


def _fitted(widths: Sequence[int], room: int) -> list[int]:
    """Columns' widths within a console: the widest give way, none below what it needs to be read."""
    fitted = list(widths)
    while sum(fitted) > room and max(fitted) > LEAST:
        fitted[fitted.index(max(fitted))] -= 1
    return fitted


def pairs(values: Mapping[str, str]) -> None:
    """Print names and values in two columns."""
    width = max(map(len, values))
    for name, value in values.items():
        typer.echo(f"  {name:>{width}}  {value}")


def as_json(value: Any) -> None:
    """Print JSON."""
    typer.echo(json_of(value, indent=2))


def percent(value: float | None) -> str:
    """An accuracy of 0 to 100 as text."""
    return "-" if value is None else f"{value:.1f} %"


def size(count: float | None) -> str:
    """Bytes in binary units."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"


def seconds(value: float) -> str:
    """A duration as people say it."""
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"

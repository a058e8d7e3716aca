"""Figures that `vitgraft analyze` wrote into a folder, as a page shows them."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vitgraft.errors import ConfigError
from vitgraft.report.figure import CARD
from vitgraft.report.page.document import Section, section
from vitgraft.report.page.images import figure, picture
from vitgraft.report.page.markup import Html, h, together
from vitgraft.report.page.tables import Column, Row, table
from vitgraft.results.store import slug

NEEDED = ("title", "caption", "command")
KINDS = (".svg", ".png")
"""Forms of a figure, of which a page takes the smaller."""

MOST_ROWS = 200
"""A figure of more numbers is shown without them."""


@dataclass(frozen=True)
class Shown:
    """A figure: its name, its card (`figure.Figure.card`), its picture in a form, and its numbers as CSV."""

    name: str
    card: Mapping[str, Any]
    content: bytes
    kind: str
    numbers: str = ""


def is_card(path: Path) -> bool:
    """True for a figure's card: a JSON file with the words around a picture."""
    try:
        card = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(card, dict) and all(isinstance(card.get(key), str) for key in NEEDED)


def read(path: Path) -> Shown:
    """The figure of a card.

    Raises:
        ConfigError: there is no picture beside it.
    """
    card = json.loads(path.read_bytes())
    pictures = {suffix: one.read_bytes() for suffix in KINDS if (one := path.with_suffix(suffix)).exists()}
    if not pictures:
        raise ConfigError(f"The figure has no picture beside it. Draw it again: {card['command']}")
    kind = min(pictures, key=lambda suffix: len(pictures[suffix]))
    numbers = path.with_suffix(".csv")
    told = numbers.read_text(errors="replace") if numbers.exists() else ""
    return Shown(path.name.removesuffix(CARD), card, pictures[kind], kind[1:], told)


def shown(figures: Sequence[Shown]) -> list[Section]:
    """A section with all figures; none without any."""
    return [section("figures", "Figures", *(_figure(one, index) for index, one in enumerate(figures)))] * bool(
        figures
    )


def _figure(one: Shown, index: int) -> Html:
    card = one.card
    name = f"figure-{index}-{slug(one.name)}"
    notes = card.get("notes")
    lines = [card["caption"], *(notes if isinstance(notes, list) else []), _of(card)]
    caption = together(h("p", line) for line in lines if line)
    image = picture(one.content, one.kind, f"{card['title']}. {card['caption']}")
    return together([h("h3", card["title"]), figure(image, caption, command=card["command"]), _numbers(one, name)])


def _of(card: Mapping[str, Any]) -> str:
    """How many of what were measured, with which seeds, where."""
    told = []
    if card.get("n") is not None:
        told.append(f"n = {card['n']} {card.get('of', '')}".strip())
    if card.get("seeds"):
        told.append(f"seeds {', '.join(map(str, card['seeds']))}")
    if card.get("device"):
        told.append(str(card["device"]))
    return "; ".join(told)


def _numbers(one: Shown, name: str) -> Html | None:
    """The numbers of a figure, for those who cannot see it or want them."""
    head, *rows = [line for line in csv.reader(io.StringIO(one.numbers)) if line] or [[]]
    if not head or not rows or len(rows) > MOST_ROWS or any(len(row) != len(head) for row in rows):
        return None
    given = one.card.get("units")
    units = given if isinstance(given, dict) else {}
    numeric = [all(_is_number(row[index]) for row in rows) for index in range(len(head))]
    columns = [
        Column(title, str(units.get(title, "")), number=number)
        for title, number in zip(head, numeric, strict=True)
    ]
    grid = table(name, f"Numbers of: {one.card['title']}", columns, [Row(row) for row in rows])
    return h("details", h("summary", "Its numbers"), grid)


def _is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True

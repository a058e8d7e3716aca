"""A figure as files: a picture, its numbers, and what one must know to believe them.

NAME.png and NAME.svg are the picture, NAME.csv the numbers that it draws, and NAME.json says what is to be seen,
how it was made, and of what. The last is written last: where it is, the others are whole, and of the same figure.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vitgraft.atomic import json_of, write_atomically
from vitgraft.errors import ArtefactError
from vitgraft.report.style import rendered

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

SCHEMA = 1
CARD = ".json"
SUFFIXES = (".png", ".svg", ".csv", CARD)


@dataclass(frozen=True)
class Figure:
    """What stands around a picture.

    `caption` tells in whole sentences what is to be seen, with its n and its seeds; `notes` are lines below it.
    `columns` and `rows` are the numbers that are drawn, with the unit of each column in `units` where it has one.
    `n` counts what was measured and `of` says what that is, such as images. `backbone` is its name and digest,
    perhaps with a checkpoint and an image size; several are a list. `found` holds the numbers that the caption
    tells. `command` makes the figure again.
    """

    name: str
    title: str
    caption: str
    command: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | None]]
    units: Mapping[str, str] = field(default_factory=dict)
    n: int | None = None
    of: str = "images"
    seeds: Sequence[int] = ()
    backbone: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    device: str | None = None
    notes: Sequence[str] = ()
    found: Mapping[str, Any] = field(default_factory=dict)

    def write(self, drawing: "Drawing", folder: Path) -> list[Path]:
        """Write the four files; returns their paths. Call it within `style.styled`.

        Raises:
            OSError: what the system says, of the file that cannot be written.
        """
        paths = {suffix: folder / f"{self.name}{suffix}" for suffix in SUFFIXES}
        contents = {
            ".png": rendered(drawing, "png", self.title),
            ".svg": rendered(drawing, "svg", self.title),
            ".csv": self._csv(),
            CARD: (json_of(self.card(), indent=1) + "\n").encode(),
        }
        paths[CARD].unlink(missing_ok=True)
        for suffix, content in contents.items():
            write_atomically(paths[suffix], content)
        return list(paths.values())

    def card(self) -> dict[str, Any]:
        """What NAME.json holds: everything but the numbers, with versions and vitgraft's own commit."""
        from vitgraft.results.provenance import commit, versions

        told = {key: value for key, value in asdict(self).items() if key not in ("columns", "rows")}
        return {"schema": SCHEMA, **told, "versions": versions(), "commit": commit()}

    def _csv(self) -> bytes:
        file = StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(["" if value is None else value for value in row] for row in self.rows)
        return file.getvalue().encode()


def check_free(folder: Path, name: str, command: str, replace: bool, option: str = "--force") -> None:
    """Raise ArtefactError if a figure's files are there, unless the same command made them or they may go.

    Called before anything is computed. `option` is what the command calls the wish to replace it.
    """
    if replace:
        return
    there = [path for suffix in SUFFIXES if (path := folder / f"{name}{suffix}").exists()]
    if there and _maker(folder / f"{name}{CARD}") != command:
        raise ArtefactError(
            f"'{there[0]}' is there already, and this very command did not make it. Name another folder (--out) "
            f"or figure (--name), or replace it with {option}."
        )


def _maker(card: Path) -> str | None:
    """The command that made a figure, if its card can be read."""
    try:
        found = json.loads(card.read_text())
    except (OSError, ValueError):
        return None
    return str(found.get("command")) if isinstance(found, dict) else None

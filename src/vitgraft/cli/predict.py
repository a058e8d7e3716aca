"""`vitgraft predict`: class probabilities of pictures."""

import csv
import io
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from vitgraft.cli import guard, show
from vitgraft.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from vitgraft.models.bundle import Bundle

CHUNK = 256
"""Pictures that are held in memory at a time."""


class Format(StrEnum):
    """How predictions are printed."""

    table = "table"
    json = "json"
    csv = "csv"


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] IMAGES...",
            help="The folder that fit wrote, then image files, folders (searched at any depth), or quoted globs.",
            show_default=False,
        ),
    ],
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", help="A run to ask, too; all share one pass through the backbone.", metavar="RUN"),
    ] = None,
    format: Annotated[Format, typer.Option(help="How to print.")] = Format.table,
    top: Annotated[int, typer.Option(min=1, help="How many classes an image.")] = 1,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out images that cannot be read, and list them.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although the backbone's weights are others.")
    ] = False,
) -> None:
    """Print the classes of pictures, the likeliest first.

    Examples:

      vitgraft predict runs/photos img.jpg 'more/*.png'

      vitgraft predict runs/photos holiday/ --top 3 --format json > holiday.json

      vitgraft predict --with runs/animals --with runs/weather holiday/
    """
    runs, images = _runs(paths, others or [])
    from vitgraft.data.source import expand_images

    files = expand_images(images)
    from vitgraft.models.bundle import Bundle

    bundle = Bundle.load(runs, force=force)
    skipped: list[str] = []
    rows: list[Row] = []
    for names, pictures in _chunks(files, skipped if skip_unreadable else None):
        answers = {run: _ranked(bundle, run, found, top) for run, found in bundle.predict(pictures).items()}
        rows += [Row(name, run, answers[run][index]) for index, name in enumerate(names) for run in answers]
    _print(rows, format, several=len(runs) > 1)
    for message in skipped:
        guard.note(f"Left out: {message}")
    if skipped:
        guard.note(f"{len(skipped)} of {len(files)} images were left out.")
    if not rows:
        raise DataError("No image could be read.")


class Row(NamedTuple):
    """What one run says about one image: classes with their probabilities, the likeliest first."""

    image: str
    run: str
    ranked: list[tuple[str, float]]


def _runs(paths: Sequence[str], others: Sequence[Path]) -> tuple[list[str], list[str]]:
    """The runs and the images that a command line names. The first path is a run; with --with it need not be.

    Raises:
        DataError: no images are left.
    """
    from vitgraft.models.artefact import CARD

    first = not others or (Path(paths[0]) / CARD).is_file()
    images = list(paths[first:])
    if not images:
        raise DataError(f"'{paths[0]}' is taken for the run, and no images are named. Add image files or folders.")
    return list(dict.fromkeys([*paths[:first], *map(str, others)])), images


def _chunks(paths: Sequence[Path], skipped: list[str] | None) -> Iterator[tuple[list[str], list["Image"]]]:
    """Names and pictures, `CHUNK` at a time. What cannot be read goes to `skipped`, or raises DataError."""
    from vitgraft.data.decode import UnreadableImage, read_image

    names: list[str] = []
    pictures: list[Image] = []
    for path in paths:
        try:
            pictures.append(read_image(path))
            names.append(str(path))
        except UnreadableImage as error:
            if skipped is None:
                raise DataError(f"{error} Or leave such images out: --skip-unreadable.") from None
            skipped.append(str(error))
        if len(names) == CHUNK:
            yield names, pictures
            names, pictures = [], []
    if names:
        yield names, pictures


def _ranked(bundle: "Bundle", run: str, probabilities: "Tensor", top: int) -> list[list[tuple[str, float]]]:
    """The `top` likeliest classes of each picture with their probabilities, from (n, C) of them."""
    names = bundle.members[run].class_names
    best = probabilities.topk(min(top, len(names)), dim=1)
    return [
        [(names[label], probability) for label, probability in zip(*row, strict=True)]
        for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _print(rows: Sequence[Row], format: Format, several: bool) -> None:
    """The answers; which run gave one is told where there are several."""
    if format is Format.json:
        show.as_json([_as_json(row, several) for row in rows])
        return
    lines = [
        (row, rank, label, probability)
        for row in rows
        for rank, (label, probability) in enumerate(row.ranked, start=1)
    ]
    runs = ("run",) if several else ()
    if format is Format.csv:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("image", *runs, "rank", "label", "probability"))
        for row, rank, label, probability in lines:
            writer.writerow((row.image, *([row.run] if several else []), rank, label, f"{probability:.6f}"))
        typer.echo(text.getvalue(), nl=False)
        return
    cells = []
    for row, rank, label, probability in lines:
        named = (row.image, row.run) if several else (row.image,)
        cells.append((*(name if rank == 1 else "" for name in named), label, f"{100 * probability:.1f} %"))
    show.table("", ("image", *runs, "class", "probability"), cells, right=("probability",))


def _as_json(row: Row, several: bool) -> dict[str, Any]:
    classes = [{"label": label, "probability": probability} for label, probability in row.ranked]
    return {"image": row.image, **({"run": row.run} if several else {}), **classes[0], "classes": classes}

"""`vitgraft predict`: class probabilities of pictures."""

import csv
import io
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraft.cli import guard, show
from vitgraft.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from vitgraft.model import Model

CHUNK = 256
"""Pictures that are held in memory at a time."""


class Format(StrEnum):
    """How predictions are printed."""

    table = "table"
    json = "json"
    csv = "csv"


def predict(
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote.", show_default=False)],
    images: Annotated[
        list[str],
        typer.Argument(help="Image files, folders (searched at any depth), or quoted globs.", show_default=False),
    ],
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
    """
    from vitgraft.data.source import expand_images

    paths = expand_images(images)
    from vitgraft.model import load

    model = load(run, force=force)
    skipped: list[str] = []
    rows: list[tuple[str, list[tuple[str, float]]]] = []
    for names, pictures in _chunks(paths, skipped if skip_unreadable else None):
        rows += zip(names, _ranked(model, pictures, top), strict=True)
    _print(rows, format)
    for message in skipped:
        guard.note(f"Left out: {message}")
    if skipped:
        guard.note(f"{len(skipped)} of {len(paths)} images were left out.")
    if not rows:
        raise DataError("No image could be read.")


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


def _ranked(model: "Model", pictures: Sequence["Image"], top: int) -> list[list[tuple[str, float]]]:
    """The `top` likeliest classes of each picture with their probabilities."""
    best = model.predict(pictures).topk(min(top, len(model.class_names)), dim=1)
    return [
        [(model.class_names[label], probability) for label, probability in zip(*row, strict=True)]
        for row in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


def _print(rows: Sequence[tuple[str, list[tuple[str, float]]]], format: Format) -> None:
    if format is Format.json:
        show.as_json([_as_json(image, ranked) for image, ranked in rows])
        return
    lines = [
        (image, str(rank), label, probability)
        for image, ranked in rows
        for rank, (label, probability) in enumerate(ranked, start=1)
    ]
    if format is Format.csv:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("image", "rank", "label", "probability"))
        writer.writerows((*rest, f"{probability:.6f}") for *rest, probability in lines)
        typer.echo(text.getvalue(), nl=False)
        return
    cells = [
        (image if rank == "1" else "", label, f"{100 * probability:.1f} %")
        for image, rank, label, probability in lines
    ]
    show.table("", ("image", "class", "probability"), cells, right=("probability",))


def _as_json(image: str, ranked: Sequence[tuple[str, float]]) -> dict[str, Any]:
    classes = [{"label": label, "probability": probability} for label, probability in ranked]
    return {"image": image, **classes[0], "classes": classes}

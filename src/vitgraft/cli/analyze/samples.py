"""`vitgraft analyze samples`: sheets of images."""

from typing import Annotated, Any

import typer

from vitgraft.cli.analyze.asked import Place, place_of
from vitgraft.cli.analyze.tasks import Tasks, loaded, titles
from vitgraft.cli.evaluate import Asked as Part
from vitgraft.cli.options import given_by, read_as


@given_by(place_of, read_as)
def samples(
    place: Place,
    how: dict[str, Any],
    data: Tasks,
    split: Annotated[
        Part, typer.Option(help="Which images are drawn from: train, val, test or all.")
    ] = Part.train,
    count: Annotated[int, typer.Option(min=1, help="Images of each data set.")] = 16,
    columns: Annotated[int, typer.Option(min=1, help="Images side by side in a sheet.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the images.")] = 0,
) -> None:
    """Draw sheets of sample images with their classes, several data sets side by side (SPT, fig. F).

    Images are shown as they are, before preprocessing: first look at what a model will see, and compare the source
    images of a backbone with those of a task.

    Examples:

      vitgraft analyze samples flowers textures landuse

      vitgraft analyze samples source-photos/ photos.csv --split test --count 25 --columns 5 --out sheets
    """
    from vitgraft.analyze import samples as sheets
    from vitgraft.cli.analyze.tasks import part
    from vitgraft.report.style import styled

    place.check_free()
    tasks = loaded(data, how, of_classes=True)
    found = [
        sheets.sheet(title, str(split), part(task, str(split)), count, seed)
        for title, task in zip(titles(data), tasks, strict=True)
    ]
    with styled():
        place.write(sheets.figure(place.name, place.command, found, seed), sheets.draw(found, columns))

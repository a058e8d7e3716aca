"""`vitgraft analyze importance`: SynQT's instance-aware weights."""

from pathlib import Path
from typing import Annotated, Any

import typer

from vitgraft.cli.analyze.asked import Place, described, place_of
from vitgraft.cli.analyze.runs import Checkpoint, Device, Its, Others, images, loaded
from vitgraft.cli.options import given_by, read_as


@given_by(place_of, read_as)
def importance(
    place: Place,
    how: dict[str, Any],
    run: Annotated[Path, typer.Argument(help="The folder of a run of synqt.", show_default=False)],
    count: Annotated[int, typer.Option(min=1, help="Images, some of each class in turn.")] = 16,
    split: Its = None,
    data: Others = None,
    seed: Annotated[int, typer.Option(min=0, help="Chooses the images.")] = 0,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
) -> None:
    """Draw how much each image takes of each feature: SynQT's instance-aware weights (SynQT, fig. 2).

    The 3 L features are what the queries gave at each block: its output, its attention branch, its FFN branch.
    Shares of weights above 0.8 and below 0.2 stand in the caption.

    Examples:

      vitgraft analyze importance runs/flowers-synqt-figures

      vitgraft analyze importance runs/photos --count 40 --split val
    """
    from vitgraft.analyze import importance as weights
    from vitgraft.analyze.samples import some_of_each
    from vitgraft.report.style import styled
    from vitgraft.results.provenance import device_name

    place.check_free()
    model = loaded(run, checkpoint)
    part = images(run, model, split, data, how)
    found = weights.importance(model, part, some_of_each(part.labels, count, seed), device)
    facts = {"seeds": (seed,), "backbone": described(model.backbone, checkpoint)}
    facts["device"] = device_name(model.backbone.device)
    with styled():
        figure = weights.figure(place.name, place.command, run.name, found, facts)
        place.write(figure, weights.draw(found))
    typer.echo(
        f"{len(found.names)} images: {found.high():.0f} % of the weights are above {weights.HIGH}, "
        f"{found.low():.0f} % below {weights.LOW}; {found.between:.0f} % of their variance is between images."
    )

"""`vitgraft analyze features`: what each block's readings are worth for a task."""

from typing import Annotated, Any

import typer

from vitgraft.cli.analyze.asked import Asked, asked_of, described
from vitgraft.cli.analyze.tasks import Tasks, loaded, titles
from vitgraft.cli.options import given_by, read_as


@given_by(asked_of, read_as)
def features(
    asked: Asked,
    how: dict[str, Any],
    data: Tasks,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    workers: Annotated[int, typer.Option(min=0, help="Processes that read images beside this one.")] = 0,
    cache: Annotated[
        str, typer.Option(help="Where readings are kept, so that a stopped pass goes on: auto, disk, ram or off.")
    ] = "auto",
) -> None:
    """Draw what each block's readings are worth for a task: the cheapest answer to where to tune.

    One pass reads the class token and the mean of the patch tokens after every block; linear probes on each are
    trained on train, their penalty chosen on val, and test is read once. Nothing of the backbone is tuned.

    Examples:

      vitgraft analyze features flowers textures dspr_loc

      vitgraft analyze features photos/ --backbone dinov2-s --image-size 112
    """
    from vitgraft.analyze import features as worth
    from vitgraft.data.preprocessing import adopted
    from vitgraft.machine.progress import counted
    from vitgraft.models.planting import own_preprocessing
    from vitgraft.report.style import styled
    from vitgraft.results.provenance import device_name
    from vitgraft.train.settings import Training

    asked.check_free()
    settings = Training(device=device, workers=workers, cache=cache)  # type: ignore[arg-type]
    tasks = loaded(data, how, of_classes=True)
    frozen = asked.load()
    curves = []
    with counted("probes", len(tasks) * len(worth.taps(frozen)), shown=True) as advance:
        for title, task in zip(titles(data), tasks, strict=True):
            seen = adopted(own_preprocessing(frozen), task.splits["train"].images)
            curves.append(worth.curve(title, task, frozen, seen, settings, lambda more: advance()))
    facts = {"backbone": described(frozen, asked.checkpoint), "device": device_name(frozen.device)}
    with styled():
        asked.write(worth.figure(asked.name, asked.command, curves, facts), worth.draw(curves))
    for one in curves:
        typer.echo(worth.advice(one))

"""`vitgraft analyze embedding`: what the classifiers of several runs read, side by side."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraft.cli import guard
from vitgraft.cli.analyze.asked import Place, described, place_of
from vitgraft.cli.analyze.runs import Checkpoint, Device, Its, Others, images, loaded
from vitgraft.cli.options import given_by, read_as
from vitgraft.errors import ConfigError, DataError

if TYPE_CHECKING:
    from vitgraft.data.task import Split
    from vitgraft.models.model import Model

FROZEN = "frozen"


@given_by(place_of, read_as)
def embedding(
    place: Place,
    how: dict[str, Any],
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.", show_default=False)],
    count: Annotated[int, typer.Option(min=4, help="Images at most, some of each class in turn.")] = 400,
    classes: Annotated[int, typer.Option(min=2, help="At most so many classes, the first that have images.")] = 10,
    neighbours: Annotated[int, typer.Option(min=1, help="Neighbours that vote in k-NN.")] = 5,
    split: Its = None,
    data: Others = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the images' choice and of t-SNE.")] = 0,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
) -> None:
    """Draw what the classifiers of runs read by t-SNE and PCA, beside the frozen model (SynQT, fig. 3).

    All see the same images: by default test images of the first run. Under each picture stand the leave-one-out
    accuracy of nearest neighbours and the silhouette, which say in numbers how far apart classes are.

    Examples:

      vitgraft analyze embedding runs/flowers-vqt-figures runs/flowers-synqt-figures runs/flowers-lora-figures

      vitgraft analyze embedding runs/photos --split val --classes 5
    """
    from vitgraft.analyze import embedding as embed
    from vitgraft.analyze.samples import names_of
    from vitgraft.machine.progress import counted
    from vitgraft.report.style import styled

    place.check_free()
    models = [loaded(run, checkpoint) for run in runs]
    _check_classes(runs, models)
    part = _some(images(runs[0], models[0], split, data, how), count, classes, seed)
    _tell_seen(runs, models, part)
    backbones = {model.backbone.fingerprint(): model for model in reversed(models)}
    titles = _titles(runs, models)
    found = []
    with counted("images", len(part) * (len(models) + len(backbones)), shown=True) as advance:
        for number, model in enumerate(reversed(backbones.values())):
            values = embed.frozen_features(model.backbone, part.images, model.preprocessing, device, advance)
            title = FROZEN if len(backbones) == 1 else f"{FROZEN} {number + 1}"
            found.append(embed.embed(title, values, part.labels, neighbours, seed))
        for title, model in zip(titles, models, strict=True):
            values = embed.classifier_features(model, part.images, device, advance)
            found.append(embed.embed(title, values, part.labels, neighbours, seed))
    assert part.classes is not None, "images of a run have its classes"
    shown = [part.classes[label] for label in part.labels]
    told = f"{len(part):,} images of {len(set(shown))} classes"
    facts: dict[str, Any] = {"seeds": (seed,)}
    facts["backbone"] = [described(model.backbone, checkpoint) for model in backbones.values()]
    names = names_of(part.images)
    with styled():
        figure = embed.figure(place.name, place.command, found, names, shown, told, facts)
        place.write(figure, embed.draw(found, part.labels, part.classes, neighbours))
    for one in found:
        typer.echo(f"{one.title}: {neighbours}-NN {one.knn:.1f} %, silhouette {one.silhouette:.3f}")


def _check_classes(runs: Sequence[Path], models: "Sequence[Model]") -> None:
    """Raise ConfigError for runs of different tasks."""
    for run, model in zip(runs, models, strict=True):
        if set(model.class_names) != set(models[0].class_names):
            raise ConfigError(
                f"'{run}' and '{runs[0]}' have different classes ({model.class_names[0]!r}, ... and "
                f"{models[0].class_names[0]!r}, ...). Name runs of one task."
            )


def _some(part: "Split", count: int, classes: int, seed: int) -> "Split":
    """`count` images of at most so many classes. Raises DataError if they are of one class."""
    import numpy as np

    from vitgraft.analyze.samples import some_of_each
    from vitgraft.data.task import Split, chosen

    present = np.unique(part.labels)[:classes]
    inside = np.flatnonzero(np.isin(part.labels, present))
    places = inside[some_of_each(part.labels[inside], count, seed)]
    if len(present) < 2 or len(places) <= len(present):
        raise DataError(
            f"{len(places)} images of {len(present)} classes: choose another --split, or more --count."
        )
    return Split(chosen(part.images, places), part.labels[places], part.classes)


def _tell_seen(runs: Sequence[Path], models: "Sequence[Model]", part: "Split") -> None:
    """Say so if a model was trained on some of the images."""
    from vitgraft.data.measured import trained_on

    for run, model in zip(runs, models, strict=True):
        for line in trained_on(part, model.kept) if model.kept is not None else ():
            guard.note(f"{run}: {line}")


def _titles(runs: Sequence[Path], models: "Sequence[Model]") -> list[str]:
    """Methods' names, with what tells two of a figure apart: their fields, or else the run's folder."""
    from vitgraft.methods import spec_of

    names = [model.method.name for model in models]
    specs = [spec_of(model.method) for model in models]
    return [
        name if names.count(name) == 1 else spec if specs.count(spec) == 1 else run.name
        for name, spec, run in zip(names, specs, runs, strict=True)
    ]

"""What commands of `vitgraft analyze` share that look at finished runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraft.cli import guard
from vitgraft.cli.evaluate import Asked as Part

if TYPE_CHECKING:
    from vitgraft.data.task import Split
    from vitgraft.models.model import Model

Checkpoint = Annotated[
    Path | None,
    typer.Option(
        help="The backbone's weights in a local file, if they are not where they were.", show_default=False
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Its = Annotated[
    Part | None,
    typer.Option(help="Which of the run's images; by default test, or all of other data without splits."),
]
Others = Annotated[
    str | None, typer.Option("--data", help="Other labelled images than the run's own.", show_default=False)
]


def loaded(run: Path, checkpoint: Path | None) -> "Model":
    """The model of a run. Raises ArtefactError."""
    from vitgraft.models.model import load

    return load(run, checkpoint=checkpoint)


def images(run: Path, model: "Model", part: Part | None, data: str | None, how: dict[str, Any]) -> "Split":
    """Labelled images of a run's classes, its own or other data; what was chosen is told. Raises DataError."""
    from vitgraft.data.labelling import need_classes
    from vitgraft.data.naming import matched
    from vitgraft.runs.kept_split import part_of_run

    need_classes(model.target.kind, "This analysis")
    found = part_of_run(run, None if part is None else str(part), data=data, reading=how)
    match = matched(found.split, model.class_names)
    for note in (*found.notes, *match.notes):
        guard.note(note)
    return match.split

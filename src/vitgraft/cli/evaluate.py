"""`vitgraft eval`: how well a saved graft does on labelled images."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitgraft.cli import show
from vitgraft.errors import DataError

if TYPE_CHECKING:
    from vitgraft.data.task import Split, Task
    from vitgraft.train.metrics import Metrics


class Part(StrEnum):
    """Which images of a task are meant."""

    train = "train"
    val = "val"
    test = "test"
    all = "all"


def evaluate(
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote.", show_default=False)],
    data: Annotated[
        str | None, typer.Argument(help="Labelled images; by default those of the run.", show_default=False)
    ] = None,
    root: Annotated[
        str | None, typer.Option(help="Folder of a benchmark's copy, or that a list's paths are relative to.")
    ] = None,
    split: Annotated[Part, typer.Option(help="Which of them.")] = Part.test,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although the backbone's weights are others.")
    ] = False,
) -> None:
    """Measure loss and accuracies of a saved graft on labelled images.

    Examples:

      vitgraft eval runs/photos

      vitgraft eval runs/photos new-photos/ --split all --json

      vitgraft eval runs/cifar vtab1k:cifar100 --root vtab-1k/
    """
    from vitgraft.models.model import load
    from vitgraft.runs.config import DATA, KEPT, RunConfig, keys, read_toml
    from vitgraft.runs.run import load_task

    model = load(run, force=force)
    kept = run / KEPT
    if data is None and not kept.is_file():
        raise DataError(f"'{run}' does not say what it was trained on. Name the images: vitgraft eval {run} DATA")
    given = read_toml(kept) if kept.is_file() else {}
    reading = {key: value for key, value in given.items() if keys()[key].panel == DATA}
    if data is not None:
        reading |= {"data": data, "root": None, "train_on": "train"}
    chosen = RunConfig.of(reading if root is None else {**reading, "root": root})
    try:
        task = load_task(chosen)
    except DataError as error:
        if data is not None:
            raise
        raise DataError(
            f"{run} was trained on {chosen.data!r}, as it was called where the run began, and that cannot be read "
            f"here. Name the images: vitgraft eval {run} DATA. {error}"
        ) from None
    metrics = model.evaluate(_relabelled(_part(task, split), task.classes, model.class_names))
    if as_json:
        show.as_json({"data": chosen.data, "split": str(split), **asdict(metrics)})
    else:
        _print(metrics, f"{task.name}, {split}")


def _part(task: "Task", split: Part) -> "Split":
    """The images of a split, or of all."""
    from vitgraft.data.task import joined

    if split is Part.all:
        return joined(list(task.splits.values()))
    if split not in task.splits:
        have = ", ".join([*task.splits, Part.all])
        raise DataError(f"{task.name} has no {split} split. Choose another with --split: {have}.")
    return task.splits[split]


def _relabelled(split: "Split", theirs: tuple[str, ...], ours: tuple[str, ...]) -> "Split":
    """`split`, whose labels are indices of `theirs`, with the model's own labels: classes are matched by name."""
    import numpy as np

    foreign = [name for name in theirs if name not in ours]
    if foreign:
        raise DataError(
            f"The model knows no class {', '.join(map(repr, foreign[:5]))}. Its classes are "
            f"{', '.join(map(repr, ours[:20]))}{', ...' if len(ours) > 20 else ''}. Rename or remove what differs."
        )
    index: Mapping[str, int] = {name: label for label, name in enumerate(ours)}
    return replace(split, labels=np.array([index[name] for name in theirs], dtype=np.int64)[split.labels])


def _print(metrics: "Metrics", title: str) -> None:
    typer.secho(f"{title}: {metrics.n:,} images", bold=True)
    show.pairs(
        {
            "top-1": show.percent(metrics.top1),
            "top-5": show.percent(metrics.top5),
            "mean per class": show.percent(metrics.mean_per_class),
            "loss": f"{metrics.loss:.4f}",
        }
    )

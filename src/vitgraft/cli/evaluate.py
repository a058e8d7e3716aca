"""`vitgraft eval`: how well a saved graft does on labelled images."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitgraft.cli import show
from vitgraft.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

    from vitgraft.data.task import ImageSource, Split, Task
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
    """
    from vitgraft.config import KEPT, RunConfig, read_toml
    from vitgraft.model import load
    from vitgraft.run import load_task

    model = load(run, force=force)
    kept = run / KEPT
    if data is None and not kept.is_file():
        raise DataError(f"'{run}' does not say what it was trained on. Name the images: vitgraft eval {run} DATA")
    chosen = RunConfig.of((read_toml(kept) if kept.is_file() else {}) | ({"data": data} if data else {}))
    if data is not None:
        chosen = replace(chosen, root=None)
    task = load_task(chosen)
    metrics = model.evaluate(_relabelled(_part(task, split), task.classes, model.class_names))
    if as_json:
        show.as_json({"data": chosen.data, "split": str(split), **asdict(metrics)})
    else:
        _print(metrics, f"{task.name}, {split}")


@dataclass(frozen=True)
class Joined:
    """Several image sources, one after the other."""

    parts: tuple["ImageSource", ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> "Image":
        part, inner = self._at(index)
        return part[inner]

    def name(self, index: int) -> str:
        part, inner = self._at(index)
        return part.name(inner)

    def fingerprint(self) -> str:
        return "+".join(part.fingerprint() for part in self.parts)

    def _at(self, index: int) -> tuple["ImageSource", int]:
        for part in self.parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise IndexError(index)


def _part(task: "Task", split: Part) -> "Split":
    """The images of a split, or of all."""
    import numpy as np

    from vitgraft.data.task import Split

    if split is Part.all:
        parts = list(task.splits.values())
        return Split(Joined(tuple(part.images for part in parts)), np.concatenate([part.labels for part in parts]))
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

"""`vitgraft eval`: how well a saved graft does on labelled images."""

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraft.atomic import json_of
from vitgraft.cli import guard, show
from vitgraft.cli.asking import (
    Checkpoint,
    OtherWeights,
    Out,
    Reads,
    Replace,
    RunsOn,
    Uncalibrated,
    as_asked,
    list_given,
    reads,
    results,
    runs_on,
    tell_arithmetic,
)
from vitgraft.cli.options import given_by
from vitgraft.cli.reached import learned, measured
from vitgraft.cli.truth import Called, Report, called, check_page, looked_at, write_page
from vitgraft.errors import ConfigError

if TYPE_CHECKING:
    from vitgraft.data.measured import Part
    from vitgraft.data.naming import Matched
    from vitgraft.data.task import Split
    from vitgraft.models.model import Model
    from vitgraft.train.targets import Measured

JSON = ".json"
SHOWN = 5
"""Classes without images that a sentence names."""


class Asked(StrEnum):
    """Which images are meant: a split, all, or those that the run has not seen."""

    train = "train"
    val = "val"
    test = "test"
    all = "all"
    new = "new"


IMAGES = "Images"
"""Where help lists how labelled images are read."""


@dataclass(frozen=True)
class Wanted:
    """Which labelled images are measured, and what is done about those that do not fit.

    `reading` has keys of a run that say how data are read.
    """

    part: str | None
    reading: dict[str, str]
    ignore_unknown: bool
    by_index: bool
    allow_missing: bool
    skip_unreadable: bool


def _text(help: str) -> Any:
    return typer.Option(help=help, rich_help_panel=IMAGES, show_default=False)


def _flag(name: str, help: str) -> Any:
    return typer.Option(name, help=help, rich_help_panel=IMAGES)


def wanted(
    split: Annotated[
        Asked | None,
        _text("Which images; new: those that the run has not seen. By default test, or all without splits."),
    ] = None,
    root: Annotated[
        str | None, _text("Folder of a benchmark's copy, or that a list's paths are relative to.")
    ] = None,
    path_column: Annotated[str | None, _text("Column of a CSV with the paths.")] = None,
    label_column: Annotated[str | None, _text("Column of a CSV with the labels.")] = None,
    split_column: Annotated[str | None, _text("Column of a CSV with the splits; none: all rows are one.")] = None,
    suffix: Annotated[str | None, _text("Added to a list's paths, such as .jpg.")] = None,
    ignore_unknown: Annotated[
        bool, _flag("--ignore-unknown", "Leave out images of classes that the model does not know.")
    ] = False,
    by_index: Annotated[
        bool, _flag("--by-index", "Labels 0, 1, ... are the model's classes in their order.")
    ] = False,
    allow_missing: Annotated[
        bool, _flag("--allow-missing", "Measure what is left where images are gone.")
    ] = False,
    skip_unreadable: Annotated[
        bool, _flag("--skip-unreadable", "Leave out images that cannot be read, and list them.")
    ] = False,
) -> Wanted:
    """The options that say which labelled images are measured."""
    given = {
        "root": root,
        "path_column": path_column,
        "label_column": label_column,
        "split_column": split_column,
        "suffix": suffix,
    }
    reading = {name: value for name, value in given.items() if value is not None}
    part = None if split is None else str(split)
    return Wanted(part, reading, ignore_unknown, by_index, allow_missing, skip_unreadable)


@dataclass(frozen=True)
class Loads:
    """How a graft is loaded: where its weights are, whether others will do, whether it may be calibrated."""

    checkpoint: Path | None
    force: bool
    uncalibrated: bool


def loads(checkpoint: Checkpoint = None, force: OtherWeights = False, uncalibrated: Uncalibrated = False) -> Loads:
    """The options that say how a graft is loaded."""
    return Loads(checkpoint, force, uncalibrated)


@dataclass(frozen=True)
class Ready:
    """A model and the images that it is measured on, with its own labels, and what was told of them."""

    model: "Model"
    part: "Part"
    match: "Matched"
    notes: list[str]


def ready(run: Path, source: str | None, which: Wanted, how: Reads, load_as: Loads, piped: bool = False) -> Ready:
    """A run's model, and the images that are meant; what is to be known of them is told.

    Paths of a list that was `piped` are relative to where the command is called.
    """
    from vitgraft.data.pictures.survey import as_the_model_reads
    from vitgraft.models.model import load

    model = load(run, checkpoint=load_as.checkpoint, force=load_as.force).with_pixel_range(how.pixel_range)
    model = as_asked({str(run): model}, load_as.uncalibrated)[str(run)]
    part, match, notes = _images(run, source, which, how, model.class_names, piped)
    notes += as_the_model_reads(match.split.images, model.preprocessing.pixel_range)
    for note in notes:
        guard.note(note)
    return Ready(model, part, match, notes)


@given_by(wanted, runs_on, reads, loads, called)
def evaluate(
    which: Wanted,
    on: RunsOn,
    how: Reads,
    load_as: Loads,
    call: Called,
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote.", show_default=False)],
    data: Annotated[
        str | None,
        typer.Argument(
            help="Labelled images, by default those of the run; - for a list of them from standard input.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    out: Out = None,
    report: Report = None,
    replace: Replace = False,
) -> None:
    """Measure loss and accuracies of a saved graft on labelled images, or what else its labels are measured by.

    Of the run's own data, its test images are measured: those that it listed in split.csv when it began, whatever
    was added since. Other data are measured whole, unless they have splits of their own. Classes are matched by
    name. What was chosen, changed or left out is told on stderr, and stands in the JSON under notes. A file of
    --out is JSON.

    With --report a page tells more: the worst mistakes as pictures, scores class by class, whether probabilities
    mean what they say, labels that are likely wrong, and near-duplicates within and across splits.

    Examples:

      vitgraft eval runs/photos

      vitgraft eval runs/photos --report photos.html

      vitgraft eval runs/photos --split new

      vitgraft eval runs/photos new-photos/ --json

      vitgraft eval runs/cifar vtab1k:cifar100 --root vtab-1k/
    """
    if out is not None and out.suffix.lower() != JSON:
        raise ConfigError(f"'{out}' must end in {JSON}: what eval measures is written as JSON.")
    check_page(report, replace)
    with results(out, replace) as file, list_given(data) as source:
        now = ready(run, source, which, how, load_as, source is not data)
        truth = None if report is None else looked_at(now, run, on, own=data is None)
        if truth is not None and report is not None:
            write_page(truth, report, call)
        metrics = _metrics(now.model, now.match.split, on) if truth is None else truth.metrics
        facts = _facts(now, metrics)
        if out is not None:
            file.write(json_of(facts, indent=2) + "\n")
            guard.note(f"Wrote {out}.")
    if as_json:
        show.as_json(facts)
    else:
        _print(now.part, now.match, metrics)


def _images(
    run: Path, source: str | None, which: Wanted, how: Reads, names: tuple[str, ...], piped: bool = False
) -> "tuple[Part, Matched, list[str]]":
    """The images that are meant, with the model's labels, and what is to be told of them.

    Paths of a list that was `piped` are relative to where the command is called.
    """
    from vitgraft.data.measured import readable
    from vitgraft.data.naming import matched
    from vitgraft.runs.kept_split import part_of_run

    reading = {**({"root": os.getcwd()} if piped else {}), **which.reading, **how.given()}
    part = part_of_run(run, which.part, data=source, reading=reading, allow_missing=which.allow_missing)
    part = readable(part, which.skip_unreadable)
    match = matched(part.split, names, ignore_unknown=which.ignore_unknown, by_index=which.by_index)
    return part, match, [*part.notes, *match.notes, *_absent(match.split, names)]


def _metrics(model: "Model", split: "Split", on: RunsOn) -> "Measured":
    from vitgraft.machine.placement import place
    from vitgraft.train import measure

    tell_arithmetic(on, place(on.device))
    how = {"divisor": model.divisor, "target": model.target, **asdict(on)}
    return measure.evaluate(model.tuned, split, model.preprocessing, **how)


def _present(split: "Split", names: tuple[str, ...]) -> list[str]:
    """Classes that have images; of numbers all."""
    from vitgraft.data.labelling import labelling

    kind = labelling(split.kind)
    there = {name for text in replace(split, classes=names).texts() for name in kind.parts(text)}
    return list(kind.used(there, names))


def _absent(split: "Split", names: tuple[str, ...]) -> list[str]:
    """A sentence on classes that have no images, if there are some."""
    there = set(_present(split, names))
    absent = [name for name in names if name not in there]
    if not absent:
        return []
    named = ", ".join(map(repr, absent[:SHOWN])) + (
        f" and {len(absent) - SHOWN:,} more" if len(absent) > SHOWN else ""
    )
    return [f"{len(absent)} of {len(names)} classes have no image here: {named}."]


def _facts(now: Ready, metrics: "Measured") -> dict[str, Any]:
    """What is printed as JSON; accuracies are of the images and classes that are there."""
    part, match, model = now.part, now.match, now.model
    names = match.split.classes or ()
    there = _present(match.split, names)
    left_out: Mapping[str, int] = match.left_out or {}
    return {
        "data": part.of,
        "split": part.name,
        **asdict(metrics),
        **learned(model.target, names, metrics),
        "temperature": None if model.temperature is None else asdict(model.temperature),
        "classes": len(names),
        "classes_present": len(there),
        "absent": [name for name in names if name not in set(there)],
        "unknown": dict(left_out),
        "missing": part.missing,
        "unreadable": part.skipped,
        "notes": now.notes,
    }


def _print(part: "Part", match: "Matched", metrics: "Measured") -> None:
    names = match.split.classes or ()
    there = _present(match.split, names)
    over = "" if len(there) == len(names) else f", over the {len(there)} of {len(names)} classes that are here"
    typer.secho(f"{part.of}, {part.name}: {metrics.n:,} image{'s' * (metrics.n != 1)}", bold=True)
    show.pairs(measured(metrics, names, over))

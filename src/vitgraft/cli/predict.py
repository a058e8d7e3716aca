"""`vitgraft predict`: class probabilities of pictures."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitgraft.cli import guard
from vitgraft.cli.asking import (
    STDIN,
    Checkpoints,
    OtherWeights,
    Reads,
    RunsOn,
    Uncalibrated,
    Writes,
    as_asked,
    check_named,
    reads,
    results,
    runs_on,
    standard_input,
    tell_arithmetic,
    writes,
)
from vitgraft.cli.evaluate import Asked
from vitgraft.cli.options import given_by
from vitgraft.cli.rows import Expected, Row, Writer, row_of, writing
from vitgraft.errors import DataError, command
from vitgraft.machine.progress import counted

if TYPE_CHECKING:
    from vitgraft.data.reading.left_out import Left
    from vitgraft.models.bundle import Bundle
    from vitgraft.models.stream import Answer, Asker, Item

Its = Annotated[
    Asked | None,
    typer.Option(
        help="Images of the run's own data: a split that it listed when it began, or new ones; of other "
        "data, if these are named in place of images.",
        show_default=False,
    ),
]
LeftOver = Annotated[
    bool, typer.Option("--allow-missing", help="Of --split, answer for what is left where images are gone.")
]

SOME_UNREADABLE = 3
"""The exit code when some images could not be read, and the others were answered."""


@given_by(runs_on, writes, reads)
def predict(
    on: RunsOn,
    to: Writes,
    how: Reads,
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="[RUN] [IMAGES...]",
            help="The folder that fit wrote, then image files, folders (searched at any depth), quoted globs, or "
            "- for paths from standard input (a line each, or as find -print0 gives them).",
            show_default=False,
        ),
    ],
    others: Annotated[
        list[Path] | None,
        typer.Option("--with", help="A run to ask, too; all share one pass through the backbone.", metavar="RUN"),
    ] = None,
    split: Its = None,
    allow_missing: LeftOver = False,
    checkpoint: Checkpoints = None,
    force: OtherWeights = False,
    uncalibrated: Uncalibrated = False,
) -> None:
    """Print the classes of pictures, the likeliest first, each as soon as it is known; or their numbers.

    Of several labels those are there whose probability reaches the threshold that was chosen on validation.

    An image that cannot be read does not stop the others: its row has the error (in CSV and JSON under `error`),
    and the exit code is 3 at the end; with --skip-unreadable it is left out and told, and the exit code is 0. The
    code is 2 if no image can be read, and 130 after Ctrl-C.

    Examples:

      vitgraft predict runs/photos img.jpg 'more/*.png'

      vitgraft predict runs/photos holiday/ --top 3 -o holiday.json

      find holiday -name '*.jpg' -print0 | vitgraft predict runs/photos - --format jsonl

      vitgraft predict runs/photos --split test -o test.csv

      vitgraft predict --with runs/animals --with runs/weather holiday/
    """
    runs, named = _runs(paths, others or [], split is not None)
    its = None if split is None else str(split)
    images = _files(named, how) if its is None else _part(runs[0], its, named, how, allow_missing)
    with results(to.out, to.replace) as file:
        from vitgraft.models.bundle import Bundle

        bundle = Bundle.load(runs, checkpoint=checkpoint or None, force=force).with_pixel_range(how.pixel_range)
        bundle = Bundle(as_asked(bundle.members, uncalibrated))
        asker = _asker(bundle, on)  # before the first line: the device may not be there
        expected = Expected(images.names, runs, bundle.class_names, bundle.kinds)
        unread = 0
        with writing(to.format, file, expected) as write:
            for answer in _answers(asker, images, on, apart=to.out is not None or not sys.stdout.isatty()):
                _tell(answer, bundle, write, to)
                unread += answer.error is not None
    _end(len(images.names), unread, to)


@dataclass(frozen=True)
class Images:
    """What is asked about: what each image is called, and how they are read."""

    names: list[str]
    items: "Callable[[Asker], Iterator[Item]]"


def _runs(paths: Sequence[str], others: Sequence[Path], own: bool = False) -> tuple[list[str], list[str]]:
    """The runs and the images that a command line names. The first path is a run; with --with it need not be.

    A run's `own` images need not be named.

    Raises:
        DataError: no images are left.
    """
    from vitgraft.models.artefact import CARD

    first = not others or (Path(paths[0]) / CARD).is_file()
    images = list(paths[first:])
    if not images and not own:
        raise DataError(
            f"'{paths[0]}' is taken for the run, and no images are named. Add image files or folders, or name a "
            "part of its own: --split test."
        )
    return list(dict.fromkeys([*paths[:first], *map(str, others)])), images


def _part(run: str, split: str, data: Sequence[str], how: Reads, allow_missing: bool) -> Images:
    """A part of the images that a run was trained and tested on, or of other data."""
    from vitgraft.models import artefact
    from vitgraft.runs.config import KEPT
    from vitgraft.runs.kept_split import part_of_run

    home = Path(run)
    artefact.read_card(home)
    if not data and not (home / KEPT).is_file():
        raise DataError(
            f"'{run}' does not say what it was trained on. Name the images: {command('predict', run)} IMAGES"
        )
    if len(data) > 1:
        raise DataError(f"--split {split} is of one data set, and {len(data)} are named. Name one, or none.")
    named = data[0] if data else None
    part = part_of_run(home, split, data=named, reading=how.given(), allow_missing=allow_missing)
    for note in part.notes:
        guard.note(note)
    source = part.split.images
    return Images([source.name(index) for index in range(len(source))], lambda asker: asker.images(source))


def _files(images: Sequence[str], how: Reads) -> Images:
    """The image files that a command line names, each once; what lies among them and is left out is told.

    A file from standard input need not be there: it has a row that says so.
    """
    from vitgraft.data.reading.left_out import LeftOut
    from vitgraft.data.source import expand_images

    check_named(images)
    found: dict[Path, None] = {}
    left: dict[Left, None] = {}
    renamed: dict[str, None] = {}
    empty: list[DataError] = []
    for path, listed in _paths(images):
        if listed and not os.path.isdir(path):
            found[Path(path)] = None
            continue
        try:
            some = expand_images([path])
        except DataError as error:
            if not os.path.isdir(path) or len(images) == 1:
                raise
            empty.append(error)  # a shell's glob names such a folder among others
            continue
        found.update(dict.fromkeys(some))
        left.update(dict.fromkeys(some.left_out.files))
        renamed.update(dict.fromkeys(some.left_out.renamed))
    if empty and not found:
        raise empty[0]
    for one in empty:
        guard.note(f"Left out: {str(one).partition('. ')[0]}.")
    for line in LeftOut(tuple(one for one in left if Path(one.path) not in found), tuple(renamed)).notes():
        guard.note(line)
    return Images(list(map(str, found)), lambda asker: asker.files(found, how.max_pixels))


def _paths(images: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Paths and patterns that are named, and whether standard input listed them."""
    for image in images:
        if image == STDIN:
            yield from ((path, True) for path in standard_input())
        else:
            yield image, False


def _asker(bundle: "Bundle", on: RunsOn) -> "Asker":
    from vitgraft.models.stream import Asker

    asker = Asker(bundle.members, on.device, on.precision)
    tell_arithmetic(on, asker.here)
    return asker


def _answers(asker: "Asker", images: Images, on: RunsOn, apart: bool) -> "Iterator[Answer]":
    """An answer for each image, in order; how many there are when the user stops is told.

    A bar shows them if results go `apart` from the terminal.
    """
    from vitgraft.models.stream import stream

    told = 0
    try:
        with counted("images", len(images.names), apart) as done:
            for answer in stream(asker, images.items(asker), batch_size=on.batch_size, workers=on.workers):
                yield answer
                told += 1
                done()
    except (KeyboardInterrupt, SystemExit):
        guard.note(f"Stopped after {told:,} of {len(images.names):,} images.")
        raise


def _tell(answer: "Answer", bundle: "Bundle", write: Writer, to: Writes) -> None:
    """Write an answer's rows; an error is told on standard error, too."""
    image = answer.image
    if answer.error is not None:
        guard.note(f"Left out: {answer.error}" if to.skip_unreadable else answer.error)
        if not to.skip_unreadable:
            write(Row(image, error=answer.error))
    for run, (names, found) in answer.by_run.items():
        write(row_of(bundle.members[run].target, image, run, names, found, to.top))


def _end(asked: int, unread: int, to: Writes) -> None:
    """Say what came of all images; the exit code says it to programs.

    Raises:
        DataError: no image could be read.
    """
    if unread == asked:
        raise DataError("No image could be read.")
    if to.out is not None:
        guard.note(f"Wrote {asked - unread:,} of {asked:,} images' answers to {to.out}.")
    if unread and to.skip_unreadable:
        guard.note(f"{unread} of {asked} images were left out.")
    elif unread:
        guard.note(f"{unread} of {asked} images could not be read. --skip-unreadable leaves such images out.")
        raise typer.Exit(SOME_UNREADABLE)

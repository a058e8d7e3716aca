"""What `eval --report` and `analyze errors` share: one look at a run, and the page about it."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitgraft.atomic import write_atomically
from vitgraft.cli import guard
from vitgraft.cli.asking import RunsOn
from vitgraft.errors import ConfigError

if TYPE_CHECKING:
    from vitgraft.analyze.errors.truth import Truth
    from vitgraft.cli.evaluate import Ready

NEAR = 0.95
"""The cosine from which pictures are called near-duplicates."""

PAGES = (".html", ".htm")


Report = Annotated[
    Path | None,
    typer.Option(
        help="Write a page, too: mistakes, scores by class, calibration, likely label errors, duplicates.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Called:
    """A command as one types it."""

    command: str


def called(context: typer.Context) -> Called:
    """How the command was called."""
    from vitgraft.cli.analyze.asked import spelled

    return Called(spelled(context))


def looked_at(now: "Ready", run: Path, on: RunsOn, *, own: bool, near: float = NEAR) -> "Truth":
    """A look at a run on the images that are measured; `own` says that they are of the run's own data.

    What is to be known of the others of its data is told.
    """
    from vitgraft.analyze.errors.gathered import gathered
    from vitgraft.analyze.errors.truth import look
    from vitgraft.cli.asking import tell_arithmetic
    from vitgraft.data.labelling import need_classes
    from vitgraft.machine.placement import place

    need_classes(now.model.target.kind, "The page about a run's mistakes")
    tell_arithmetic(on, place(on.device))
    images = gathered(run, now.part, now.match.split, now.model.class_names, own)
    found = look(now.model, run, now.part.of, images, asdict(on), near, now.notes)
    for note in found.notes:
        if note not in now.notes:
            guard.note(note)
    return found


def check_page(path: Path | None, replace: bool) -> None:
    """Raise ConfigError or ArtefactError for a file that is no page, or is there and not to be replaced."""
    if path is None:
        return
    if path.suffix.lower() not in PAGES:
        raise ConfigError(f"'{path}' must end in {PAGES[0]}: what --report writes is a page.")
    guard.check_free(path, replace, option="--replace")


def write_page(truth: "Truth", path: Path, call: Called) -> None:
    """Write the page about a run."""
    from vitgraft.analyze.errors.page import page

    write_atomically(path, page(truth, call.command).encode())
    guard.note(f"Wrote {path}.")

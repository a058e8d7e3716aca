"""`vitgraft fit --method auto`: the search on the command line, and the table of what it tried."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from vitgraft.cli import guard, show
from vitgraft.results.record import Record, Selection, Tried
from vitgraft.results.store import kept_in


def auto(values: Mapping[str, Any], resume: bool, force: bool, print_config: bool) -> Record | None:
    """Search, and print what was tried; the record of the run that was kept, None where there was none to do."""
    from vitgraft.selection.question import Question

    question = Question.of(values)
    if print_config:
        typer.echo(question.toml(), nl=False)
        return None
    from vitgraft.selection.auto import select

    if resume and kept_in(question.folder) is None:
        guard.note(f"{question.folder} holds no run to go on with: a new search begins.")
    with guard.going_on(question.folder):
        record = select(question, resume=resume, force=force, tell=guard.note)
    if record.selection is not None:
        _print(record.selection, record)
    return record


def folder_of(values: Mapping[str, Any]) -> Path:
    """Where the run is that a search has kept."""
    from vitgraft.selection.question import Question

    return Question.of(values).folder


def _print(selection: Selection, record: Record) -> None:
    """The table, the best on validation first, and how long it took."""
    ranked = sorted(selection.tried, key=_order)
    columns = ("method", "lr", "decay", "epochs", "val", "seconds", "trained", "kept/image", "left out")
    right = ("lr", "decay", "epochs", "val", "seconds", "trained", "kept/image")
    trained = sum(one.val_top1 is not None for one in ranked)
    title = f"{trained} of {len(ranked)} candidates were trained, and the best on validation was kept"
    show.table(title, columns, [_row(one) for one in ranked], right=right, spare=("decay", "epochs", "kept/image"))
    typer.echo(
        f"{record.method.spec} was kept. {selection.seconds:.0f} s of {60 * selection.minutes:.0f} s were used. "
        "Only the run that was kept has read the test images."
    )


def _order(one: Tried) -> tuple[bool, float, float]:
    return one.val_top1 is None, -(one.val_top1 or 0.0), one.predicted_seconds or float("inf")


def _row(one: Tried) -> tuple[str, ...]:
    settings = one.settings
    return (
        one.method,
        f"{settings['lr']:g}",
        f"{settings['weight_decay']:g}",
        str(settings["epochs"]),
        show.percent(one.val_top1),
        "-" if one.seconds is None else f"{one.seconds:.1f}",
        "-" if one.trained is None else f"{one.trained:,}",
        show.size(one.kept_bytes_per_image),
        one.left_out or "",
    )

"""`vitgraft calibrate`: a saved graft whose probabilities mean what they say."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vitgraft.cli import guard, show
from vitgraft.cli.asking import (
    Checkpoint,
    OtherWeights,
    Reads,
    RunsOn,
    list_given,
    reads,
    runs_on,
    tell_arithmetic,
)
from vitgraft.cli.evaluate import Loads, Wanted, ready, wanted
from vitgraft.cli.options import given_by
from vitgraft.errors import ArtefactError, ConfigError

if TYPE_CHECKING:
    from vitgraft.models.artefact import Card
    from vitgraft.train.temperature import Temperature

MAY_CHOOSE = ("val", "new", "all")
"""Images on which something may be fitted, if the run has not seen them otherwise."""


def _loads(checkpoint: Checkpoint = None, force: OtherWeights = False) -> Loads:
    return Loads(checkpoint, force, uncalibrated=True)


@given_by(wanted, runs_on, reads, _loads)
def calibrate(
    which: Wanted,
    on: RunsOn,
    how: Reads,
    load_as: Loads,
    run: Annotated[Path, typer.Argument(help="The folder that fit wrote.", show_default=False)],
    data: Annotated[
        str | None,
        typer.Argument(
            help="Labelled images, by default the validation images of the run; - for a list of them from "
            "standard input.",
            show_default=False,
        ),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Take the run's temperature away again.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit a temperature on validation images, and keep it with the run.

    Logits are divided by it before they become probabilities: the classes and accuracies that a run tells stay,
    and of answers given with 80 % about 80 % are right. From then on predict and eval (and in Python
    Model.predict, Model.evaluate and Bundle) give calibrated probabilities, and say so; --uncalibrated gives the
    others. Images that the run was trained on, or is tested on, are refused. A model that is trained on is not
    calibrated any more.

    Examples:

      vitgraft calibrate runs/photos

      vitgraft eval runs/photos --report photos.html

      vitgraft calibrate runs/photos --undo
    """
    from vitgraft.models import artefact

    card = artefact.read_card(run)
    if undo:
        _keep(run, card, None)
        guard.note(f"{run} is not calibrated." if card.temperature else f"{run} was not calibrated.")
        return
    which = _may_choose(which, data)
    with list_given(data) as source:
        from vitgraft.machine.placement import place
        from vitgraft.models.calibrating import temperature_of

        now = ready(run, source, which, how, load_as, source is not data)
        tell_arithmetic(on, place(on.device))
        temperature = temperature_of(now.model, now.match.split, f"{now.part.of}, {now.part.name}", asdict(on))
        _keep(run, card, temperature)
    if as_json:
        show.as_json(asdict(temperature))
        return
    typer.echo(f"{temperature.of}: {temperature.n:,} images, {temperature.wrong:,} answered wrongly")
    losses = {"loss before": f"{temperature.loss_before:.4f}", "loss after": f"{temperature.loss_after:.4f}"}
    show.pairs({"temperature": f"{temperature.value:.4g}", **losses})
    typer.echo(f"Kept in {run / artefact.CARD}: predict and eval use it unless --uncalibrated.")


def _may_choose(which: Wanted, data: str | None) -> Wanted:
    """The images that are meant, by default val. Raises ConfigError for what must not choose anything."""
    part = which.part or "val"
    if part not in MAY_CHOOSE or (part == "all" and data is None):
        raise ConfigError(
            f"--split {part}: a temperature is fitted on images that chose and taught nothing else, or on the "
            "validation images: --split val, or --split new."
        )
    return replace(which, part=part)


def _keep(run: Path, card: "Card", temperature: "Temperature | None") -> None:
    """Put a temperature into the card of a run, or take it away. Raises ArtefactError if that is another run's."""
    from vitgraft.models import artefact
    from vitgraft.models.folder import held

    with held(run):
        if artefact.read_card(run).digest != card.digest:
            raise ArtefactError(f"{run} was replaced meanwhile, and nothing is changed. Call this again.")
        artefact.rewrite(run, replace(card, temperature=temperature))

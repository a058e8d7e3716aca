"""`vitgraft analyze sensitivity`: where sensitive values lie, for tasks and backbones side by side."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraft.cli import guard
from vitgraft.cli.analyze.asked import BUILT_IN, Place, described, place_of
from vitgraft.cli.analyze.several import Backbones, Named, parsed
from vitgraft.cli.analyze.tasks import loaded, titles
from vitgraft.cli.options import given_by, read_as
from vitgraft.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from vitgraft.analyze.sensitivity import Measure, Pattern
    from vitgraft.core.backbone import Backbone
    from vitgraft.data.task import Task
    from vitgraft.methods.spt import Spt

PUBLISHED_ON = "vit_base_patch16_224"
"""The backbone of the published masks."""

Data = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[DATA...]", help="Built-in tasks, image folders, CSV files or lists.", show_default=False
    ),
]
Masks = Annotated[
    list[Path] | None,
    typer.Option("--mask", help="Published choices, param_req_*.pth, to draw as well; they say what is trained."),
]


@given_by(place_of, read_as)
def sensitivity(
    place: Place,
    how: dict[str, Any],
    data: Data = None,
    backbones: Backbones = None,
    budget: Annotated[
        str, typer.Option(help="Trained values as 0.4M or 20k, or a share of the backbone's as 0.5%.")
    ] = "0.5%",
    masks: Masks = None,
    trained: Annotated[
        bool, typer.Option("--trained", help="Draw what the budget trains instead of which values are sensitive.")
    ] = False,
    method: Annotated[
        str, typer.Option(help="spt-lora or spt-adapter, with what scores and prices.")
    ] = "spt-lora",
    scores: Annotated[
        Path | None,
        typer.Option(help="A folder of score files: those that fit are used, new ones are kept there."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Chooses images and the classifier.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Draw where a task's sensitive values lie, by block and operation (SPT, figs 3 and A to D), and how unevenly
    sensitivity is spread (fig. E), for every task on every backbone.

    Sensitivity is a value's squared gradient, summed over batches of training images; the sensitive values are the
    best τ of all, with τ by the budget. With --scores a command that was stopped goes on, and files of vitgraft
    sensitivity are used. Published masks do not say how many values were sensitive: beside them all panels show
    what is trained. The variances are a figure of their own, NAME-variance, if there are several backbones.

    Examples:

      vitgraft analyze sensitivity flowers textures dspr_loc --scores scores/

      vitgraft analyze sensitivity photos.csv --backbone figures --backbone dinov2-s:image_size=112 --budget 0.4M

      vitgraft analyze sensitivity --mask lora_cifar_param_req_0.4.pth --mask adapter_clevr_count_param_req_0.2.pth
    """
    if not data and not masks:
        raise ConfigError("Nothing is named to draw. Name tasks (such as flowers), or published choices (--mask).")
    named = parsed(backbones or [BUILT_IN]) if data else []
    places = [place, replace(place, name=f"{place.name}-variance")][: 2 if len(named) > 1 else 1]
    for one in places:
        one.check_free()
    chosen = _method(method)
    tasks = list(zip(data or [], titles(data or []), loaded(data or [], how), strict=True))
    keys = {**how, "method": method, "seed": seed, "device": device}
    measure: Measure = "trained" if trained or masks else "sensitive"
    found: list[Pattern] = []
    facts: dict[str, Any] = {"seeds": (seed,) if data else (), "backbone": [], "of": "training images"}
    facts["n"] = chosen.images if data else None
    for backbone in named:
        some, card = _patterns(backbone, tasks, keys, chosen, budget, measure, scores)
        found += some
        facts["backbone"] += [card]
    _write(places, [*found, *(_mask(path, chosen) for path in masks or [])], measure, facts)


def _write(places: Sequence[Place], found: "Sequence[Pattern]", measure: "Measure", facts: dict[str, Any]) -> None:
    """Write the figure, and that of variances if it has a place; print each pattern in words."""
    from vitgraft.analyze import sensitivity as shares
    from vitgraft.analyze import sensitivity_figure as drawn
    from vitgraft.report.style import styled

    place = places[0]
    with styled():
        place.write(shares.figure(place.name, place.command, found, measure, facts), drawn.draw(found, measure))
        for other in places[1:]:
            figure = shares.spread_figure(other.name, other.command, found, facts)
            other.write(figure, drawn.draw_spread(found))
    for pattern in found:
        typer.echo(f"{pattern.backbone}, {pattern.task}: {shares.told(pattern)}")


def _method(text: str) -> "Spt":
    """SPT with fields. Raises ConfigError for another method, and for fields that do nothing here."""
    from vitgraft.methods import parse
    from vitgraft.methods.base import check_idle
    from vitgraft.methods.spt import Spt

    method = parse(text)
    if not isinstance(method, Spt):
        raise ConfigError(f"{text!r} has no sensitivity. Use spt-lora or spt-adapter, with fields if you like.")
    idle = {"budget": "--budget", "mask": "--mask", "sensitivity": "--scores"}
    check_idle(method, {field: f"{option}, which is an option of its own" for field, option in idle.items()})
    return method


def _patterns(
    named: Named,
    tasks: "Sequence[tuple[str, str, Task]]",
    keys: Mapping[str, Any],
    method: "Spt",
    budget: str,
    measure: "Measure",
    scores: Path | None,
) -> "tuple[list[Pattern], dict[str, Any]]":
    """The pattern of each task, which has a source and a title, on one backbone, and that for a figure's card."""
    from vitgraft.analyze.scores import scored_once
    from vitgraft.analyze.sensitivity import pattern, spread
    from vitgraft.backbones.loading import load_backbone
    from vitgraft.runs.config import RunConfig
    from vitgraft.search.allocation import scores_of

    frozen: Backbone | None = None
    found = []
    for source, title, task in tasks:
        config = RunConfig.of({"data": source, **keys, **named.keys()})
        if frozen is None:
            frozen = load_backbone(config.backbone, checkpoint=config.checkpoint, image_size=config.image_size)
        values, file = scored_once(scores, config, method, task, frozen)
        guard.note(f"{title} on {named.title}" + (f": scores in {file}" if file else ""))
        (spent,) = method.spend(frozen, dict(values.scores), [_amount(budget, frozen)])
        told = spread(scores_of(frozen, values.scores))
        found.append(pattern(spent, method.rule(), measure, named.title, title, told))
    assert frozen is not None, "there is a task"
    return found, described(frozen, Path(named.checkpoint) if named.checkpoint else None)


def _amount(budget: str, frozen: "Backbone") -> int:
    """A number of trained values, perhaps from a share of the backbone's. Raises ConfigError."""
    from vitgraft.core.shape import measure
    from vitgraft.methods.base import amount

    share = budget.strip().removesuffix("%")
    if share == budget.strip():
        return amount(budget)
    try:
        found = round(float(share) / 100 * measure(frozen).parameters)
    except (ValueError, OverflowError):
        found = 0
    if found < 1:
        raise ConfigError(f"--budget {budget} is no share of the backbone's values. Write 0.5%, 0.4M or 20k.")
    return found


def _mask(path: Path, method: "Spt") -> "Pattern":
    """What a published file trains; whether by LoRA or adapters, its own counts say."""
    import torch

    from vitgraft.analyze.sensitivity import pattern
    from vitgraft.backbones.create import create_model
    from vitgraft.backbones.families import wrap
    from vitgraft.methods.base import NoData
    from vitgraft.methods.spt import Spt, SptAdapter, SptLora

    with torch.device("meta"):
        frozen = wrap(create_model(PUBLISHED_ON, pretrained=False)[0], PUBLISHED_ON)
    refused: CheckpointError | None = None
    kinds: list[type[Spt]] = [type(method), SptLora, SptAdapter]
    for kind in dict.fromkeys(kinds):
        own = kind(mask=str(path), rank=method.rank)
        try:
            allocation = own.allocation(frozen, own.find(frozen, 2, NoData(own)))
        except CheckpointError as error:
            refused = refused or error
            continue
        return pattern(allocation, own.rule(), "trained", "ViT-B/16, published", path.name.removesuffix(".pth"))
    assert refused is not None, "some kind was tried"
    raise refused

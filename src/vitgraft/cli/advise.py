"""`vitgraft advise`: what fine-tuning would cost by each method, before anything is trained, and which to take."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import psutil
import typer

from vitgraft import methods as registry
from vitgraft.cli import guard, show
from vitgraft.cli.asked import changes
from vitgraft.cli.options import reading, typed
from vitgraft.errors import command
from vitgraft.machine.memory import bytes_of, written
from vitgraft.runs.config import RunConfig

if TYPE_CHECKING:
    from vitgraft.advice.advise import Advice, Limits, Price
    from vitgraft.core.backbone import Backbone

LIMITS = "Limits"
FREE_PART = 0.9
"""Part of the memory that is free which a run may have if no limit is named."""


@dataclass(frozen=True)
class Frozen:
    """A backbone to count and measure on, and what is to be said of its weights."""

    backbone: "Backbone"
    told: tuple[str, ...]


@reading
def advise(
    given: dict[str, Any],
    backbone: Annotated[str, typer.Option(help="A timm name, a short one, or figures.")] = "figures",
    checkpoint: Annotated[str | None, typer.Option(help="The weights that fit would be given.")] = None,
    image_size: Annotated[
        str | None, typer.Option(help="Pixels a side, or 192x256; none: the backbone's own.")
    ] = None,
    memory: Annotated[
        str | None,
        typer.Option(
            help="The most that training may hold, such as 4GiB; none: what is free.", rich_help_panel=LIMITS
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="The most that a run may take.", min=0, rich_help_panel=LIMITS)
    ] = None,
    params: Annotated[
        str | None,
        typer.Option(help="The most values that a method may train, such as 0.5M.", rich_help_panel=LIMITS),
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="A method, perhaps with fields; several times for several; none: all.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other key of the run, as fit has them.", metavar="KEY=VALUE"),
    ] = None,
    records: Annotated[
        list[Path] | None,
        typer.Option(help="Folders with records of accuracy; none: bench/records and results/records, if there."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Tell what each method would cost on your data, before anything is trained, and which to take.

    Trained values, bytes that autograd keeps, the peak of memory at the largest micro-batch that fits, and the
    minutes of a whole run, from one step of each method on this machine. No weights are needed: cost does not
    depend on them. Of accuracy it says what records of earlier runs say. Methods beyond a limit are out; of the
    others the best by records is taken, and the fastest of equals.

    Examples:

      vitgraft advise photos/ --backbone dinov2-s --memory 4GiB --minutes 30

      vitgraft advise digits --method lora:rank=16 --method vqt --params 0.1M --set epochs=10
    """
    named = {"backbone": backbone, "checkpoint": checkpoint, "image_size": image_size}
    run = {key: value for key, value in (named | changes(sets or [])).items() if value is not None}
    question = Question(given, run, tuple(method or registry.names()), memory, minutes, params, records)
    answer = _answer(question)
    if as_json:
        show.as_json(answer.to_json())
    else:
        _print(answer)


@dataclass(frozen=True)
class Question:
    """What is asked: keys of the run, of its data (`given`) and others; methods, limits, folders of records."""

    given: Mapping[str, Any]
    run: Mapping[str, Any]
    methods: tuple[str, ...]
    memory: str | None
    minutes: float | None
    params: str | None
    records: list[Path] | None

    @property
    def config(self) -> RunConfig:
        """The run, but for its method."""
        return RunConfig.of({**self.given, **self.run})

    def command(self, method: str, memory: int) -> str:
        """The command that does the run, as one types it, in a folder that is free."""
        chosen = RunConfig.of({**self.given, **self.run, "method": method})
        kept = self.memory or f"{memory // (2**30 // 10) / 10}GiB"
        words = {key: value for key, value in {**self.given, **self.run}.items() if key not in ("data", "method")}
        words |= {"memory": kept}
        if "out" not in words and chosen.folder.exists():
            numbered = (Path(f"{chosen.folder}-{number}") for number in range(2, 1000))
            words["out"] = str(next(path for path in numbered if not path.exists()))
        return command("fit", self.given["data"], "--method", method, *typed(words))


@dataclass(frozen=True)
class Answer:
    """The advice on a question: prices, the command of the method to take, what the numbers rest on."""

    question: Question
    config: RunConfig
    limits: "Limits"
    advice: "Advice"
    command: str | None
    told: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        config, limits, choice = self.config, self.limits, self.advice.choice
        return {
            "data": config.data,
            "backbone": config.backbone,
            "epochs": config.training.epochs,
            "memory_bytes": limits.memory,
            "minutes": limits.minutes,
            "params": limits.values,
            "methods": [one.to_json() for one in self.advice.prices],
            "recommended": choice.method,
            "reason": choice.reason,
            "command": self.command,
            "told": self.told,
        }


def _answer(question: Question) -> Answer:
    """Look at the data and the backbone, and price the methods."""
    from vitgraft.advice.advise import Limits, adviser
    from vitgraft.data.preprocessing import preset
    from vitgraft.machine.memory import free, give_back, held
    from vitgraft.machine.placement import place
    from vitgraft.methods.base import amount
    from vitgraft.models.planting import own_preprocessing
    from vitgraft.runs.kept_split import load_task
    from vitgraft.runs.run import tell_of

    give_back()
    config = question.config
    asked = None if question.memory is None else bytes_of(question.memory)
    values = None if question.params is None else amount(question.params)
    specs = [registry.spec_of(registry.parse(one)) for one in question.methods]
    here = place(config.training.device)
    task = load_task(config)
    tell_of(task, guard.note)
    frozen = _frozen(config)
    frozen.backbone.to(here.device)
    start = time.time() - psutil.Process().create_time()
    room = asked or round(FREE_PART * free(here.device)) + held(here.device)
    limits = Limits(room, question.minutes, values)
    pictures = preset(config.preprocessing, own_preprocessing(frozen.backbone))
    known = adviser(task, frozen.backbone, pictures, config.training, limits, here, start, len(specs))
    advice = known.advise(specs, question.records)
    words = None if advice.choice.method is None else question.command(advice.choice.method, room)
    told = (*frozen.told, *advice.told, _of_memory(limits, question.memory))
    return Answer(question, config, limits, advice, words, told)


def _frozen(config: RunConfig) -> Frozen:
    """The backbone: built-in weights or a local folder's as they are, else random ones in the same shape."""
    from vitgraft.backbones import catalogue, hub
    from vitgraft.backbones.loading import load_backbone, random_backbone

    if config.backbone in catalogue.BUILT_INS:
        return Frozen(load_backbone(config.backbone, image_size=config.image_size), ())
    frozen = random_backbone(config.backbone, config.image_size, config.global_pool)
    told = "Counted and measured with random weights: what a run costs does not depend on them."
    if config.checkpoint is None and not hub.at_hand(frozen.view.published):
        told += " The backbone's own are not on this disk: fit downloads them."
    return Frozen(frozen, (told,))


def _of_memory(limits: "Limits", asked: str | None) -> str:
    whose = "as asked" if asked else f"{FREE_PART:.0%} of what is free, as no --memory was named"
    return f"Memory may reach {written(limits.memory)} ({whose}); with --memory a run keeps inside."


def _print(answer: Answer) -> None:
    """The table, what it rests on, and the recommendation."""
    _table(answer.advice, answer.config)
    for line in answer.told:
        typer.echo(line)
    choice = answer.advice.choice
    take = f"Take {choice.method}. " if choice.method else ""
    typer.echo(f"\n{take}{choice.reason}")
    if answer.command is not None:
        typer.echo(f"\n  {answer.command}")


def _table(advice: "Advice", config: RunConfig) -> None:
    costs = ("method", "values", "head", "kept/image", "peak", "images x parts", "minutes")
    columns = (*costs, "cached", "merges", "accuracy", "exceeds")
    rows = [_row(one) for one in sorted(advice.prices, key=_minutes)]
    title = f"What a run of {config.training.epochs} epochs would cost: {config.data} on {config.backbone}"
    right = ("values", "head", "kept/image", "peak", "images x parts", "minutes", "accuracy")
    show.table(title, columns, rows, right=right, spare=("head", "merges"))


def _minutes(price: "Price") -> float:
    return float("inf") if price.seconds is None else price.seconds.total


def _row(price: "Price") -> tuple[str, ...]:
    said, twice = price.accuracy, {None: "", "none": "", "mlp": ", mlps twice", "block": ", blocks twice"}
    parts = (
        "-"
        if price.micro_batch is None
        else f"{price.micro_batch} x {price.micro_batches}{twice[price.computed_twice]}"
    )
    return (
        price.method,
        "-" if price.values is None else f"{price.values:,}",
        "-" if price.head_values is None else f"{price.head_values:,}",
        show.size(price.kept_bytes),
        show.size(price.peak_bytes),
        parts,
        "-" if price.seconds is None else f"{price.seconds.total / 60:.1f}",
        "yes" if price.cacheable else "no",
        "yes" if price.merges else "no",
        "-" if said is None else f"{said.accuracy:.1f} % ({said.points:+.1f})",
        "; ".join(price.exceeded) or "-",
    )

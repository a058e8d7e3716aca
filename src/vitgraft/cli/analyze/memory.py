"""`vitgraft analyze memory`: what training holds, by the block that is tuned and by method."""

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vitgraft.cli import guard
from vitgraft.cli.analyze.asked import Asked, bare_of
from vitgraft.cli.options import given_by
from vitgraft.errors import ConfigError

if TYPE_CHECKING:
    from vitgraft.analyze.memory import Setting

NONE = "none"
SECOND = "-methods"
"""What the name of the second figure ends in."""


@given_by(bare_of)
def memory(
    asked: Asked,
    method: Annotated[str, typer.Option(help="What tunes one block alone, block by block.")] = "lora",
    methods: Annotated[
        list[str] | None,
        typer.Option(help="A method to compare whole; repeat it. all: that need no data first; none: no such."),
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="Images of a step, for the peaks.")] = 8,
    classes: Annotated[int, typer.Option(min=2, help="Classes of the task.")] = 100,
    precision: Annotated[Literal["fp32", "bf16"], typer.Option(help="Arithmetic.")] = "fp32",
    recompute: Annotated[
        Literal["none", "mlp", "block"], typer.Option(help="What runs twice rather than being kept.")
    ] = "none",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Measure what a step of training holds: with one block tuned at a time, and by method (SynQT, fig. 1).

    Bytes that autograd keeps are counted exactly, an image, and by the block that keeps them; peaks of memory are
    those of a fresh process each. Weights are random and nothing is downloaded, as nothing here depends on them.
    Two figures are written: NAME, by tuned block, and NAME-methods. Stopped, the same command goes on.

    Examples:

      vitgraft analyze memory

      vitgraft analyze memory --backbone vit_base_patch16_224 --methods lora --methods synqt --methods full

      vitgraft analyze memory --backbone vit_base_patch16_224 --method adapter --methods none --batch 16
    """
    from vitgraft.analyze.memory import Setting
    from vitgraft.cli.analyze.asked import placed
    from vitgraft.methods import parse, spec_of

    where, arithmetic = placed(device, precision)
    tuner, size = spec_of(parse(method)), asked.image_size
    one = Setting(asked.backbone, size, tuner, None, batch, classes, where, arithmetic, recompute)
    _make(asked, one, *_compared(methods or ["all"]))


def _make(asked: Asked, one: "Setting", compared: list[str], left_out: list[str]) -> None:
    """Check what can be checked, measure what is missing, and write both figures."""
    import torch

    from vitgraft.analyze.bare import WEIGHTS, bare
    from vitgraft.analyze.journal import Journal
    from vitgraft.analyze.memory import measure_all
    from vitgraft.analyze.memory_figure import by_block, by_method
    from vitgraft.analyze.one_block import in_one_block
    from vitgraft.cli.analyze.asked import described
    from vitgraft.methods import parse
    from vitgraft.report.style import styled
    from vitgraft.results.provenance import device_name

    second = replace(asked, name=asked.name + SECOND)
    for figure in [asked, second] if compared else [asked]:
        figure.check_free()
    frozen = bare(one.backbone, one.image_size)
    blocks = [replace(one, block=block) for block in range(frozen.depth)]
    wholes = [replace(one, method=spec) for spec in compared]
    for setting in blocks:
        in_one_block(parse(one.method), frozen, one.classes, setting.block or 0)
    for setting in wholes:
        parse(setting.method).plan(frozen, one.classes)
    told = {
        "command": asked.command,
        "device": device_name(torch.device(one.device)),
        "backbone": {**described(frozen), "weights": WEIGHTS},
    }
    journal = Journal(asked.out / f".{asked.name}.part.jsonl", {**_conditions(one), **told})
    if journal.found:
        guard.note(f"{len(journal.found)} of {len(blocks) + len(wholes)} models are measured already.")
    found = measure_all([*blocks, *wholes], journal, guard.note)
    with styled():
        asked.write(*by_block(found[: len(blocks)], blocks, {**told, "name": asked.name}))
        if wholes:
            also = {**told, "name": second.name, "notes": left_out}
            second.write(*by_method(found[len(blocks) :], wholes, also))
    journal.close()


def _compared(asked: list[str]) -> tuple[list[str], list[str]]:
    """Methods to compare, and lines on what was left out of `all`. Raises ConfigError."""
    from vitgraft.methods import names, parse, spec_of

    if NONE in asked:
        if asked != [NONE]:
            raise ConfigError(f"--methods none stands alone, and {', '.join(asked)} were given.")
        return [], []
    given = [one for one in asked if one != "all"]
    every = [parse(one) for one in names()] if "all" in asked else []
    known = [method for method in every if not method.looks()]
    lacking = [method.name for method in every if method.looks()]
    for one in given:
        if parse(one).looks():
            raise ConfigError(f"{one} looks at data before there is a plan, so nothing can be measured without.")
    told = [f"Left out: {', '.join(lacking)}, which look at data before they have a plan."] if lacking else []
    return list(dict.fromkeys(spec_of(method) for method in [*known, *map(parse, given)])), told


def _conditions(one: "Setting") -> dict[str, object]:
    """What all measurements of a figure have in common."""
    from dataclasses import asdict

    from vitgraft.results.provenance import commit, versions

    common = {key: value for key, value in asdict(one).items() if key not in ("method", "block")}
    return {**common, "versions": versions(), "commit": commit()}

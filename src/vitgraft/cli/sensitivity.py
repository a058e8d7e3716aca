"""`vitgraft sensitivity`: score a backbone's values on a task once, for every budget."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraft.cli import guard, show
from vitgraft.cli.options import reading
from vitgraft.errors import ConfigError
from vitgraft.runs.config import RunConfig

if TYPE_CHECKING:
    from torch import Tensor

    from vitgraft.core.backbone import Backbone
    from vitgraft.methods.spt import Spt
    from vitgraft.search.allocation import Allocation

SUFFIX = ".safetensors"
Files = Annotated[str | None, typer.Option(help="The backbone's weights in a local file; none: timm's.")]


@reading
def sensitivity(
    images: dict[str, Any],
    out: Annotated[Path, typer.Option(help=f"The file to write, ending in {SUFFIX}.", show_default=False)],
    backbone: Annotated[str | None, typer.Option(help="A timm name, a short one, or figures.")] = None,
    checkpoint: Files = None,
    image_size: Annotated[
        str | None, typer.Option(help="Pixels a side, or 192x256; none: the backbone's own.")
    ] = None,
    method: Annotated[
        str, typer.Option(help="spt-lora or spt-adapter, with what scores and prices.")
    ] = "spt-lora",
    budgets: Annotated[str, typer.Option(help="What to draw maps for, such as 0.2M,400k.")] = "0.4M",
    seed: Annotated[int, typer.Option(help="Chooses images and the classifier.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Score every value of a backbone by its gradients on a task, and show where budgets would go.

    The file serves `fit --method spt-lora:sensitivity=FILE,budget=...` for any budget, rank and kind of module. A
    record of the same name, ending in .json, has the pattern of each budget as numbers to draw.

    Examples:

      vitgraft sensitivity photos/ --backbone vit_base_patch16_224.augreg_in21k --out s.safetensors

      vitgraft sensitivity digits --out fisher.safetensors --method spt-lora:score=fisher --budgets 20k,50k
    """
    from vitgraft.methods import parse
    from vitgraft.methods.base import amount, check_idle
    from vitgraft.methods.spt import Spt

    chosen = parse(method)
    if not isinstance(chosen, Spt):
        raise ConfigError(f"{method!r} has no sensitivity. Use spt-lora or spt-adapter, with fields if you like.")
    scoring = dict.fromkeys(("mask", "sensitivity"), "this command, which makes scores")
    check_idle(chosen, {"budget": "--budgets, which are what maps are drawn for", **scoring})
    wanted = [amount(part) for part in budgets.split(",")]
    if out.suffix != SUFFIX:
        raise ConfigError(f"'{out}' must end in {SUFFIX}, the only format that is written.")
    for path in (out, out.with_suffix(".json")):
        guard.check_free(path, force)
    given: dict[str, str | int | None] = {"backbone": backbone, "checkpoint": checkpoint, "image_size": image_size}
    given |= {"method": method, "seed": seed, "device": device, **images}
    config = RunConfig.of({key: value for key, value in given.items() if value is not None})
    record = _look(config, chosen, wanted, out)
    show.pairs({"scores": f"{out}, {show.size(out.stat().st_size)}", "record": str(record)})


def _look(config: RunConfig, method: "Spt", budgets: list[int], out: Path) -> Path:
    """Score, write both files, print the maps; returns where the record is."""
    from vitgraft.analyze.scores import scored
    from vitgraft.backbones.loading import load_backbone
    from vitgraft.runs.kept_split import load_task
    from vitgraft.runs.run import tell_of
    from vitgraft.search import sensitivity as files
    from vitgraft.search.pattern import drawn

    task = load_task(config)
    tell_of(task, guard.note)
    frozen = load_backbone(config.backbone, checkpoint=config.checkpoint, image_size=config.image_size)
    found = scored(config, method, task, frozen)
    scores, origin = dict(found.scores), dict(found.origin)
    files.write(out, found)
    record, spent = (
        out.with_suffix(".json"),
        dict(zip(budgets, method.spend(frozen, scores, budgets), strict=True)),
    )
    _write(record, frozen, method, scores, spent, origin)
    for budget, allocation in spent.items():
        typer.echo("\n".join(["", *drawn(allocation, method.rule(), method.module, budget), ""]))
    return record


def _write(
    path: Path,
    frozen: "Backbone",
    method: "Spt",
    scores: "dict[str, Tensor]",
    spent: "dict[int, Allocation]",
    origin: dict[str, Any],
) -> None:
    """Write the pattern of each budget: a row a candidate, per block and operation."""
    from vitgraft.atomic import write_atomically
    from vitgraft.search.allocation import scores_of
    from vitgraft.search.pattern import pattern

    rule, parts = method.rule(), scores_of(frozen, scores)
    patterns = [
        {"budget": budget, "met": one.total(rule), "level": one.level, "rows": pattern(one, rule, parts)}
        for budget, one in spent.items()
    ]
    card = {"schema": 1, "backbone": frozen.name, "fingerprint": frozen.fingerprint(), **origin}
    write_atomically(path, (json.dumps({**card, "patterns": patterns}, indent=1) + "\n").encode())

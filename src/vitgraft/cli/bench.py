"""`vitgraft bench`: suites of methods, tasks and seeds; running what is missing, and what was found."""

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraft.cli import show
from vitgraft.cli.asked import Asked, asked_of
from vitgraft.cli.guard import Commands, failed, note
from vitgraft.cli.options import given_by
from vitgraft.cli.suite_report import Names, report, tested
from vitgraft.errors import ConfigError, unknown

if TYPE_CHECKING:
    from vitgraft.bench.cell import Cell
    from vitgraft.bench.runner import Submit

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="""Suites of methods, tasks and seeds: run what is missing, see what there is, report it.

    A suite is a TOML file, or one that is shipped:

      quick     cheap methods on three built-in tasks, in minutes
      builtin   every method on nine built-in tasks with three seeds, overnight
      vtab1k    every method on VTAB-1k, trained as its paper did
      fgvc      the same on FGVC

    A first look:

      vitgraft bench run quick
      vitgraft bench report quick
    """,
)

PLACES = ("local", "ray")
SHARE = 4
"""Runs that share an accelerator unless the user says otherwise: small ones leave most of it idle."""


@app.command("run")
@given_by(asked_of)
def run(
    asked: Asked,
    names: Names = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; none: one a core, or 4 on an accelerator.")
    ] = None,
    on: Annotated[str, typer.Option(help="local, or ray: one task a run, here or on a cluster.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Ray's address, or auto; none: a Ray that is started here.")
    ] = None,
    cpus: Annotated[
        float | None, typer.Option(min=0.01, help="Cores that a run on Ray asks for; none: 1.")
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(min=0.0, help="Accelerators a run on Ray asks for; none: 0.25 where there are any."),
    ] = None,
) -> None:
    """Run what is missing of a suite. Stop it, start it again, anywhere: what is done is not done again.

    A suite is a TOML file of tasks, methods, seeds and settings. A method with a grid tries its points with the
    first seed, chooses by validation accuracy, and runs the rest with the choice; only runs that were chosen read
    the test split. A suite that says retrain = true trains the chosen values on train and val together.

    Examples:

      vitgraft bench run quick

      vitgraft bench run builtin --methods linear,lora --workers 2

      vitgraft bench run mine.toml --tune 8

      vitgraft bench run mine.toml --tune 16 --halving 2

      vitgraft bench run vtab1k --set root=vtab-1k/ --set precision=bf16

      vitgraft bench run mine.toml --on ray --address auto --gpus 0.25
    """
    from vitgraft.bench.progress import Progress
    from vitgraft.bench.runner import fill

    place = _place(on, workers, address, cpus, gpus)
    found = asked.cells(names, with_choosers=True)
    if on == "local":
        _check_copies(found)
    _check_weights(found)
    if asked.suite.tune is not None and (fixed := asked.suite.fixed(cell.name for cell in found)):
        note(f'--tune has nothing to draw from for {", ".join(fixed)}. A suite gives them grid = "protocol".')
    before = sum(cell.done() for cell in found)
    total = sum(cell.size() for cell in found)
    note(f"{before} of {total} runs are done already, in {asked.out}.")
    with place as submit, Progress(total, before) as progress:
        failures = fill(found, submit, progress.tell)
    done = sum(cell.done() for cell in found)
    if failures or done < total:
        said = f"{done} of {total} runs are done. Run the suite again to try anew what failed."
        raise failed("\n".join([said, *failures]))
    note(f"All {total} runs are done. See them: {asked.command('report', names)}")


@app.command("status")
@given_by(asked_of)
def status(
    asked: Asked,
    names: Names = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say how many runs of a suite are done, by method, and on which tasks there are others."""
    found = asked.cells(names)
    done = {(cell.name, cell.task): (cell.done(), cell.size()) for cell in found}
    if as_json:
        rows = [{"method": name, "task": task, "done": a, "runs": b} for (name, task), (a, b) in done.items()]
        show.as_json(rows)
        return
    table = [_state(name, done) for name in dict.fromkeys(cell.name for cell in found)]
    show.table("", ("method", "runs done", "tasks that lack runs"), table, right=("runs done",))
    typer.echo(f"{_count(done.values())} runs are done, in {asked.out}")


app.command("report")(report)


@app.command("compare")
@given_by(asked_of)
def compare(
    asked: Asked,
    first: Annotated[str, typer.Argument(help="A method of the suite.", show_default=False)],
    others: Annotated[list[str], typer.Argument(help="Methods to put it against.", show_default=False)],
) -> None:
    """How much better one method of a suite is than others, seed by seed, and what that is worth.

    In points of test accuracy: the difference of means over the tasks that both have done, and its standard
    deviation over seeds; an outcome is given where it is larger than that. Then the number of tasks on which the
    first is ahead, and the difference by group.

    Examples:

      vitgraft bench compare builtin lora adapter ssf
    """
    from vitgraft.report import pairs, render

    found, seeds = tested(asked.cells(",".join([first, *others]))), len(asked.suite.seeds)
    differences = [pairs.difference(found, first, one, asked.tasks, seeds) for one in others]
    typer.echo(render.differences(differences), nl=False)


def _state(method: str, done: Mapping[tuple[str, str], tuple[int, int]]) -> tuple[str, str, str]:
    """A method, how many of its runs are done, and on which tasks there are others."""
    tasks = {task: count for (name, task), count in done.items() if name == method}
    lacking = {task: count for task, count in tasks.items() if count[0] < count[1]}
    told = [f"{task.partition(':')[2] or task} {a}/{b}" for task, (a, b) in lacking.items()]
    begun = any(a for a, _ in tasks.values())
    return method, _count(tasks.values()), ", ".join(told) if begun else f"all {len(tasks)}"


def _count(done: Iterable[tuple[int, int]]) -> str:
    several = list(done)
    return f"{sum(a for a, _ in several):,} of {sum(b for _, b in several):,}"


def _check_copies(cells: "list[Cell]") -> None:
    """Raise ConfigError if the folder of a benchmark's copy is not there, once for all of its tasks."""
    from vitgraft.data.benchmarks.names import mentioned

    roots = {cell.one().root for cell in cells if mentioned(cell.task) is not None}
    for root in sorted(roots, key=str):
        if root is None or not Path(root).expanduser().is_dir():
            where = "no folder was named" if root is None else f"there is no folder '{root}'"
            raise ConfigError(f"The benchmark's copy: {where}. Say where it is: --set root=FOLDER.")


def _check_weights(cells: "list[Cell]") -> None:
    """Raise ConfigError if there are records of a checkpoint that has this one's file name, and other weights.

    A record is named by the file's name, since its folder may change: but many files are called model.safetensors.
    """
    from vitgraft.backbones.loading import load_backbone

    known: dict[tuple[Any, ...], str] = {}
    for cell in cells:
        config = cell.one()
        if config.checkpoint is None or not Path(config.checkpoint).exists():
            continue
        for record in cell.records():
            size, pool = record.config["image_size"], record.config["global_pool"]  # they change what is loaded
            key = (config.backbone, config.checkpoint, size, pool)
            if key not in known:
                loaded = load_backbone(
                    config.backbone, checkpoint=config.checkpoint, image_size=size, global_pool=pool
                )
                known[key] = loaded.fingerprint()
            if record.backbone.fingerprint != known[key]:
                raise ConfigError(
                    f"'{config.checkpoint}' has other weights than the file of that name that records in "
                    f"{cell.home.records} are of. Name a folder of its own (--out), or rename the file."
                )


def _place(
    on: str, workers: int | None, address: str | None, cpus: float | None, gpus: float | None
) -> "AbstractContextManager[Submit]":
    """Where runs are to go. Raises ConfigError for a place that there is not, or options of the other."""
    from vitgraft.bench.on_ray import Share, on_ray
    from vitgraft.bench.processes import local

    if on not in PLACES:
        raise ConfigError(unknown("place to run", on, PLACES))
    of_ray = {"--address": address, "--cpus": cpus, "--gpus": gpus}
    for option, value in of_ray.items() if on == "local" else [("--workers", workers)]:
        if value is not None:
            raise ConfigError(f"{option} means nothing with --on {on}. Leave it out, or run elsewhere.")
    if on == "ray":
        return on_ray(address, Share(1.0 if cpus is None else cpus, gpus))
    return local(workers or _workers())


def _workers() -> int:
    import torch

    return SHARE if torch.accelerator.is_available() else os.cpu_count() or 1

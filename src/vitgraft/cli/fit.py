"""`vitgraft fit`: train a graft, test it once, and keep it with its record."""

import os
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

import typer

from vitgraft.cli import auto, guard, show
from vitgraft.cli.asked import changes
from vitgraft.cli.options import configured, typed
from vitgraft.cli.reached import of_run
from vitgraft.errors import ConfigError, Told, command
from vitgraft.results.record import Record
from vitgraft.results.store import kept_in
from vitgraft.runs.config import AUTO_METHOD, RunConfig, read_toml

OF_THE_BACKBONE = ("checkpoint", "image_size", "global_pool")
"""Keys that say how the backbone is made, and mean nothing for another."""

Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="KEY=VALUE, as in a file: for scripts. May be repeated.", rich_help_panel="Run"),
]


@configured
def fit(
    given: dict[str, Any],
    config: Annotated[
        Path | None, typer.Option(help="A TOML file with any of these options as keys.", rich_help_panel="Run")
    ] = None,
    sets: Sets = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in --out. If there is none, begin one.", rich_help_panel="Run"
        ),
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Replace what is in --out. It stays until the new run is finished.",
            rich_help_panel="Run",
        ),
    ] = False,
    print_config: Annotated[
        bool,
        typer.Option("--print-config", help="Print the resolved run as TOML and leave.", rich_help_panel="Run"),
    ] = False,
) -> None:
    """Fine-tune a frozen backbone on labelled images; test once; keep the graft, its log and its record.

    Examples:

      vitgraft fit digits

      vitgraft fit photos/ --method vpt-deep:tokens=20 --backbone dinov2-s

      vitgraft fit photos/ --epochs 50 --print-config > photos.toml

      vitgraft fit --config photos.toml --lr 0.002 --out runs/photos-lr2

      vitgraft fit --resume --out runs/photos-lr2

      vitgraft fit photos/ --method auto --minutes 5 --backbone dinov2-s
    """
    given = _both(given, sets or [])
    if resume and force:
        raise ConfigError("--resume goes on with a run and --force replaces it: choose one of them.")
    if resume and config is None and not {"data", "out"} & given.keys():
        raise ConfigError("Which run is to go on? Name its folder: vitgraft fit --resume --out FOLDER.")
    values = _file_values(config, resume, given) | given
    nobody_named = not resume and not {"backbone", "start_from"} & values.keys()
    if nobody_named and not print_config and are_pictures(str(values.get("data", ""))):
        warnings.warn(_instead(given, config), Told, stacklevel=1)
    if values.get("method") == AUTO_METHOD:
        record = auto.auto(values, resume, force, print_config)
        if record is not None:
            summary(record, auto.folder_of(values))
        return
    chosen = RunConfig.of(values)
    if print_config:
        typer.echo(chosen.toml(), nl=False)
        return
    _run(chosen, resume, force, given)


def _both(given: dict[str, Any], sets: list[str]) -> dict[str, Any]:
    """What options and --set give. Raises ConfigError if both give the same key."""
    found = changes(sets)
    for name in found:
        if name in given:
            raise ConfigError(
                f"--set {name}=.. and --{name.replace('_', '-')} say it twice. Leave one of them out."
            )
    return given | found


def _run(chosen: RunConfig, resume: bool, force: bool, given: dict[str, Any]) -> None:
    """Do a run and print what it came to; say how to go on if it is stopped."""
    from vitgraft.runs.earlier import nothing_to_resume
    from vitgraft.runs.run import run

    if resume and (told := nothing_to_resume(chosen.folder, given)):
        guard.note(told)
    with guard.going_on(chosen.folder):
        record = run(chosen, resume=resume, force=force, tell=guard.note)
    from vitgraft.machine.placement import place

    if place(chosen.training.device).main:
        summary(record, chosen.folder)


def _file_values(config: Path | None, resume: bool, given: dict[str, Any]) -> dict[str, Any]:
    """The values of the configuration file; a run that goes on has kept its own."""
    if config is None and resume and "data" not in given and "out" in given:
        config = kept_in(Path(given["out"]))
        if config is None:
            raise ConfigError(_no_run(Path(given["out"])))
    return {} if config is None else read_toml(config)


def _no_run(folder: Path) -> str:
    """What is to be said where no data are named, and the folder holds no run to go on with."""
    beside = folder.parent.iterdir() if folder.parent.is_dir() else ()
    runs = [str(one) for one in beside if kept_in(one) is not None]
    near = get_close_matches(str(folder), runs, n=1, cutoff=0.5)
    hint = f" Did you mean --out {near[0]}?" if near else " Name the folder of a run, or what to train on."
    return f"{folder} holds no run to go on with.{hint}"


def are_pictures(data: str) -> bool:
    """Whether data are there and a user's own, or a benchmark's, and not a task that is built in."""
    from vitgraft.data.benchmarks.names import mentioned
    from vitgraft.data.builtin import names

    return data not in names() and (os.path.exists(os.path.expanduser(data)) or mentioned(data) is not None)


def _instead(given: dict[str, Any], config: Path | None) -> str:
    """What the backbone is that nobody named, and the command with one for photographs, in a folder of its own.

    Which backbone a run is on never depends on what was downloaded before: weights on the disk are only told of.
    """
    from vitgraft.backbones import catalogue, hub

    words = [str(given["data"])] if "data" in given else []
    words += ["--config", str(config)] if config is not None else []
    kept = {name: value for name, value in given.items() if name not in OF_THE_BACKBONE}
    words += typed({**kept, "out": f"{kept['out']}-{catalogue.SUGGESTED}"} if "out" in kept else kept)
    row = next(row for row in catalogue.TIMM if row.short == catalogue.SUGGESTED)
    own = next((row.own_size for row in catalogue.available() if row.name == catalogue.BUILT_IN), None)
    where = "its weights are on this disk" if hub.on_disk(row.file) else f"a download of {row.download:.0f} MB"
    return (
        f"the built-in backbone, which is taken where none is named, was trained on drawings of {own} px: a toy "
        f"for photographs. Instead: {command('fit', *words, '--backbone', row.short)} ({where})."
    )


def _images(record: Record) -> str:
    """How many images were used for what, and how many were not."""
    words = {"train": "trained", "val": "validated", "test": "tested"}
    sizes = record.task.sizes
    counts = [f"{sizes[name]:,} {word}" for name, word in words.items() if name in sizes]
    left = f"; {record.task.skipped:,} left out" if record.task.skipped else ""
    return ", ".join(counts) + left


def summary(record: Record, folder: Path) -> None:
    """Print what a run reached, what it cost and what can be done with it."""
    cost, lines = record.cost, {"images": _images(record)}
    for name, scores in (("val", record.val), ("test", record.test)):
        if scores is not None:
            lines |= of_run(name, scores)
    lines |= _epochs(record)
    if record.val is None and record.test is None:
        lines["accuracy"] = "not measured: there are neither val nor test images"
    if record.history.legacy_best_on_test is not None:
        best = f"{show.percent(record.history.legacy_best_on_test)} after epoch {record.history.legacy_best_epoch}"
        lines["legacy best on test"] = f"{best}: chosen on test, for comparison alone"
    trained = f"{cost.trained_method:,} of the method, {cost.trained_head:,} of the classifier"
    lines["trained values"] = trained
    lines["kept for backward"] = f"{show.size(cost.kept_bytes_per_image)} an image"
    lines["peak memory"] = show.size(None if cost.peak_memory_mib is None else cost.peak_memory_mib * 2**20)
    if cost.cache_place != "off":
        where = "on disk" if cost.cache_place == "disk" else "in memory"
        spent = f"computed once in {show.seconds(cost.cache_seconds)}" if cost.cache_seconds else "found there"
        lines["frozen part"] = f"{show.size(cost.cache_bytes)} {where}, {spent}"
    lines["training"] = show.seconds(cost.train_seconds)
    typer.echo()
    show.pairs(lines)
    typer.echo(f"\nKept in {folder}. Try: {command('predict', folder, 'IMAGE...')}")


def _epochs(record: Record) -> dict[str, str]:
    """How long a run went, and which epoch's values it keeps, where that follows from validation."""
    history, asked = record.history, record.config
    patience, lines = asked.get("patience"), {}
    if history.stopped_early:
        why = f"no better validation for {patience} epoch{'s' * (patience != 1)}"
        lines["epochs"] = f"{history.epochs} of {asked['epochs']}, stopped early: {why}"
    if history.best_epoch is not None and asked.get("select") == "best":
        lines["values of"] = f"epoch {history.best_epoch}, the best on validation"
    elif history.stopped_early:
        lines["values of"] = f"epoch {history.epochs}, the last; the best on validation was {history.best_epoch}"
    return lines

"""Tune the built-in backbone on two tasks with six methods, and print what each reached and what it cost.

Every run has a process of its own, forked from a server that has imported torch and computed nothing: so a
run's peak memory is its own, and torch is imported once. Runs that are finished are not repeated; a run that was
stopped goes on. Records and logs are below runs/demo.
"""

import multiprocessing
import signal
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console

from vitgraft.cli import show
from vitgraft.errors import VitgraftError
from vitgraft.results import store
from vitgraft.results.record import Record, RecordError
from vitgraft.runs.config import RunConfig, read_toml

TASKS = {"digits": {"epochs": 2}, "dspr_loc": {"epochs": 3}}
METHODS = ("linear", "bias", "vpt-deep", "adaptformer", "ssf", "lora")
SETTINGS = {"batch_size": 16, "lr": 5e-3}
"""Few epochs of small batches and large steps: what three minutes allow. The defaults are for longer runs."""

FOLDER = Path("runs/demo")
PRELOADED = ["torch", "timm", "torchvision", "sklearn.datasets", "vitgraft.runs.run"]

console = Console(stderr=True)


def main() -> int:
    """Do what is missing, print the table; returns the exit code."""
    configs = [_config(task, method) for task in TASKS for method in METHODS]
    began = perf_counter()
    for number, config in enumerate(configs, start=1):
        if _finished(config) is not None:
            continue
        console.print(f"\n[bold]Run {number} of {len(configs)}: {config.method} on {config.data}[/bold]")
        code = _in_own_process(config)
        if code:
            console.print("Stopped. `make demo` goes on from here.")
            return code
    _print([record for config in configs if (record := _finished(config)) is not None])
    console.print(f"{perf_counter() - began:.0f} s. The records are in {FOLDER}/*/record.json.")
    return 0


def _config(task: str, method: str) -> RunConfig:
    out = str(FOLDER / f"{task}-{method}")
    return RunConfig.of({"data": task, "method": method, "out": out, **SETTINGS, **TASKS[task]})


def _finished(config: RunConfig) -> Record | None:
    """The record of this very configuration, if it is there."""
    try:
        record = store.read(config.folder / store.FILE)
    except RecordError:
        return None
    return record if store.identity(record.config) == store.identity(config.table()) else None


def _begun(config: RunConfig) -> bool:
    """Whether the run's folder is of this very configuration, be it finished or not."""
    try:
        kept = RunConfig.of(read_toml(config.kept))
    except VitgraftError:
        return False
    return store.identity(kept.table()) == store.identity(config.table())


def _in_own_process(config: RunConfig) -> int:
    """Run in a fresh process; returns its exit code."""
    kinds = multiprocessing.get_all_start_methods()
    context: Any = multiprocessing.get_context("forkserver" if "forkserver" in kinds else "spawn")
    if "forkserver" in kinds:
        context.set_forkserver_preload(PRELOADED)
    process = context.Process(target=_work, args=(config,))
    process.start()
    try:
        process.join()
    except KeyboardInterrupt:  # the run got it, too, and saves itself
        process.join()
        return 130
    finally:
        if process.is_alive():
            process.terminate()  # which a run takes as a wish to save itself and leave
            process.join()
    return process.exitcode or 0


def _work(config: RunConfig) -> None:
    from vitgraft.runs.run import run

    goes_on = _begun(config) and not (config.folder / store.FILE).exists()
    try:
        run(config, resume=goes_on, force=not goes_on, tell=console.print)
    except VitgraftError as error:
        console.print(f"Error: {error}", highlight=False, markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _print(records: list[Record]) -> None:
    """One table of what was reached and what it cost."""
    rows = []
    for record in records:
        cost = record.cost
        rows.append(
            (
                record.task.name,
                record.method.spec,
                "-" if record.test is None else f"{record.test.top1:.1f} %",
                f"{cost.trained_method:,} + {cost.trained_head:,}",
                f"{cost.kept_bytes_per_image / 1024:,.0f} KiB",
                "-" if cost.peak_memory_mib is None else f"{cost.peak_memory_mib:,.0f} MiB",
                f"{cost.train_seconds:.1f} s",
            )
        )
    numbers = ("accuracy", "trained + head", "kept/image", "peak", "time")
    show.table("The built-in backbone, tuned on 800 images a task", ("task", "method", *numbers), rows, numbers)


def _leave(number: int, _: object) -> None:
    """Let a signal end the program in order, so that no run outlives it."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _leave)
    sys.exit(main())

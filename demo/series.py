"""A series of runs and the table of what they reached and cost: what the demos have in common.

Every run has a process of its own, forked from a server that has imported torch and computed nothing: so a
run's peak memory is its own, and torch is imported once. Runs that are finished are not repeated; a run that was
stopped goes on.
"""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from rich.console import Console

from vitgraft.cli import show
from vitgraft.cli.guard import OUTSIDE, told_of
from vitgraft.errors import VitgraftError
from vitgraft.results import store
from vitgraft.results.record import Expense, Record, RecordError
from vitgraft.runs.config import RunConfig, read_toml

PRELOADED = ["torch", "timm", "torchvision", "sklearn.datasets", "vitgraft.runs.run"]
MISTAKE, INTERRUPTED = 2, 130
"""Exit codes, as of the command line."""

console = Console(stderr=True)


@dataclass(frozen=True)
class Series:
    """`command` is what a person types to begin it or to go on; each run has a folder of its own below `folder`.

    `columns` are titles of `CELLS`; `drawn` are costs that a picture shows accuracy against.
    """

    title: str
    command: str
    folder: Path
    columns: tuple[str, ...]
    drawn: tuple[str, ...]
    configs: tuple[RunConfig, ...]

    def done(self) -> list[Record]:
        """The records of the runs that are finished."""
        return [record for config in self.configs if (record := _finished(config)) is not None]


def run_of(folder: Path, data: str, method: str, **settings: object) -> RunConfig:
    """One run of a series. Raises ConfigError."""
    out = str(folder / f"{Path(data).stem}-{method}")
    return RunConfig.of({"data": data, "method": method, "out": out, **settings})


def do(series: Series) -> int:
    """Do what is missing, print the table; returns the exit code."""
    began = perf_counter()
    for number, one in enumerate(series.configs, start=1):
        if _finished(one) is not None:
            continue
        task = Path(one.data).stem
        console.print(f"\n[bold]Run {number} of {len(series.configs)}: {one.method} on {task}[/bold]")
        if code := _in_own_process(one):
            console.print(f"Stopped. `{series.command}` goes on from here.")
            return code
    numbers = series.columns
    rows = [
        (record.task.name, record.method.spec, *(CELLS[column](record) for column in numbers))
        for record in series.done()
    ]
    show.table(series.title, ("task", "method", *numbers), rows, numbers)
    for column in numbers:
        if column in NOTES:
            console.print(NOTES[column])
    console.print(f"{show.seconds(perf_counter() - began)}. The records are in {series.folder}/*/record.json.")
    return 0


def main(work: Callable[[], int], command: str) -> int:
    """Run a demo's `work`; a signal ends it in order, so that no run outlives it. Returns the exit code."""
    signal.signal(signal.SIGTERM, _leave)
    try:
        return work()
    except KeyboardInterrupt:
        console.print(f"Stopped. `{command}` goes on from here.")
        return INTERRUPTED
    except VitgraftError as error:
        return _mistaken(str(error))
    except OSError as error:
        return _mistaken(_refused(error))


def _mistaken(message: str) -> int:
    console.print(f"Error: {message}", highlight=False, markup=False)
    return MISTAKE


def _refused(error: OSError) -> str:
    """What the system refuses, such as a full disk; raises any other error again."""
    if error.errno not in OUTSIDE:
        raise error
    return told_of(error)


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
        return INTERRUPTED
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
        sys.exit(_mistaken(str(error)))
    except OSError as error:
        sys.exit(_mistaken(_refused(error)))
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _leave(number: int, _: object) -> None:
    sys.exit(128 + number)


def _frozen(cost: Expense) -> str:
    """Seconds of computing what is computed once, and what is said where that took none."""
    if cost.cache_place == "off":
        return "every step"
    return show.seconds(cost.cache_seconds) if cost.cache_seconds else "was there"


CELLS: Mapping[str, Callable[[Record], str]] = {
    "px": lambda record: str(record.config["image_size"]),
    "accuracy": lambda record: show.percent(record.test and record.test.top1),
    "per class": lambda record: show.percent(record.test and record.test.mean_per_class),
    "trained + head": lambda record: f"{record.cost.trained_method:,} + {record.cost.trained_head:,}",
    "kept/image": lambda record: f"{record.cost.kept_bytes_per_image / 1024:,.0f} KiB",
    "peak": lambda record: "-" if (peak := record.cost.peak_memory_mib) is None else f"{peak:,.0f} MiB",
    "training": lambda record: show.seconds(record.cost.train_seconds),
    "frozen part": lambda record: _frozen(record.cost),
}
"""What a table may tell of a run, by the title of the column; accuracies are of the test split."""

NOTES = {
    "frozen part": "Seconds of training leave out the frozen part, which is computed once for all runs that read "
    "it: of those after the first, the table says that it was there.",
}
"""What is said below a table that has such a column."""

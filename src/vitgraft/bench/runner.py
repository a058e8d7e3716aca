"""Running what is missing of a suite."""

import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

from vitgraft.atomic import write_atomically
from vitgraft.bench.cell import DIVERGED, Cell, Job
from vitgraft.errors import DivergedError, TaskError, VitgraftError
from vitgraft.results import store
from vitgraft.runs.config import RunConfig

LOG = "output.txt"
HOPELESS = "every candidate diverged. Give it lower learning rates to choose from, or clip_norm."


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `failed` is a sentence where it failed. `others` are those that trained with it.

    `no_data` says that the task's data cannot be used, so that its other runs would end alike.
    """

    seconds: float
    failed: str | None = None
    no_data: bool = False
    others: tuple["Outcome", ...] = ()


def work(config: RunConfig, test: bool, threads: int, others: Sequence[RunConfig] = ()) -> Outcome:
    """One run in this process, which says what it has to say in the run's folder; `others` train with it at once.

    Another process that is at the same runs is waited for; what it has done is not done again.
    """
    from time import perf_counter

    import torch

    from vitgraft.models import folder

    began, configs = perf_counter(), [config, *others]
    log = config.folder / LOG
    failed, no_data = None, False
    try:
        with ExitStack() as held:
            for home in sorted(one.folder for one in configs):  # in one order, or two would wait for each other
                held.enter_context(folder.held(home, wait=True))
            held.enter_context(_logged(log))
            if others:
                _finish_together(configs, threads)
            else:
                _finish(config, test, threads)
    except VitgraftError as error:
        failed, no_data = str(error), isinstance(error, TaskError)
    except torch.OutOfMemoryError as error:
        failed = f"{str(error).splitlines()[0]} Other runs share the device: use --workers 1, or a smaller batch."
    except Exception as error:  # a bug ends one run, not the night
        with log.open("a") as file:
            traceback.print_exc(file=file)
        failed = f"{type(error).__name__}: {error}; see {log}"
    outcome = Outcome((perf_counter() - began) / len(configs), failed, no_data)
    return replace(outcome, others=(outcome,) * len(others))


def _finish(config: RunConfig, test: bool, threads: int) -> None:
    import torch

    from vitgraft.runs.run import run, test_later

    torch.set_num_threads(threads)
    path, own = record_path(config), config.folder / store.FILE
    record = store.find(path)
    if record is None or (test and record.test is None and store.find(own) is None):
        begun = store.kept_in(config.folder)  # what is finished and has no record is done anew
        goes_on = begun is not None and (begun != config.kept or not own.exists())
        try:
            record = run(config, resume=goes_on, force=not goes_on, test=test, tell=_say)
        except DivergedError as error:
            if test:
                raise
            return _keep_diverged(config, error)
        store.write(path, record)  # a run that was finished does not write it again
    if test and record.test is None:
        test_later(config, _say, None)


def _finish_together(configs: Sequence[RunConfig], threads: int) -> None:
    """Train at once what of these is not done."""
    import torch

    from vitgraft.runs.sweep import run_together

    torch.set_num_threads(threads)
    left = [config for config in configs if store.find(record_path(config)) is None]
    found = run_together(left, _say) if left else []
    for config, end in zip(left, found, strict=True):
        if isinstance(end, DivergedError):
            _keep_diverged(config, end)


def _keep_diverged(config: RunConfig, error: DivergedError) -> None:
    """Remember that a run that was tried leads nowhere."""
    write_atomically(store.beside(record_path(config), DIVERGED), f"{error}\n".encode())


def record_path(config: RunConfig) -> Path:
    """Where the record of a suite's run is."""
    assert config.records is not None, "a suite's runs keep their records together"
    return Path(config.records) / store.file_name(config.table())


def _say(line: str) -> None:
    print(line, file=sys.stderr)


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Send what is printed to a file."""
    with path.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        yield


Submit = Callable[[Job], "Future[Outcome]"]
"""Begins a job somewhere."""

Tell = Callable[[Cell, RunConfig, Outcome, int], None]
"""Told of a run that ended, and of how many wait or run."""


def fill(cells: Sequence[Cell], submit: Submit, tell: Tell) -> list[str]:
    """Run whatever is missing, and what that makes possible; returns sentences on runs that failed.

    A task without usable data is told once and left, the others go on.
    """
    waiting: dict[Future[Outcome], tuple[Cell, Job]] = {}
    begun: set[tuple[str, bool]] = set()
    left: set[str] = set()
    failures = []

    def look() -> None:
        for cell in cells:
            for job in cell.missing() if cell.task not in left else ():
                key = (str(job.config.folder), job.test)
                if key not in begun:
                    begun.update((str(config.folder), job.test) for config in (job.config, *job.others))
                    waiting[submit(job)] = cell, job

    def leave(task: str) -> None:
        left.add(task)
        for future, (cell, _) in list(waiting.items()):
            if cell.task == task and future.cancel():
                del waiting[future]

    look()
    while waiting:
        future = next(as_completed(waiting))
        cell, job = waiting.pop(future)
        outcome = future.result()
        if outcome.no_data:
            if cell.task not in left:
                leave(cell.task)
                said = outcome.failed or ""
                failures.append(said if cell.task in said else f"{cell.task}: {said}")
                tell(cell, job.config, outcome, len(waiting))
            continue
        for config, one in zip((job.config, *job.others), (outcome, *outcome.others), strict=True):
            if one.failed is not None:
                failures.append(f"{cell.task}, {cell.name}, seed {config.training.seed}: {one.failed}")
            tell(cell, config, one, len(waiting))
        look()
    lost = (f"{cell.task}, {cell.name}: {HOPELESS}" for cell in cells if cell.hopeless())
    return [*failures, *lost]

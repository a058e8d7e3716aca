"""Running what is missing of a suite, each run in a process of its own."""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from vitgraft.bench.cell import Cell, Job
from vitgraft.config import RunConfig
from vitgraft.errors import VitgraftError
from vitgraft.results import store

PRELOADED = ["torch", "timm", "torchvision", "sklearn.datasets", "vitgraft.run"]
"""What processes have loaded before they begin."""

LOG, LOCK = "output.txt", ".lock"


@dataclass(frozen=True)
class Outcome:
    """How a run ended: `failed` is a sentence where it failed. `others` are those that trained with it."""

    seconds: float
    failed: str | None = None
    others: tuple["Outcome", ...] = ()


def work(config: RunConfig, test: bool, threads: int, others: Sequence[RunConfig] = ()) -> Outcome:
    """One run in this process, which says what it has to say in the run's folder; `others` train with it at once.

    Another process that is at the same run is waited for; what it has done is not done again.
    """
    if others:
        return _work_together([config, *others], threads)
    from time import perf_counter

    from filelock import FileLock

    began = perf_counter()
    config.folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(config.folder / LOCK), _logged(config.folder / LOG):
            _finish(config, test, threads)
    except VitgraftError as error:
        return Outcome(perf_counter() - began, str(error))
    except Exception as error:  # a bug ends one run, not the night
        with (config.folder / LOG).open("a") as file:
            traceback.print_exc(file=file)
        return Outcome(perf_counter() - began, f"{type(error).__name__}: {error}; see {config.folder / LOG}")
    return Outcome(perf_counter() - began)


def _finish(config: RunConfig, test: bool, threads: int) -> None:
    import torch

    from vitgraft.run import run, test_later

    torch.set_num_threads(threads)
    assert config.records is not None, "a suite's runs keep their records together"
    path = Path(config.records) / store.file_name(config.table())
    record, own = store.find(path), config.folder / store.FILE
    if record is None or (test and record.test is None and not own.exists()):
        goes_on = config.kept.exists() and (not own.exists() or store.find(own) is not None)
        record = run(config, resume=goes_on, force=not goes_on, test=test, tell=partial(print, file=sys.stderr))
        store.write(path, record)  # a run that was finished does not write it again
    if test and record.test is None:
        test_later(config)


def _work_together(configs: Sequence[RunConfig], threads: int) -> Outcome:
    """Runs that train at once; whatever ends them ends them all, but for one that diverges."""
    from time import perf_counter

    began = perf_counter()
    first = configs[0]
    first.folder.mkdir(parents=True, exist_ok=True)
    try:
        with _logged(first.folder / LOG):
            found = _train_together(configs, threads)
    except VitgraftError as error:
        found = [str(error)] * len(configs)
    except Exception as error:
        with (first.folder / LOG).open("a") as file:
            traceback.print_exc(file=file)
        found = [f"{type(error).__name__}: {error}; see {first.folder / LOG}"] * len(configs)
    share = (perf_counter() - began) / len(configs)
    one, *others = (Outcome(share, failed) for failed in found)
    return replace(one, others=tuple(others))


def _train_together(configs: Sequence[RunConfig], threads: int) -> list[str | None]:
    """Sentences on those that failed, None for the others."""
    import torch

    from vitgraft.sweep import run_together

    torch.set_num_threads(threads)
    found = run_together(configs, partial(print, file=sys.stderr))
    return [str(one) if isinstance(one, VitgraftError) else None for one in found]


@contextmanager
def _logged(path: Path) -> Iterator[None]:
    """Send what is printed to a file."""
    with path.open("a") as file, redirect_stdout(file), redirect_stderr(file):
        yield


Tell = Callable[[Cell, RunConfig, Outcome, int], None]
"""Told of a run that ended, and of how many wait or run."""


def fill(cells: Sequence[Cell], submit: Callable[[Job], "Future[Outcome]"], tell: Tell) -> list[str]:
    """Run whatever is missing, and what that makes possible; returns sentences on runs that failed."""
    waiting: dict[Future[Outcome], tuple[Cell, Job]] = {}
    begun: set[tuple[str, bool]] = set()
    failures = []

    def look() -> None:
        for cell in cells:
            for job in cell.missing():
                key = (str(job.config.folder), job.test)
                if key not in begun:
                    begun.update((str(config.folder), job.test) for config in (job.config, *job.others))
                    waiting[submit(job)] = cell, job

    look()
    while waiting:
        future = next(as_completed(waiting))
        cell, job = waiting.pop(future)
        outcome = future.result()
        for config, one in zip((job.config, *job.others), (outcome, *outcome.others), strict=True):
            if one.failed is not None:
                failures.append(f"{cell.task}, {cell.name}, seed {config.training.seed}: {one.failed}")
            tell(cell, config, one, len(waiting))
        look()
    return failures


@contextmanager
def local(workers: int) -> Iterator[Callable[[Job], "Future[Outcome]"]]:
    """Processes of this machine, so many at a time, which share its cores and its accelerator."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    pool: Executor = ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1)
    try:
        yield lambda job: pool.submit(work, job.config, job.test, threads, job.others)
    finally:
        pool.shutdown(cancel_futures=True)

"""The machinery of studies: methods on tasks, a learning rate chosen on validation, seeds, a table.

A study is a declaration (`Study`) and these functions. Every run has one thread and a process of its own. A run
that is finished is not repeated: its configuration names its record. One that was stopped goes on.
"""

import argparse
import multiprocessing
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tables import accuracies, shares

from vitgraft import methods
from vitgraft.config import RunConfig
from vitgraft.data import builtin
from vitgraft.errors import VitgraftError
from vitgraft.results import store
from vitgraft.results.record import Record

ROOT = Path(__file__).parent.parent
PRELOADED = ["torch", "timm", "torchvision", "sklearn.datasets", "vitgraft.run"]
PATTERN = "pattern.json"
"""The file of a run's folder that tells where the trained values went, if its method chooses that."""

Work = Callable[[RunConfig, bool], None]


@dataclass(frozen=True)
class Home:
    """Where runs and their records are written."""

    records: Path
    runs: Path

    @classmethod
    def of(cls, name: str) -> "Home":
        return cls(ROOT / "results" / name, ROOT / "runs" / name)


@dataclass(frozen=True)
class Entry:
    """A method of a study with its settings, keys of a run.

    `rates` are learning rates to choose from, as multiples of the recipe's; none: the study's. `rate_of` names an
    entry whose choice on the same task is taken instead. `home` is another study's, whose runs these are, too.
    """

    method: str
    settings: Mapping[str, object]
    rates: tuple[int, ...] | None = None
    rate_of: str | None = None
    home: Home | None = None


@dataclass(frozen=True)
class Study:
    """What is compared: entries by the names that tables give them, on tasks, at `rates` and with `seeds`.

    With the first seed every rate is tried, and the best on validation chosen; then the other seeds take it. The
    test split is read once by each chosen run, after the choice.
    """

    home: Home
    entries: Mapping[str, Entry]
    common: Mapping[str, object]
    tasks: tuple[str, ...] = builtin.DEFAULT_SUITE
    rates: tuple[int, ...] = (1, 4)
    seeds: tuple[int, ...] = (0, 1, 2)

    def cells(self, tasks: Sequence[str], names: Sequence[str]) -> list["Cell"]:
        return [Cell(self, task, name) for task in tasks for name in names]


@dataclass(frozen=True)
class Cell:
    """One entry of a study on one task."""

    study: Study
    task: str
    name: str

    @property
    def entry(self) -> Entry:
        return self.study.entries[self.name]

    def config(self, rate: int, seed: int) -> RunConfig:
        entry = self.entry
        home = entry.home or self.study.home
        lr = rate * methods.parse(entry.method).recipe.lr
        run = f"{self.task}-{store.slug(entry.method)}-lr{rate}-s{seed}"
        values = {"data": self.task, "method": entry.method, "lr": lr, "seed": seed, "out": str(home.runs / run)}
        return RunConfig.of({**values, "records": str(home.records), **self.study.common, **entry.settings})

    def grid(self) -> dict[int, RunConfig]:
        """The runs to choose from, by rate; none where there is nothing to choose."""
        rates = self.entry.rates or self.study.rates
        if self.entry.rate_of or len(rates) == 1:
            return {}
        return {rate: self.config(rate, self.study.seeds[0]) for rate in rates}

    def rate(self) -> int | None:
        """The learning rate's multiple that the runs take; None while it is not known."""
        if self.entry.rate_of:
            return Cell(self.study, self.task, self.entry.rate_of).rate()
        grid = self.grid()
        if not grid:
            return (self.entry.rates or self.study.rates)[0]
        scores = {}
        for rate, config in grid.items():
            record = recorded(config)
            if record is None or record.val is None:
                return None
            scores[rate] = (record.val.top1, -record.val.loss)
        return max(scores, key=lambda rate: scores[rate])

    def chosen(self) -> list[RunConfig]:
        """The runs that count, one a seed; none while the rate is not known."""
        rate = self.rate()
        return [] if rate is None else [self.config(rate, seed) for seed in self.study.seeds]

    def missing(self) -> list[tuple[RunConfig, bool]]:
        """What is to be run next, and whether it reads the test split."""
        found = [(config, recorded(config)) for config in self.chosen()]
        if found:
            return [(config, True) for config, record in found if record is None or record.test is None]
        return [(config, False) for config in self.grid().values() if recorded(config) is None]

    def tested(self) -> list[Record]:
        """Records of the runs that count, as far as they have read the test split."""
        found = [recorded(config) for config in self.chosen()]
        return [record for record in found if record is not None and record.test is not None]

    def patterns(self) -> list[Path]:
        """Where the values of the runs that count went, a file a run, copied beside their records at first."""
        found = []
        for config in self.chosen():
            record = record_path(config)
            copy = record.parent / "patterns" / f"{record.stem}.{PATTERN}"
            if not copy.exists() and record.exists() and (config.folder / PATTERN).exists():
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(config.folder / PATTERN, copy)
            found += [copy] if copy.exists() else []
        return found


def record_path(config: RunConfig) -> Path:
    """Where the record of a configuration lies if it was run."""
    assert config.records is not None, "a study's runs keep their records together"
    return Path(config.records) / store.file_name(config.table())


def recorded(config: RunConfig) -> Record | None:
    """The record of a configuration, if it was run."""
    path = record_path(config)
    return store.read(path) if path.exists() else None


def work(config: RunConfig, test: bool) -> None:
    """One run in this process, with one thread. Another study that is at the same run is waited for."""
    import torch
    from filelock import FileLock

    from vitgraft.run import run, test_later

    torch.set_num_threads(1)
    config.folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{config.folder}.lock"):
        record, kept = recorded(config), (config.folder / store.FILE).exists()
        if record is None or (test and record.test is None and not kept):  # its values are elsewhere: once more
            goes_on = config.kept.exists()
            record = run(
                config, resume=goes_on, force=not goes_on, test=test, tell=partial(print, file=sys.stderr)
            )
            store.add(record_path(config).parent, record)  # a finished run does not write it again
        if test and record.test is None:
            test_later(config)


def fill(cells: Sequence[Cell], pool: Executor, work: Work = work) -> None:
    """Run whatever is missing, and what that makes possible; a run that fails is told and left out."""
    waiting: dict[Future[None], Cell] = {}
    begun: set[tuple[Path, bool]] = set()

    def submit() -> None:
        for cell in cells:
            for config, test in cell.missing():
                if (config.folder, test) not in begun:
                    begun.add((config.folder, test))
                    waiting[pool.submit(work, config, test)] = cell

    submit()
    while waiting:
        future = next(as_completed(waiting))
        cell = waiting.pop(future)
        try:
            future.result()
        except VitgraftError as error:
            print(f"{cell.task}, {cell.name}: {error}", file=sys.stderr)
        cell.patterns()
        done, left = sum(not one.missing() for one in cells if one.chosen()), len(waiting)
        print(f"{cell.task}, {cell.name}; {done} of {len(cells)} cells done, {left} runs wait", file=sys.stderr)
        submit()


def show(cells: Sequence[Cell], seeds: int) -> None:
    """Print the table of accuracies and costs and, if values were placed by choice, where they went."""
    tasks, names = (list(dict.fromkeys(getattr(cell, key) for cell in cells)) for key in ("task", "name"))
    records = {(cell.name, cell.task): cell.tested() for cell in cells}
    patterns = {(cell.name, cell.task): cell.patterns() for cell in cells}
    print(accuracies({name: {task: records[name, task] for task in tasks} for name in names}, seeds))
    found = shares({name: [patterns[name, task] for task in tasks] for name in names})
    print(f"\n{found}" if found else "", end="\n" if found else "")


def main(study: Study, about: str | None) -> None:
    """The command line of a study."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(study.entries), help="some of the methods")
    parser.add_argument("--tasks", default=",".join(study.tasks), help="some of the tasks")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on one thread")
    parser.add_argument("--table", action="store_true", help="print the table and leave")
    asked = parser.parse_args()
    names, tasks = asked.methods.split(","), asked.tasks.split(",")
    for name in {*names} - study.entries.keys():
        parser.error(f"no method {name!r} in this study. Known: {', '.join(study.entries)}.")
    cells = study.cells(tasks, names)
    try:
        if not asked.table:
            run_all(cells, asked.workers)
        show(cells, len(study.seeds))
    except VitgraftError as error:
        parser.error(str(error))


def run_all(cells: Sequence[Cell], workers: int) -> None:
    """Run whatever is missing, each run in a fresh process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        fill(cells, pool)

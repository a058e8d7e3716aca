"""Side methods against in-place ones on the built-in tasks: what they reach, and what they cost.

    python studies/side_methods.py                    # every run that is missing, then the table
    python studies/side_methods.py --methods synqt,vqt --workers 2
    python studies/side_methods.py --table            # the table alone

Declared before any run: the nine default tasks, 800 images to train on; for every method two learning rates, its
recipe's and four times that, tried with seed 0 and chosen by accuracy on the 200 validation images; then seeds 1
and 2 with the chosen rate. The test split is read once by each chosen run, after the choice. Every run has one
thread and a process of its own. Runs that are finished are not repeated; one that was stopped goes on.
"""

import argparse
import multiprocessing
import statistics
import sys
from collections.abc import Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from vitgraft import methods
from vitgraft.cli import show
from vitgraft.config import RunConfig
from vitgraft.data import builtin
from vitgraft.errors import VitgraftError
from vitgraft.results import store
from vitgraft.results.record import Record

HOME = Path(__file__).parent.parent
RECORDS = HOME / "results" / "side_methods"
RUNS = HOME / "runs" / "side_methods"
PRELOADED = ["torch", "timm", "torchvision", "sklearn.datasets", "vitgraft.run"]

IN_PLACE = {"epochs": 15, "precision": "bf16"}
BESIDE = {"epochs": 45, "precision": "fp32"}
"""A method that reads a cache gets three times the epochs, and is done earlier all the same."""

NETWORK = {"epochs": 30, "precision": "fp32", "batch_size": 64}
"""The two that train a network beside the backbone: SynQT's published batch."""

METHODS: dict[str, dict[str, object]] = {
    "linear": BESIDE,
    "lora": IN_PLACE,
    "vpt-deep": IN_PLACE,
    "vqt": BESIDE,
    "head2toe": BESIDE,
    "lst": NETWORK,
    "synqt": NETWORK,
}
RATES = (1, 4)
"""Learning rates, as multiples of the method's own."""
SEEDS = (0, 1, 2)
COMMON = {"batch_size": 32, "device": "cpu", "snapshot_seconds": 60.0}


@dataclass(frozen=True)
class Cell:
    """One method on one task: two runs to choose a learning rate from, then two more seeds."""

    task: str
    method: str

    def config(self, rate: int, seed: int) -> RunConfig:
        lr = rate * methods.parse(self.method).recipe.lr
        name = f"{self.task}-{store.slug(self.method)}-lr{rate}-s{seed}"
        values = {"data": self.task, "method": self.method, "lr": lr, "seed": seed, "out": str(RUNS / name)}
        return RunConfig.of({**values, "records": str(RECORDS), **COMMON, **METHODS[self.method]})

    def grid(self) -> list[RunConfig]:
        """The runs to choose from."""
        return [self.config(rate, SEEDS[0]) for rate in RATES]

    def chosen(self) -> list[RunConfig] | None:
        """The runs that count, one a seed; None while there is nothing to choose from."""
        scores = {}
        for rate, config in zip(RATES, self.grid(), strict=True):
            record = recorded(config)
            if record is None or record.val is None:
                return None
            scores[rate] = (record.val.top1, -record.val.loss)
        best = max(scores, key=lambda rate: scores[rate])
        return [self.config(best, seed) for seed in SEEDS]


def recorded(config: RunConfig) -> Record | None:
    """The record of a configuration, if it was run."""
    path = RECORDS / store.file_name(config.table())
    return store.read(path) if path.exists() else None


def work(config: RunConfig, test: bool) -> None:
    """One run in this process, with one thread. Another study that is at the same run is waited for."""
    import torch
    from filelock import FileLock

    from vitgraft.run import run, test_later

    torch.set_num_threads(1)
    config.folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{config.folder}.lock"):
        finished = recorded(config)
        if finished is None:
            goes_on = config.kept.exists()
            run(config, resume=goes_on, force=not goes_on, test=test, tell=partial(print, file=sys.stderr))
        elif test and finished.test is None:
            test_later(config)


def missing(cell: Cell) -> list[tuple[RunConfig, bool]]:
    """What is to be run next for a cell, and whether it reads the test split."""
    chosen = cell.chosen()
    if chosen is None:
        return [(config, False) for config in cell.grid() if recorded(config) is None]
    found = [(config, recorded(config)) for config in chosen]
    return [(config, True) for config, record in found if record is None or record.test is None]


def study(cells: Iterable[Cell], workers: int) -> None:
    """Run whatever is missing; a run that fails is told and left out."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    with ProcessPoolExecutor(workers, mp_context=context, max_tasks_per_child=1) as pool:
        waiting: dict[Future[None], Cell] = {}

        def submit(cell: Cell) -> None:
            waiting.update({pool.submit(work, config, test): cell for config, test in missing(cell)})

        for cell in cells:
            submit(cell)
        while waiting:
            future = next(as_completed(waiting))
            cell = waiting.pop(future)
            try:
                future.result()
            except VitgraftError as error:
                print(f"{cell.task}, {cell.method}: {error}", file=sys.stderr)
                continue
            done = sum(recorded(config) is not None for config in cell.grid())
            print(f"{cell.task}, {cell.method}: {done} of {len(RATES)} of the grid done", file=sys.stderr)
            if cell not in waiting.values():
                submit(cell)


def table(tasks: Iterable[str]) -> None:
    """Mean test accuracy over seeds a task, and what a run costs."""
    rows = []
    for method in METHODS:
        cells = [Cell(task, method).chosen() or [] for task in tasks]
        records = [[found for config in cell if (found := recorded(config)) and found.test] for cell in cells]
        if not all(len(found) == len(SEEDS) for found in records):
            rows.append((method, *("?" if len(found) < len(SEEDS) else accuracy(found) for found in records)))
            continue
        mean = statistics.mean(found.test.top1 for cell in records for found in cell if found.test)
        costs = [found.cost for cell in records for found in cell]
        rows.append(
            (
                method,
                *map(accuracy, records),
                f"{mean:.1f}",
                f"{statistics.median(cost.trained_method for cost in costs):,.0f}",
                f"{statistics.median(cost.trained_head for cost in costs):,.0f}",
                show.size(statistics.median(cost.kept_bytes_per_image for cost in costs)),
                f"{statistics.median(cost.train_seconds + cost.cache_seconds for cost in costs):.0f} s",
            )
        )
    columns = ("method", *tasks, "mean", "trained", "head", "kept/image", "time")
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join((*row, *[""] * (len(columns) - len(row)))) + " |")


def accuracy(records: list[Record]) -> str:
    """Mean and standard deviation over seeds."""
    found = [record.test.top1 for record in records if record.test]
    return f"{statistics.mean(found):.1f} ± {statistics.stdev(found):.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default=",".join(METHODS), help="some of the methods")
    parser.add_argument("--tasks", default=",".join(builtin.DEFAULT_SUITE), help="some of the tasks")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time, each on one thread")
    parser.add_argument("--table", action="store_true", help="print the table and leave")
    asked = parser.parse_args()
    if not asked.table:
        cells = [Cell(task, method) for task in asked.tasks.split(",") for method in asked.methods.split(",")]
        study(cells, asked.workers)
    table(asked.tasks.split(","))


if __name__ == "__main__":
    main()

"""Records as studies leave them: methods, tasks and seeds, with learning curves, and without any training."""

import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.test_records import CONFIG, record
from vitgraft.results import store
from vitgraft.results.record import Expense, History, MethodFacts, Record, Scores, TaskFacts

GROUPS = ("natural", "structured")


def made(method: str, task: str, seed: int, top1: float = 50.0, tried: bool = False, **config: Any) -> Record:
    """A run; one that was `tried` has not read its test split."""
    name, _, fields = method.partition(":")
    given = {**CONFIG, "data": task, "method": method, "seed": seed, **config}
    trained = 1000 * (1 + len(method))
    return record(
        config=given,
        seed=seed,
        method=MethodFacts(name, method, dict(pair.split("=") for pair in fields.split(",") if pair)),
        task=TaskFacts(task, f"print of {task}", GROUPS[len(task) % 2], 10, {"train": 8, "val": 2, "test": 1000}),
        val=Scores(1.5, top1 - 1, 90.0, top1 - 1, 200),
        test=None if tried else Scores(1.4, top1, 91.0, top1, 1000),
        history=History(30, 30, False, [2 / (1 + e) for e in range(30)], [top1 - 30 / (1 + e) for e in range(30)]),
        cost=Expense(trained, 510, 70 * trained, 10**9, 2 * 10**9, 4 * trained, 512.5, 3.25 + seed, 99.0),
        versions={"vitgraft": "0.1.0", "torch": "2.15.0", "timm": "1.0.31", "python": "3.11.7"},
        commit="0123456789abcdef0123456789abcdef01234567",
    )


def study(methods: Iterable[str], tasks: Iterable[str], seeds: int = 3) -> list[Record]:
    """Each method on each task with each seed, and two that were tried before."""
    drawn = random.Random(0)
    tasks = list(tasks)
    found = []
    for method in methods:
        for task in tasks:
            found += [made(method, task, seed, drawn.uniform(20, 90)) for seed in range(seeds)]
            found.append(made(method, task, 0, drawn.uniform(20, 90), tried=True, lr=0.004))
    return found


def kept(folder: Path, records: Iterable[Record]) -> Path:
    """A folder of records."""
    for one in records:
        store.add(folder, one)
    return folder

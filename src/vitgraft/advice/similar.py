"""What records say of methods on tasks like one's own.

A task is alike if it has up to three times as many or as few classes, up to four times as many or as few training
images, and, where both tasks say it, the same group (natural, specialized, structured). If none is, all count.
Records of the same backbone count alone, if there are any. A method is told by its points over the middle of all
methods on a task, test accuracy in percent, averaged over tasks: tasks differ more than methods do.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median

from vitgraft.methods import parse
from vitgraft.results import store
from vitgraft.results.record import ONE_CLASS, Record, TaskFacts

CLASSES, IMAGES = 3.0, 4.0
"""How many times as many classes and training images a task may have to be alike."""

HOMES = (Path("bench/records"), Path("results/records"))
"""Where records are looked for unless a folder is named."""


@dataclass(frozen=True)
class Wanted:
    """A task and a backbone that records are to be like."""

    group: str | None
    classes: int
    train: int
    backbone: str


@dataclass(frozen=True)
class Said:
    """Of one method: mean test accuracy in percent, points over the middle of all methods, tasks; and the fields
    of the method that was run, where they are not the asked ones.
    """

    accuracy: float
    points: float
    tasks: int
    spec: str | None = None


@dataclass(frozen=True)
class Evidence:
    """What records say, by a method's text, and in words what they are of."""

    said: dict[str, Said] = field(default_factory=dict)
    told: str = "There are no records of accuracy to go by."


def evidence(wanted: Wanted, specs: Sequence[str], folders: Iterable[Path]) -> Evidence:
    """What the records in some folders say of some methods. Raises RecordError for a folder that is not there."""
    places = list(folders)
    records = [one for place in places for one in store.read_all(place).records.values() if one.test is not None]
    if not records:
        return Evidence()
    same = [one for one in records if one.backbone.name == wanted.backbone]
    chosen = same or records
    alike = [one for one in chosen if _alike(wanted, one.task)]
    used = alike or chosen
    table = _table(used)
    middles = {task: median(mean(runs) for runs in methods.values()) for task, methods in table.items()}
    said = {}
    for spec in specs:
        meant = _meant(spec, table)
        tasks = [task for task in table if meant in table[task]]
        if meant is None or not tasks:
            continue
        found = [mean(table[task][meant]) for task in tasks]
        points = mean(accuracy - middles[task] for task, accuracy in zip(tasks, found, strict=True))
        said[spec] = Said(mean(found), points, len(tasks), None if meant == spec else meant)
    like = "tasks like this one" if alike else "tasks, none of which is like this one"
    whose = (
        "of this backbone"
        if same
        else f"of other backbones ({', '.join(sorted({one.backbone.name for one in used}))})"
    )
    told = (
        f"Accuracy is that of {len(used):,} records {whose} in {', '.join(map(str, places))}, on {len(table)} "
        f"{like}: {', '.join(sorted(table))}."
    )
    return Evidence(said, told)


def _alike(wanted: Wanted, task: TaskFacts) -> bool:
    groups = {wanted.group, task.group} - {None}
    return (
        len(groups) < 2
        and task.labels == ONE_CLASS
        and _near(wanted.classes, task.classes, CLASSES)
        and _near(wanted.train, task.sizes.get("train", 0), IMAGES)
    )


def _near(one: int, other: int, times: float) -> bool:
    return 0 < max(one, other) <= times * min(one, other)


def _table(records: Iterable[Record]) -> dict[str, dict[str, list[float]]]:
    """Test accuracies by task and method, one a run."""
    table: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for record in records:
        if record.test is not None:
            table[record.task.name][record.method.spec].append(record.test.main)
    return table


def _meant(spec: str, table: dict[str, dict[str, list[float]]]) -> str | None:
    """The method of the records that a text means: itself, else that of its name with the most tasks."""
    counts: dict[str, int] = defaultdict(int)
    for methods in table.values():
        for one in methods:
            counts[one] += 1
    if spec in counts:
        return spec
    name = parse(spec).name
    same = [one for one in counts if one.partition(":")[0] == name]
    return min(same, key=lambda one: (-counts[one], len(one), one), default=None)

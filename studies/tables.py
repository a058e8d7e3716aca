"""A study's tables, in Markdown: accuracy and cost by method and task, and where chosen values went."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from vitgraft.cli import show
from vitgraft.results.record import Record


def accuracies(found: Mapping[str, Mapping[str, Sequence[Record]]], seeds: int) -> str:
    """Mean test accuracy over seeds a task, and what a run costs; of each method, tested records by task.

    A cell in which seeds are missing is `?`, and then its row has no mean and no costs.
    """
    tasks = list(dict.fromkeys(task for cells in found.values() for task in cells))
    rows = []
    for method, cells in found.items():
        row = [method, *(accuracy(cells[task]) if len(cells[task]) == seeds else "?" for task in tasks)]
        rows.append(row if "?" in row else row + costs([record for cell in cells.values() for record in cell]))
    return markdown(("method", *tasks, "mean", "trained", "head", "kept/image", "time"), rows)


def accuracy(records: Sequence[Record]) -> str:
    """Mean and, of several seeds, standard deviation."""
    found = [record.test.top1 for record in records if record.test]
    mean = f"{statistics.mean(found):.1f}"
    return f"{mean} ± {statistics.stdev(found):.1f}" if len(found) > 1 else mean


def costs(records: Sequence[Record]) -> list[str]:
    """The mean accuracy of all, and medians of what the runs cost."""
    spent = [record.cost for record in records]
    return [
        f"{statistics.mean(record.test.top1 for record in records if record.test):.1f}",
        f"{statistics.median(cost.trained_method for cost in spent):,.0f}",
        f"{statistics.median(cost.trained_head for cost in spent):,.0f}",
        show.size(statistics.median(cost.kept_bytes_per_image for cost in spent)),
        f"{statistics.median(cost.train_seconds + cost.cache_seconds for cost in spent):.0f} s",
    ]


def shares(found: Mapping[str, Sequence[Sequence[Path]]]) -> str:
    """The share of each operation in the trained values, in percent: the mean over a method's tasks.

    `found` has files of patterns for each method, those of one task together. The class token counts nowhere.
    Nothing if there are no files.
    """
    means: dict[str, dict[str, float]] = {}
    for method, tasks in found.items():
        each = [_mean([_share(path) for path in paths]) for paths in tasks if paths]
        if each:
            means[method] = _mean(each)
    if not means:
        return ""
    places = list(dict.fromkeys(place for mean in means.values() for place in mean))
    rows = [
        [method, str(sum(map(bool, found[method]))), *(f"{mean.get(place, 0):.1f}" for place in places)]
        for method, mean in means.items()
    ]
    return markdown(("% of the values trained", "tasks", *places), rows)


def _share(path: Path) -> dict[str, float]:
    """Percent of a run's trained values by operation, in the order of the walk."""
    rows = json.loads(path.read_text())["rows"]
    total = sum(row["trained"] for row in rows)
    found = dict.fromkeys((row["operation"] for row in rows), 0.0)
    for row in rows:
        found[row["operation"]] += 100 * row["trained"] / total
    return found


def _mean(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each key, which is 0 where it is missing."""
    keys = dict.fromkeys(key for one in found for key in one)
    return {key: statistics.mean(one.get(key, 0.0) for one in found) for key in keys}


def markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; rows that are too short end in empty cells."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join((*row, *[""] * (len(columns) - len(row)))) + " |" for row in rows]
    return "\n".join(lines)

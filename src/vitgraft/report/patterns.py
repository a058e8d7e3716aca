"""Where chosen values went: the share of each operation in what methods train, by their runs' pattern files."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

Shares = Mapping[str, float]
"""Percent of the trained values by operation, in the order of the walk."""


def shares(found: Mapping[str, Sequence[Sequence[Path]]]) -> dict[str, Shares]:
    """Of each method that has pattern files: the mean over its tasks of the mean over a task's runs.

    `found` has each method's files, those of one task together. The class token counts nowhere.
    """
    means = {}
    for method, tasks in found.items():
        each = [_mean([_share(path) for path in paths]) for paths in tasks if paths]
        if each:
            means[method] = _mean(each)
    return means


def _share(path: Path) -> Shares:
    rows = json.loads(path.read_text())["rows"]
    total = sum(row["trained"] for row in rows)
    found = dict.fromkeys((row["operation"] for row in rows), 0.0)
    for row in rows:
        found[row["operation"]] += 100 * row["trained"] / total
    return found


def _mean(found: Sequence[Shares]) -> Shares:
    """The mean of each key, which is 0 where it is missing."""
    keys = dict.fromkeys(key for one in found for key in one)
    return {key: statistics.mean(one.get(key, 0.0) for one in found) for key in keys}

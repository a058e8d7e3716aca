"""Cutting validation and test images out of labelled ones: stratified, seeded, each image in one split."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vitgraft.data.drawing import stream
from vitgraft.data.task import Labels, Task, joined
from vitgraft.errors import DataError

Indices = NDArray[np.int64]


def stratified(labels: Labels, fractions: Mapping[str, float], seed: int = 0) -> dict[str, Indices]:
    """Indices of `labels` (n,) as disjoint sorted splits: those of `fractions`, and "train" with the rest.

    Every class gives its rounded share, and at least one image, to each split in the order of `fractions`, as
    long as one is left for train. A class of one image is thus train only, one of two lacks the last split.
    A class's choice depends on the seed, its label and its size alone, not on the other classes.
    """
    chosen: dict[str, list[int]] = {name: [] for name in ("train", *fractions)}
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = members[stream(seed, int(label)).permutation(len(members))]
        start = 0
        for name, fraction in fractions.items():
            count = min(max(1, int(len(members) * fraction + 0.5)), len(members) - 1 - start)
            chosen[name].extend(order[start : start + count])
            start += count
        chosen["train"].extend(order[start:])
    return {name: np.array(sorted(indices), dtype=np.int64) for name, indices in chosen.items()}


def missing_splits(given: Sequence[str], val_fraction: float, test_fraction: float) -> dict[str, float]:
    """Which splits to cut out of train, as fractions of it, when `given` are there already.

    Nothing but train: val and test. Train and test: val, since something must be selected on. Train and val:
    nothing, for a test split is the user's to name. A fraction of 0 cuts no split.
    """
    wanted = {"val": val_fraction}
    if "test" not in given:
        wanted["test"] = test_fraction
    return {} if "val" in given else {name: fraction for name, fraction in wanted.items() if fraction > 0}


def retraining(task: Task) -> Task:
    """The same task with train and val as one split "train", and no val, for a last training.

    There is no val, since it would be a part of train, and select nothing.

    Raises:
        DataError: there is no val to be added.
    """
    if "val" not in task.splits:
        raise DataError(
            f"{task.name} has no val split that could be trained on, too. Add one, or train on train alone "
            "(train_on = train)."
        )
    both = joined([task.splits["train"], task.splits["val"]])
    rest = {name: split for name, split in task.splits.items() if name not in ("train", "val")}
    return replace(task, splits={"train": both, **rest})

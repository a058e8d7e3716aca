"""The best epoch on the test split: what many papers report, measured apart so that ours can stand beside it.

Nothing is selected by it, and no value of the run depends on it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from vitgraft.data.labelling import need_classes
from vitgraft.data.task import Split
from vitgraft.errors import ConfigError
from vitgraft.train.settings import Training

EPOCHS: Mapping[str, tuple[int, int, int]] = {
    "every": (1, 1, 0),
    "noah": (1, 10, 1),
    "spt": (1, 10, 10),
    "synqt": (10, 10, 0),
}
"""Which epochs (from 1) a paper measured on test: the first, every so many after it, how many of the last."""

KEY = "legacy_test_top1"
"""What an epoch's entry in history and log calls its accuracy on test."""


def asked(settings: Training, test: Split | None) -> Split | None:
    """The test split, if epochs are to be measured on it. Raises ConfigError if there is none."""
    if settings.legacy_test and test is None:
        raise ConfigError(
            "legacy_test measures epochs on a test split, and there is none. Add one, or leave it out."
        )
    if settings.legacy_test and test is not None:
        need_classes(test.kind, "legacy_test")
    return test if settings.legacy_test else None


def measured(rule: str, epoch: int, epochs: int) -> bool:
    """True if an epoch (from 1) of so many is measured on test."""
    first, every, last = EPOCHS[rule]
    return (epoch >= first and (epoch - first) % every == 0) or epoch > epochs - last


def best(history: Iterable[Mapping[str, Any]]) -> tuple[float, int] | None:
    """The best top-1 on test in percent, and its epoch (the first of equals); None if none was measured."""
    found = [(entry[KEY], -entry["epoch"]) for entry in history if KEY in entry]
    return (max(found)[0], -max(found)[1]) if found else None

"""The candidates of a search, from one declared file, as configurations of runs: in groups that train at once."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from vitgraft.bench import suite
from vitgraft.bench.suite import RATE, Suite
from vitgraft.methods import parse
from vitgraft.results import store
from vitgraft.runs import alike
from vitgraft.runs.config import RunConfig
from vitgraft.selection.question import Question

FILE = "candidates.toml"
NOT_COMMON = ("data", "seed", "train_on")
"""Keys that a suite has elsewhere, or that have one value in any search."""

SHOWN = ("lr", "weight_decay", "epochs", "batch_size", "precision")
"""Keys in which candidates may differ, beside the method and its fields."""


@dataclass(frozen=True)
class Group:
    """Candidates of one entry that train at once, or one alone. `first` says that its recipe is among them."""

    entry: str
    configs: tuple[RunConfig, ...]
    first: bool

    @property
    def in_place(self) -> bool:
        """True if what trains edits the backbone."""
        return parse(self.configs[0].method).crosses != "no block"


def groups(question: Question) -> list[Group]:
    """All candidates, each to be kept in a folder of its own below the search's, in the order of the file.

    Raises:
        ConfigError: a key that no candidate can have.
    """
    made, found = _suite(question), []
    home = question.folder / store.SEARCH
    for name, entry in made.entries.items():
        runs = [made.trial(made.tasks[0], entry, choice) for choice in made.choices(name, made.tasks[0])]
        placed = [_placed(run, home) for run in runs]
        for number, configs in enumerate(alike.groups(placed)):
            found.append(Group(name, tuple(configs), number == 0))
    return found


def declared() -> dict[str, Any]:
    """What is tried, as the file says."""
    return tomllib.loads((resources.files(__package__) / FILE).read_text(encoding="utf-8"))


def settings(config: RunConfig) -> dict[str, Any]:
    """The keys of a candidate that others may have other values of."""
    table = config.table()
    return {key: table[key] for key in SHOWN}


def _suite(question: Question) -> Suite:
    """The file as a suite of the one task, in which what was given stands for the grids that would choose it."""
    table, common = declared(), question.common
    given = {key: value for key, value in question.given.items() if key not in NOT_COMMON}
    for entry in table["methods"].values():
        entry["grid"] = {key: values for key, values in entry["grid"].items() if not _is_set(key, given)}
    whole = {**table, "tasks": [common.data], "seeds": [common.training.seed]}
    return suite.of(whole, "auto", given)


def _is_set(key: str, given: Mapping[str, Any]) -> bool:
    return given.get("lr" if key == RATE else key) is not None


def _placed(config: RunConfig, home: Path) -> RunConfig:
    name = Path(store.file_name(config.table())).stem
    return replace(config, out=str(home / "runs" / name))

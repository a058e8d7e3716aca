"""Suite: methods on tasks with seeds, and what each method may choose from, as a file."""

import itertools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from vitgraft import config, methods
from vitgraft.config import RunConfig
from vitgraft.data import builtin
from vitgraft.errors import ConfigError, unknown

Choice = Mapping[str, Any]
"""What is chosen on validation: keys of a run, fields of its method, `lr_times` for multiples of its rate."""

RATE = "lr_times"
KEYS = ("name", "about", "tasks", "methods", "seeds", "settings", "grid", "halving")
ENTRY_KEYS = ("method", "grid", "chosen_by")
OWN = ("data", "method", "seed", "out", "records")
"""Keys of a run that a suite sets itself."""


@dataclass(frozen=True)
class Entry:
    """One method of a suite, with its own settings and the grid that it chooses from.

    `grid` has a list of values for each key of a choice; `chosen_by` names an entry whose choice is taken instead.
    """

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    chosen_by: str | None = None

    def choices(self) -> list[Choice]:
        """Every combination of the grid, in its order; one empty choice where there is none."""
        return [dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())]


@dataclass(frozen=True)
class Suite:
    """What is to be compared: `entries` are methods by the names that tables give them.

    `settings` are keys of every run. `halving` is how often the candidates of a grid are halved: with 2, all are
    trained for a quarter of the epochs, the better half for half of them, the best quarter for all (successive
    halving, Jamieson & Talwalkar, 2016).
    """

    name: str
    tasks: tuple[str, ...]
    entries: Mapping[str, Entry]
    seeds: tuple[int, ...] = (0,)
    settings: Mapping[str, Any] = field(default_factory=dict)
    halving: int = 0
    about: str = ""

    def run(self, task: str, entry: Entry, choice: Choice, seed: int, shorter: int = 1) -> RunConfig:
        """The configuration of one run, for a part of its epochs.

        Raises:
            ConfigError: a key that no run and no field of the method has, or a wrong value.
        """
        method = methods.parse(entry.method)
        values = {**self.settings, **entry.settings, "data": task, "seed": seed}
        known = config.keys()
        own = {item.name for item in fields(method)}
        chosen: dict[str, Any] = {}
        for key, value in choice.items():
            if key == RATE:
                values["lr"] = value * values.get("lr", method.recipe.lr)
            elif key in own:
                chosen[key] = value
            elif key in known and key not in OWN:
                values[key] = value
            else:
                raise ConfigError(unknown("key of a grid", key, (RATE, *own, *known)))
        if chosen:
            method = methods.parse({**methods.describe(method), **chosen})
        made = RunConfig.of({**values, "method": methods.spec_of(method)})
        if shorter == 1:
            return made
        return RunConfig.of({**values, "method": made.method, "epochs": max(1, made.training.epochs // shorter)})

    def tuned(self, most: int) -> "Suite":
        """The same suite with at most so many choices an entry, drawn from its grid by the entry's name."""
        assert most >= 1, "there must be something to choose from"
        entries = {}
        for name, entry in self.entries.items():
            choices = entry.choices()
            if len(choices) > most:
                entry = Drawn.of(name, entry, choices, most)
            entries[name] = entry
        return Suite(self.name, self.tasks, entries, self.seeds, self.settings, self.halving, self.about)


@dataclass(frozen=True)
class Drawn(Entry):
    """An entry that chooses from some combinations of its grid."""

    drawn: tuple[Choice, ...] = ()

    @classmethod
    def of(cls, name: str, entry: Entry, choices: Sequence[Choice], most: int) -> "Drawn":
        random = np.random.default_rng(list(name.encode()))
        kept = sorted(random.choice(len(choices), most, replace=False))
        return cls(entry.method, entry.settings, entry.grid, entry.chosen_by, tuple(choices[i] for i in kept))

    def choices(self) -> list[Choice]:
        return list(self.drawn)


def shipped() -> dict[str, Path]:
    """The suites that come with vitgraft, by name."""
    folder = Path(str(resources.files("vitgraft.bench"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load(source: str) -> Suite:
    """The suite in a TOML file, or one that is shipped, by its name.

    Raises:
        ConfigError: no such suite, a file that cannot be read, a key that is unknown or wrong.
    """
    known = shipped()
    path = known.get(source, Path(source))
    if not path.is_file():
        raise ConfigError(f"There is no suite {source!r}: no such file. Shipped ones: {', '.join(known)}.")
    try:
        table = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"'{path}' is no TOML file that can be read ({error}).") from None
    try:
        return _suite(table, path.stem)
    except ConfigError as error:
        raise ConfigError(f"'{path}': {error}") from None


def _suite(table: Mapping[str, Any], name: str) -> Suite:
    for key in table:
        if key not in KEYS:
            raise ConfigError(unknown("key of a suite", key, KEYS))
    grid = _grid(table.get("grid", {}))
    given = table.get("methods", [])
    if isinstance(given, list):
        given = {method: {} for method in _texts("methods", given)}
    if not isinstance(given, dict) or not given:
        raise ConfigError('methods: expected names, such as ["linear", "lora:rank=8"], or a table for each.')
    entries = {name: _entry(name, one, grid) for name, one in given.items()}
    settings, seeds = _table("settings", table.get("settings", {})), table.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ConfigError(f"seeds={seeds!r}: expected whole numbers, such as [0, 1, 2].")
    halving = table.get("halving", 0)
    if type(halving) is not int or halving < 0:
        raise ConfigError(f"halving={halving!r}: expected how often candidates are halved, 0 for never.")
    asked = table.get("tasks")
    tasks = builtin.DEFAULT_SUITE if asked == "default" else tuple(_texts("tasks", asked))
    said = (str(table.get("name", name)), tasks, entries, tuple(seeds), settings, halving)
    suite = Suite(*said, about=str(table.get("about", "")))
    _check(suite)
    return suite


def _entry(name: str, given: Any, grid: Mapping[str, Sequence[Any]]) -> Entry:
    table = _table(f"methods.{name}", given)
    settings = {key: value for key, value in table.items() if key not in ENTRY_KEYS}
    own = {} if "chosen_by" in table else _grid(table["grid"]) if "grid" in table else grid
    return Entry(str(table.get("method", name)), settings, own, table.get("chosen_by"))


def _check(suite: Suite) -> None:
    """Make every configuration once: a mistake is told before anything runs."""
    for name, entry in suite.entries.items():
        for key in (*suite.settings, *entry.settings):
            if key in OWN:
                raise ConfigError(f"{name}: {key} is no setting, a suite says it itself.")
        if entry.chosen_by is not None and entry.chosen_by not in suite.entries:
            raise ConfigError(f"{name}: {unknown('entry to be chosen by', entry.chosen_by, suite.entries)}")
        if entry.chosen_by is not None and suite.entries[entry.chosen_by].chosen_by is not None:
            raise ConfigError(f"{name}: {entry.chosen_by} does not choose for itself.")
        for choice in entry.choices():
            try:
                suite.run(suite.tasks[0], entry, choice, suite.seeds[0])
            except ConfigError as error:
                raise ConfigError(f"{name}: {error}") from None


def _grid(given: Any) -> Mapping[str, Sequence[Any]]:
    table = _table("grid", given)
    for key, values in table.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"grid: {key}={values!r}: expected values to choose from, such as [1, 4].")
    return table


def _table(name: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise ConfigError(f"{name}={given!r}: expected a table of keys and values.")
    return given


def _texts(name: str, given: Any) -> list[str]:
    if not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given):
        raise ConfigError(f"{name}={given!r}: expected a list of names.")
    return given

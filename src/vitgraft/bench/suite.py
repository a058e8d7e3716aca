"""Suite: methods on tasks with seeds, and what each method may choose from, as a file."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from vitgraft import methods
from vitgraft.data import builtin
from vitgraft.data.benchmarks.names import RETRAIN, TABLES, mentioned
from vitgraft.errors import ConfigError, unknown
from vitgraft.runs import config, protocols
from vitgraft.runs.config import RunConfig
from vitgraft.runs.extended import layers, merged

Choice = Mapping[str, Any]
"""What is chosen on validation: keys of a run, fields of its method, and two that say its learning rate:
`lr_times` for multiples of the one it would have, `base_lr` for one of 256 images.
"""

Grid = Mapping[str, Sequence[Any]]
"""Values to choose from, for each key of a choice."""

RATE = "lr_times"
PROTOCOL = "protocol"
"""As a grid: what the protocol's paper chose from for the method."""

KEYS = ("name", "about", "tasks", "methods", "seeds", "settings", "grid", "halving", "retrain")
ENTRY_KEYS = ("method", "grid", "chosen_by", "retrain")
OWN = ("data", "method", "seed", "out", "records", "train_on")
"""Keys of a run that a suite sets itself."""


@dataclass(frozen=True)
class Entry:
    """One method of a suite, with its own settings and the grid that it chooses from.

    `grid` has a list of values for each key of a choice, and `grids` has it for tasks that have one of their own;
    `chosen_by` names an entry whose choice is taken instead. With `retrain` the chosen values are trained on train
    and val together, and only those runs count.
    """

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    grid: Grid = field(default_factory=dict)
    chosen_by: str | None = None
    retrain: bool = False
    grids: Mapping[str, Grid] = field(default_factory=dict)

    def choices(self, task: str) -> list[Choice]:
        """Every combination of a task's grid, in its order; one empty choice where there is none."""
        grid = self.grids.get(task, self.grid)
        return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


@dataclass(frozen=True)
class Suite:
    """What is to be compared: `entries` are methods by the names that tables give them.

    `settings` are keys of every run. With `tune`, at most so many points of a grid are tried, drawn by the entry's
    name. `halving` is how often the candidates of a grid are halved: with 2, all are
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
    tune: int | None = None

    def choices(self, name: str, task: str) -> list[Choice]:
        """What an entry chooses from on a task."""
        choices = self.entries[name].choices(task)
        if self.tune is None or len(choices) <= self.tune:
            return choices
        random = np.random.default_rng(list(name.encode()))
        kept = sorted(random.choice(len(choices), self.tune, replace=False))
        return [choices[i] for i in kept]

    def fixed(self, names: Iterable[str]) -> list[str]:
        """Which of some entries choose from nothing, and by no other."""
        entries = {name: self.entries[name] for name in names}
        return [name for name, one in entries.items() if not (one.grid or one.grids or one.chosen_by)]

    def run(self, task: str, entry: Entry, choice: Choice, seed: int) -> RunConfig:
        """A run that counts.

        Raises:
            ConfigError: a key that no run and no field of the method has, or a wrong value.
        """
        values = self._values(task, entry, choice) | {"seed": seed}
        return RunConfig.of(values | {"train_on": RETRAIN} if entry.retrain else values)

    def trial(self, task: str, entry: Entry, choice: Choice, shorter: int = 1) -> RunConfig:
        """A run that is tried with the first seed, for a part of its epochs. It never looks at the test split.

        Raises:
            ConfigError: as `run`.
        """
        made = RunConfig.of(self._values(task, entry, choice) | {"seed": self.seeds[0], "legacy_test": False})
        if shorter == 1:
            return made
        whole = made.training
        part: dict[str, Any] = {"epochs": max(1, whole.epochs // shorter)}
        if whole.warmup_epochs is not None:
            part["warmup_epochs"] = whole.warmup_epochs / shorter
        return RunConfig.of(made.given() | part)

    def _values(self, task: str, entry: Entry, choice: Choice) -> dict[str, Any]:
        """Keys of a run, but for its seed."""
        method = methods.parse(entry.method)
        values = {**self.settings, **entry.settings, "data": task, "method": entry.method}
        known, own = config.keys(), {item.name for item in fields(method)}
        chosen: dict[str, Any] = {}
        for key, value in choice.items():
            if key in own:
                chosen[key] = value
            elif key in known and key not in OWN:
                values[key] = value
            elif key not in (RATE, protocols.BASE):
                raise ConfigError(unknown("key of a grid", key, (RATE, protocols.BASE, *own, *known)))
        if chosen:
            method = methods.parse({**methods.describe(method), **chosen})
            values["method"] = protocols.spelled(method, (*protocols.fields_in(entry.method), *chosen))
        if protocols.BASE in choice:
            protocol = protocols.named(values.get("protocol", protocols.OURS))
            keys = {"batch_size": known["batch_size"].default, **protocol.keys(method.name, task), **values}
            values["lr"] = protocols.scaled(choice[protocols.BASE], keys["batch_size"])
        if RATE in choice:
            values["lr"] = choice[RATE] * RunConfig.of(values).table()["lr"]
        return values


def shipped() -> dict[str, Path]:
    """The suites that come with vitgraft, by name."""
    folder = Path(str(resources.files("vitgraft.bench"))) / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load(source: str, changes: Mapping[str, Any] | None = None) -> Suite:
    """The suite in a TOML file, or one that is shipped, by its name; `changes` are keys of every run and win.

    Raises:
        ConfigError: no such suite, a file that cannot be read, a key that is unknown or wrong.
        DataError: a benchmark's task that does not exist.
    """
    known = shipped()
    path = known.get(source, Path(source))
    if not path.is_file():
        raise ConfigError(f"There is no suite {source!r}: no such file. Shipped ones: {', '.join(known)}.")
    table = merged(layers(path))
    try:
        return of(table, path.stem, changes or {})
    except ConfigError as error:
        raise ConfigError(f"'{path}': {error}") from None


def of(table: Mapping[str, Any], name: str, changes: Mapping[str, Any]) -> Suite:
    """The suite that a file's table says, unless it has another `name` of its own. Raises as `load`."""
    for key in table:
        if key not in KEYS:
            raise ConfigError(unknown("key of a suite", key, KEYS))
    given = table.get("methods", [])
    if isinstance(given, list):
        given = {method: {} for method in _texts("methods", given)}
    if not isinstance(given, dict) or not given:
        raise ConfigError('methods: expected names, such as ["linear", "lora:rank=8"], or a table for each.')
    common = {key: table[key] for key in ("grid", "retrain") if key in table}
    settings = {**_table("settings", table.get("settings", {})), **changes}
    seeds = table.get("seeds", [0])
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
        raise ConfigError(f"seeds={seeds!r}: expected whole numbers, such as [0, 1, 2].")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds={seeds!r}: one stands there twice, and would count as two runs.")
    halving = table.get("halving", 0)
    if type(halving) is not int or halving < 0:
        raise ConfigError(f"halving={halving!r}: expected how often candidates are halved, 0 for never.")
    asked = table.get("tasks")
    whole = {"default": builtin.DEFAULT_SUITE}
    whole |= {name: tuple(row.name for row in one.rows) for name, one in TABLES.items()}
    tasks = whole[asked] if isinstance(asked, str) and asked in whole else _tasks(asked)
    entries = {name: _entry(name, one, tasks, common, settings, changes) for name, one in given.items()}
    said = (str(table.get("name", name)), tasks, entries, tuple(seeds), settings, halving)
    suite = Suite(*said, about=str(table.get("about", "")))
    _check(suite)
    return suite


def _entry(
    name: str,
    given: Any,
    tasks: Sequence[str],
    common: Mapping[str, Any],
    settings: Mapping[str, Any],
    changes: Mapping[str, Any],
) -> Entry:
    """An entry of a suite, whose own keys win over the suite's; `changes` win over both."""
    table = _table(f"methods.{name}", given)
    method = str(table.get("method", name))
    own = {**{key: value for key, value in table.items() if key not in ENTRY_KEYS}, **changes}
    said = {**common, **table}
    chosen_by = table.get("chosen_by")
    if not isinstance(chosen_by, str | None):
        raise ConfigError(f"{name}: chosen_by={chosen_by!r}: expected the name of an entry.")
    protocol = {"protocol": protocols.OURS, **settings, **own}["protocol"]
    whole = [{} if chosen_by else _grid(said.get("grid", {}), protocol, method, on) for on in ("", *tasks)]
    inherited = "grid" not in table  # of that, what the entry itself sets is no choice
    fixed = {key for key in own if key not in changes} if inherited else set()
    grid, *others = ({key: one[key] for key in one if _sets(key) not in fixed} for one in whole)
    grids = {task: other for task, other in zip(tasks, others, strict=True) if other != grid}
    for key in own:
        if key in {_sets(chosen) for one in (grid, *others) for chosen in one}:
            raise ConfigError(f"{name}: {key} is chosen from a grid, and cannot be set, too.")
    retrain = said.get("retrain", False)
    if not isinstance(retrain, bool):
        raise ConfigError(f"{name}: retrain={retrain!r}: expected true or false.")
    return Entry(method, own, grid, chosen_by, retrain, grids)


def _sets(key: str) -> str:
    """The key of a run that a key of a grid decides alone: a rate of 256 images is one."""
    return "lr" if key == protocols.BASE else key


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
        try:
            _check_runs(suite, entry)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from None


def _check_runs(suite: Suite, entry: Entry) -> None:
    """Raise ConfigError if a run of an entry cannot be made, or chooses where nothing is left to choose on."""
    chooser = entry if entry.chosen_by is None else suite.entries[entry.chosen_by]
    for task in (suite.tasks[0], *chooser.grids):
        seen: set[tuple[str, str]] = set()
        for choice in chooser.choices(task):
            values = {(key, repr(value)) for key, value in choice.items()}
            if not values <= seen or not choice:  # each value of a grid once, not each combination
                suite.trial(task, entry, choice, 2**suite.halving)
            seen |= values
    first = chooser.choices(suite.tasks[0])[0]
    try:
        suite.run(suite.tasks[0], entry, first, suite.seeds[0]).check_choosing()
    except ConfigError as error:
        raise ConfigError(f"{error} In a suite that retrains: retrain = false for this method.") from None
    for task in suite.tasks:
        mention = mentioned(task)
        if mention is not None and mention.retrain and len(entry.choices(task)) > 1:
            what = f"{task} has no val to choose on. Name the task without {RETRAIN}"
            raise ConfigError(f"{what}; retrain = true trains on train and val when all is chosen.")


def _grid(given: Any, protocol: Any, method: str, task: str) -> Grid:
    """What is chosen from on a task; "" for one that has nothing of its own."""
    if given == PROTOCOL:
        if not isinstance(protocol, str):
            raise ConfigError(f"protocol={protocol!r}: expected one of {', '.join(protocols.names())}.")
        grid = protocols.named(protocol).grid(methods.parse(method).name, task)
        return {key: values for key, values in grid.items() if key not in protocols.fields_in(method)}
    table = _table("grid", given)
    for key, values in table.items():
        if not isinstance(values, list) or not values:
            raise ConfigError(f"grid: {key}={values!r}: expected values to choose from, such as [1, 4].")
        rates = key in (RATE, protocols.BASE)
        if rates and not all(type(value) in (int, float) and value > 0 for value in values):
            raise ConfigError(f"grid: {key}={values!r}: expected numbers above 0, such as [1, 4].")
    return table


def _tasks(given: Any) -> tuple[str, ...]:
    """Tasks by their names; a benchmark's by the one that it has here, whichever of its spellings is given."""
    mentions = {text: mentioned(text) for text in _texts("tasks", given)}
    names = [text if mention is None else mention.name for text, mention in mentions.items()]
    if len(set(names)) < len(_texts("tasks", given)):
        raise ConfigError(f"tasks={given!r}: one stands there twice, perhaps in two spellings.")
    return tuple(names)


def _table(name: str, given: Any) -> Mapping[str, Any]:
    if not isinstance(given, dict):
        raise ConfigError(f"{name}={given!r}: expected a table of keys and values.")
    return given


def _texts(name: str, given: Any) -> list[str]:
    if not isinstance(given, list) or not given or not all(isinstance(one, str) for one in given):
        raise ConfigError(f"{name}={given!r}: expected a list of names.")
    return given

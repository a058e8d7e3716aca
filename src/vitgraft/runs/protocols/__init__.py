"""Protocols: how papers trained, as files. A protocol gives a run's keys their defaults; what a user says wins.

Each `*.toml` beside this file is one. `[run]` has keys of a run; what differs is in `[tasks."<task>"]` (a task is
`vtab1k:cifar100`, or `fgvc` for all of a benchmark), `[methods.<name>]` and, for one on the other,
`[methods.<name>.tasks."<task>"]`; later ones win. `fields` are those of the method. `base_lr` is a rate for 256
images: `lr` is that times the batch size / 256. `[grids.<name>]` has what the paper chose from on validation, in
`tasks."<task>"` what it did there, and `differs` what a file cannot say, or what vitgraft does otherwise.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from vitgraft import methods
from vitgraft.data.benchmarks.names import mentioned
from vitgraft.errors import ConfigError, unknown
from vitgraft.methods import Method

OURS = "vitgraft"
"""The protocol of a run that names none."""

BASE = "base_lr"
BASE_IMAGES = 256
"""Images that a `base_lr` is for."""

SMALLER_RATE, SMALLER_LOSS = "smaller rate", "smaller loss"
"""What decides between candidates of the same accuracy on validation."""

TASKS = "tasks"
INNER = ("fields", TASKS)

Table = Mapping[str, Any]


@dataclass(frozen=True)
class Protocol:
    """One protocol. `reported` is how its paper chose what it prints, `ties` what decides between equals."""

    name: str
    about: str
    source: str
    reported: str
    run: Table = field(default_factory=dict)
    methods: Mapping[str, Table] = field(default_factory=dict)
    tasks: Mapping[str, Table] = field(default_factory=dict)
    grids: Mapping[str, Table] = field(default_factory=dict)
    differs: tuple[str, ...] = ()
    ties: str = SMALLER_LOSS

    def keys(self, method: str, data: str, batch_size: int | None = None) -> dict[str, Any]:
        """Keys of a run of a method on data; a batch size other than the protocol's scales a `base_lr`."""
        found: dict[str, Any] = {}
        for layer in self._layers(method, data):
            for key, value in layer.items():
                if key not in INNER:
                    found.pop({"lr": BASE, BASE: "lr"}.get(key, key), None)
                    found[key] = value
        if BASE in found:
            found["lr"] = scaled(found.pop(BASE), found["batch_size"] if batch_size is None else batch_size)
        return found

    def fields(self, method: str, data: str) -> dict[str, Any]:
        """Fields of a method for a run on data."""
        found: dict[str, Any] = {}
        for layer in self._layers(method, data):
            found |= layer.get("fields", {})
        return found

    def filled(self, method: Method, data: str) -> dict[str, Any]:
        """Its fields for a run on data, but for those that do nothing beside what the method has."""
        idle = method.idle()
        return {name: value for name, value in self.fields(method.name, data).items() if name not in idle}

    def grid(self, method: str, data: str = "") -> dict[str, list[Any]]:
        """What a method chooses from on data: values of rates, keys of a run, its own fields; empty if nothing."""
        table = self.grids.get(method, self.grids.get("default", {}))
        on_tasks = [table.get(TASKS, {}).get(task, {}) for task in named_in(data)]
        layers = [{key: values for key, values in table.items() if key != TASKS}, *on_tasks]
        return {key: list(values) for layer in layers for key, values in layer.items()}

    def _layers(self, method: str, data: str) -> list[Table]:
        """The tables that apply; later ones win."""
        own, tasks = self.methods.get(method, {}), named_in(data)
        on_tasks = [self.tasks.get(task, {}) for task in tasks]
        return [self.run, *on_tasks, own, *(own.get(TASKS, {}).get(task, {}) for task in tasks)]


def scaled(base: float, batch_size: int) -> float:
    """The learning rate of a rate for 256 images, without digits that nobody would type."""
    return float(f"{base * batch_size / BASE_IMAGES:.12g}")


def named_in(data: str) -> tuple[str, ...]:
    """What tables may call a run's data: `vtab1k`, then `vtab1k:cifar100`; nothing for data of another kind.

    Raises:
        DataError: a benchmark's task that does not exist.
    """
    mention = mentioned(data)
    return () if mention is None else (mention.row.benchmark, mention.row.name)


@cache
def _found() -> dict[str, Protocol]:
    """Every protocol by its name."""
    files = [file for file in resources.files(__package__).iterdir() if file.name.endswith(".toml")]
    texts = {file.name.removesuffix(".toml"): file.read_text(encoding="utf-8") for file in files}
    return {name: _protocol(name, tomllib.loads(texts[name])) for name in sorted(texts)}


def _protocol(name: str, table: dict[str, Any]) -> Protocol:
    differs = tuple(table.pop("differs", ()))
    return Protocol(name, differs=differs, **table)


def names() -> tuple[str, ...]:
    """The names of all protocols."""
    return tuple(_found())


def named(name: str) -> Protocol:
    """A protocol by its name. Raises ConfigError with the nearest."""
    if name not in _found():
        raise ConfigError(unknown("protocol", name, names()))
    return _found()[name]


def completed(given: Table) -> dict[str, Any]:
    """Keys of a run with the protocol's where none are given, and its fields where the method's text names none.

    `given` has data, method and protocol; a key that is None there was left open on purpose.

    Raises:
        ConfigError: an unknown protocol or method.
    """
    protocol, method = named(given["protocol"]), methods.parse(given["method"])
    filled = protocol.filled(method, given["data"])
    own = {name: value for name, value in filled.items() if name not in fields_in(given["method"])}
    whole = methods.parse({**methods.describe(method), **own})
    keys = protocol.keys(method.name, given["data"], given.get("batch_size"))
    return {**keys, **given, "method": spelled(whole, filled)}


def spelled(method: Method, fields: Iterable[str]) -> str:
    """A method's text in which these fields stand even at their defaults, so that nothing fills them again."""
    spec = methods.spec_of(method)
    at_default = [f"{name}={getattr(method, name)}" for name in fields if name not in fields_in(spec)]
    told = ",".join(filter(None, (spec.partition(":")[2], *at_default)))
    return f"{method.name}:{told}" if told else method.name


def fields_in(spec: str) -> set[str]:
    """The fields that a method's text says, whatever their values."""
    return {part.partition("=")[0].strip() for part in spec.partition(":")[2].split(",")} - {""}

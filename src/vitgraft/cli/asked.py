"""What a command of `vitgraft bench` is about: the options that all of them take."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vitgraft.errors import ConfigError, unknown

if TYPE_CHECKING:
    from vitgraft.bench.cell import Cell
    from vitgraft.bench.suite import Suite

HOME = Path("bench")


@dataclass(frozen=True)
class Asked:
    """What a command is about: a suite by the name that the user gave it, its folder, the tasks that are meant."""

    name: str
    suite: "Suite"
    out: Path
    tasks: tuple[str, ...]
    options: tuple[str, ...] = ()

    def command(self, what: str, names: str | None) -> str:
        """A command on just these runs, as one types it."""
        methods = ("--methods", names) if names else ()
        return shlex.join(["vitgraft", "bench", what, self.name, *methods, *self.options])

    def cells(self, names: str | None, with_choosers: bool = False) -> "list[Cell]":
        """Of some methods, or all; perhaps of those that choose for them, too.

        Raises ConfigError for one that the suite does not have.
        """
        from vitgraft.bench.cell import Home, cells, choosers

        chosen = _some("method", names, tuple(self.suite.entries))
        wanted = choosers(self.suite, chosen) if with_choosers else chosen
        return cells(self.suite, Home(self.out), self.tasks, wanted)


def asked_of(
    suite: Annotated[
        str, typer.Argument(help="A TOML file, or builtin, quick, vtab1k or fgvc.", show_default=False)
    ],
    out: Annotated[Path, typer.Option(help="Folder of all suites' runs and records.")] = HOME,
    tasks: Annotated[str | None, typer.Option(help="Some of the tasks, with commas.")] = None,
    tune: Annotated[
        int | None, typer.Option(min=1, help="Choose from so many random points of each grid.")
    ] = None,
    halving: Annotated[
        int | None,
        typer.Option(min=0, help="Halve the candidates so often, by ever longer runs; wins over the suite's."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A key of every run, as fit has them; wins over the suite's.", metavar="KEY=VALUE"
        ),
    ] = None,
) -> Asked:
    """Raises ConfigError for tasks that the suite does not have, or a suite that there is not."""
    from vitgraft.bench.suite import load

    found = load(suite, changes(sets or []))
    if tune is not None:
        found = replace(found, tune=tune)
    if halving is not None:
        found = replace(found, halving=halving)
    given = {"--out": None if out == HOME else out, "--tasks": tasks, "--tune": tune, "--halving": halving}
    options = [text for option, value in given.items() if value is not None for text in (option, str(value))]
    options += [text for value in sets or [] for text in ("--set", value)]
    return Asked(suite, found, out, _some("task", tasks, found.tasks), tuple(options))


def _some(kind: str, asked: str | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """Those of a suite's tasks or methods that were asked for, all by default. Raises ConfigError."""
    chosen = tuple(asked.split(",")) if asked else known
    for one in chosen:
        if one not in known:
            raise ConfigError(unknown(f"{kind} of this suite", one, known))
    return chosen


def changes(sets: list[str]) -> dict[str, Any]:
    """Keys of every run as --set gives them. Raises ConfigError."""
    from vitgraft.runs.config import from_text, keys

    found = {}
    for one in sets:
        name, equals, value = one.partition("=")
        if not equals:
            raise ConfigError(f"--set {one!r} has no value. Write --set KEY=VALUE, such as --set epochs=50.")
        if name not in keys():
            raise ConfigError(unknown("key of a run", name, keys()))
        found[name] = from_text(name, value)
    return found

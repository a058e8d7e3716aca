"""What an earlier run has left in a folder: a record to be given back, something to go on with, or in the way."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from vitgraft.atomic import write_atomically
from vitgraft.data.benchmarks.names import mentioned
from vitgraft.data.kept import Kept, put
from vitgraft.errors import ConfigError, command
from vitgraft.models import artefact, folder
from vitgraft.results import store
from vitgraft.results.record import Record
from vitgraft.runs.config import RunConfig, read_toml
from vitgraft.train import state

NEAR = 0.75
"""How alike two folders' names are, from 0 to 1, of which one may be the other mistyped."""

PATHS = ("data", "root", "checkpoint", "start_from")
"""Keys whose values may be paths, which have many spellings."""


@dataclass(frozen=True)
class Start:
    """How a run begins: `config` is the run as it is written, in a folder of its own while it replaces another.

    `done` is the record of a finished run that was asked for again.
    """

    config: RunConfig
    resume: bool = False
    done: Record | None = None

    def make_room(self, toml: str, images: Kept | None) -> None:
        """Begin the folder with the list of the run's images, and its configuration; what an earlier run was to
        replace it with is no more."""
        place = self.config.folder
        if place.name == store.NEXT and not self.resume and place.exists():
            shutil.rmtree(place)
        put(images, place)
        write_atomically(self.config.kept, toml.encode())


def begin(config: RunConfig, resume: bool, force: bool) -> Start:
    """How a run begins in a folder that may hold something; nothing is removed.

    Raises:
        ConfigError: the folder holds a run that is neither resumed nor replaced, or one of another configuration.
    """
    home = config.folder
    for path, option in ((home, "--out"), (config.records and Path(config.records), "--records")):
        if path and path.exists() and not path.is_dir():
            raise ConfigError(f"'{path}' is a file. Name a folder with {option}.")
    folder.check_unused(home)
    if folder.is_moving(home):  # it was killed then
        with folder.held(home):
            folder.complete(home)
    what, pending = folder.holds(home), (home / store.NEXT / store.KEPT).exists()
    if force:
        return Start(_in(config, home / store.NEXT) if what else config)
    if resume:
        return _going_on(config, what)
    if what == "a saved graft":
        raise ConfigError(f"{home} holds a saved graft. Replace it with a run (--force), or use another --out.")
    if what or pending:
        what = f"{what}, and one that was to replace it and was stopped" if what and pending else what
        raise ConfigError(
            f"{home} holds {what or 'a run that was stopped'}. Go on with it (--resume), replace it (--force), or "
            "use another --out."
        )
    return Start(config)


def _going_on(config: RunConfig, what: str | None) -> Start:
    """The run to go on with: the one that was to replace what the folder holds, if it is of this configuration."""
    home = config.folder
    refused: list[str] = []
    for place in (home / store.NEXT, home):
        if (place / store.KEPT).exists():
            other = _other(config, RunConfig.of(read_toml(place / store.KEPT)), place)
            if other is None:
                return _at(config, place)
            refused.append(other)
    if refused:
        raise ConfigError(refused[0])
    if (home / store.SEARCH / store.KEPT).exists():
        how = command("fit", "--resume", "--out", home)
        raise ConfigError(f"{home} holds {what}. Go on with it as it is: {how}. Or use another --out.")
    if what == "a saved graft":
        raise ConfigError(
            f"{home} holds a saved graft, and no run to go on with. Replace it (--force), or use another --out."
        )
    return _at(config, home)


def _at(config: RunConfig, place: Path) -> Start:
    path = place / store.FILE
    return Start(_in(config, place), resume=True, done=_record(path) if path.exists() else None)


def _record(path: Path) -> Record:
    """The record of a finished run. Raises ConfigError if the graft beside it is of another one."""
    record = store.read(path)
    if record.graft is not None and (path.parent / artefact.CARD).exists():
        digest = artefact.read_card(path.parent).digest
        if digest != record.graft:
            raise ConfigError(
                f"{path} and {path.parent / artefact.CARD} are of two different runs: the record is of graft "
                f"{record.graft}, and this one is {digest}. Replace both (--force), or use another --out."
            )
    return record


def _in(config: RunConfig, place: Path) -> RunConfig:
    return config if place == config.folder else replace(config, out=str(place))


def _other(config: RunConfig, kept: RunConfig, place: Path) -> str | None:
    """What is to be said if two configurations differ in what they compute."""
    others = differing(config.table(), kept.table())
    if config.checkpoint and kept.checkpoint and (place / state.FILE).exists():
        others = [key for key in others if key != "checkpoint"]  # a snapshot knows whose weights they are
    if not others:
        return None
    now, then = store.meant(config.table()), store.meant(kept.table())
    told = "; ".join(f"{key} is {now[key]!r}, was {then[key]!r}" for key in others)
    further = ""
    if "epochs" in others and (place / store.FILE).exists():
        how = command("fit", "--from", config.folder, "--epochs", str(now["epochs"]), "--out", "OTHER")
        further = f" To train on from what it has learned, under a schedule of its own: {how}."
    return (
        f"The run in {config.folder} cannot go on with another configuration: {told}. Leave these "
        f"options out, replace the run with --force, or use another --out.{further}"
    )


def differing(given: Mapping[str, Any], kept: Mapping[str, Any]) -> list[str]:
    """Keys in which two configurations differ in what they compute; a path is the same however it is spelled."""
    now, then = store.meant(given), store.meant(kept)
    return [key for key in now if now[key] != then.get(key) and not _same_path(key, now[key], then.get(key))]


def _same_path(key: str, one: Any, other: Any) -> bool:
    if key not in PATHS or not isinstance(one, str) or not isinstance(other, str):
        return False
    if key == "data" and (_is_name(one) or _is_name(other)):
        return False
    first, second = (os.path.realpath(os.path.expanduser(path)) for path in (one, other))
    return first == second


def _is_name(data: str) -> bool:
    """True if `data` is the name of a task, not a path."""
    from vitgraft.data import builtin

    return mentioned(data) is not None or (data in builtin.names() and os.sep not in data)


def nothing_to_resume(home: Path, given: Mapping[str, Any]) -> str | None:
    """What is to be said where a run is to go on, and its folder holds none; None if it holds something.

    Raises:
        ConfigError: a folder of nearly that name holds a run of what was `given`: the name was mistyped.
    """
    if folder.holds(home) or folder.is_run(home):
        return None
    near = next(_namesakes(home, given), None)
    if near is not None:
        raise ConfigError(
            f"{home} holds no run to go on with. Did you mean --out {near}? To begin a new run in {home}, leave "
            "--resume out."
        )
    return f"{home} holds no run to go on with: a new one begins."


def _namesakes(home: Path, given: Mapping[str, Any]) -> Iterator[Path]:
    """Folders whose names are nearly that of `home`, and that hold a run which agrees with what was given."""
    beside = _near(home) if home.parent.is_dir() else [one / home.name for one in _near(home.parent)]
    for place in beside:
        with suppress(ConfigError):
            if (kept := store.kept_in(place)) is not None:
                then = read_toml(kept)
                found = RunConfig.of(then).table()
                now = RunConfig.of({**then, **given}).table()
                if not differing(now, found):
                    yield place


def _near(path: Path) -> list[Path]:
    if not path.parent.is_dir():
        return []
    names = [one.name for one in path.parent.iterdir() if one.is_dir() and one.name != path.name]
    return [path.parent / name for name in get_close_matches(path.name, names, n=5, cutoff=NEAR)]

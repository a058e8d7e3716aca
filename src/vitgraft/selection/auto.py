"""`auto`: the best run that can be had on some images within minutes."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from vitgraft.advice.advise import Adviser, Limits, adviser
from vitgraft.atomic import remove, write_atomically
from vitgraft.data.kept import Kept, put
from vitgraft.data.preprocessing import preset
from vitgraft.errors import ConfigError, option
from vitgraft.kinds import checked
from vitgraft.machine.memory import free, held
from vitgraft.machine.placement import Placement, place
from vitgraft.methods import parse
from vitgraft.models import folder
from vitgraft.models import model as models
from vitgraft.models.model import Model
from vitgraft.models.planting import own_preprocessing
from vitgraft.results import store
from vitgraft.results.record import Record, Selection
from vitgraft.runs import kept_split
from vitgraft.runs.config import RunConfig, read_toml
from vitgraft.runs.earlier import differing
from vitgraft.runs.run import Ready, backbone_of, check_choosable, tell_of, test_later
from vitgraft.selection import winner
from vitgraft.selection.candidates import groups
from vitgraft.selection.ledger import Ledger
from vitgraft.selection.prices import Prices
from vitgraft.selection.question import Question
from vitgraft.selection.race import Race
from vitgraft.selection.readings import read_once

FREE_PART = 0.9
"""Part of the memory that is free which a candidate may have if no limit is named."""

PROBED = 0.02
"""Part of the limit of time that looking at one method's speed may take, at most `LONGEST` seconds."""

LONGEST = 2.0


@checked
def auto(
    data: str | Path,
    backbone: str = "figures",
    *,
    minutes: float = 10.0,
    out: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    **options: Any,
) -> Model:
    """The best model on `data` that can be had within `minutes`: `vitgraft fit --method auto`, from Python.

    It is kept in `out` as a run of the command line is; its record there has the table of what was tried.
    `options` are keys of a run, such as epochs=20 or image_size=112, and hold for every candidate. `resume` goes
    on with a search that was stopped, `force` replaces what the folder holds.

    Raises:
        VitgraftError: anything in options, data or weights that cannot be used; no candidate that can be done.
        KeyboardInterrupt, SystemExit: Ctrl-C or SIGTERM; what was reached is saved in `out`.
    """
    given = {"data": str(data), "backbone": backbone, "minutes": minutes, **options}
    question = Question.of(given if out is None else {**given, "out": str(out)})
    select(question, resume=resume, force=force, tell=_tell)
    return models.load(question.folder)


def select(
    question: Question, *, resume: bool = False, force: bool = False, tell: Callable[[str], None]
) -> Record:
    """Search, and keep the best run in the question's folder; returns its record, whose `selection` tells of all.

    Raises: see `auto`.
    """
    began, home, common = perf_counter(), question.folder, question.common
    here = place(common.training.device)
    if here.processes > 1:
        raise ConfigError(
            "A search (--method auto) runs in one process: start it without a launcher. What it chooses can be "
            "trained by several."
        )
    with folder.held(home):
        done = _begin(question, resume, force)
        if done is not None:
            tell(f"{home} is finished already; nothing was tried.")
            return done
        ready = Ready(_task(question, resume, tell), backbone_of(common))
        ready.backbone.to(here.device)
        ledger = Ledger.read(home / store.SEARCH)
        race = _race(question, ready, ledger, here, began, tell)
        try:
            race.go()
        finally:
            ledger.save(race.used())
        return _keep(question, race, tell)


def _begin(question: Question, resume: bool, force: bool) -> Record | None:
    """Make room for a search; the record if it is finished.

    Raises:
        ConfigError: the folder holds something that is neither gone on with nor replaced.
    """
    home, search = question.folder, question.folder / store.SEARCH
    folder.complete(home)
    what = folder.holds(home) or (folder.is_run(home) and "a run that was begun")
    if force:
        remove(search)
    elif resume and (search / store.KEPT).exists():
        then = Question.of(read_toml(search / store.KEPT))
        _check_same(question, then)
    elif resume and (home / store.FILE).exists():
        record = store.read(home / store.FILE)
        if record.selection is None:
            raise ConfigError(
                f"{home} holds a finished run that no search has chosen. Replace it (--force), or use another "
                "--out."
            )
        then = Question.of({**record.selection.given, "out": str(home)})
        _check_same(question, then)
        return record
    elif what:
        raise ConfigError(
            f"{home} holds {what}. Go on with it (--resume), replace it (--force), or use another --out."
        )
    search.mkdir(parents=True, exist_ok=True)
    write_atomically(search / store.KEPT, question.toml().encode())
    return None


def _check_same(now: Question, then: Question) -> None:
    """Raise ConfigError if a search is to go on as another one; its minutes may be others."""
    here, there = now.common.table(), then.common.table()
    if keys := differing(here, there):
        told = "; ".join(f"{key} is {here[key]!r}, was {there[key]!r}" for key in keys)
        raise ConfigError(
            f"The search in {now.folder} cannot go on with other keys: {told}. Leave these out, replace it with "
            "--force, or use another --out."
        )


def _task(question: Question, resume: bool, tell: Callable[[str], None]) -> Any:
    """The images of the search, cut when it began, and listed beside what it tries."""
    common = replace(question.common, out=str(question.folder / store.SEARCH))
    task = kept_split.task_of(common, resume, tell)
    check_choosable(task)
    tell_of(task, tell)
    put(Kept.of(task.splits), common.folder)
    return task


def _race(
    question: Question,
    ready: Ready,
    ledger: Ledger,
    here: Placement,
    began: float,
    tell: Callable[[str], None],
) -> Race:
    """The candidates with their prices, once the readings that they share are there."""
    common, limit = question.common, 60 * question.minutes
    found = groups(question)
    pictures = preset(common.preprocessing, own_preprocessing(ready.backbone))
    known = _adviser(ready, pictures, common, here, limit)
    prices = Prices(known)
    race = Race(found, ready, prices, ledger, limit, began, tell)
    if prices.caching() > race.left():
        seconds = prices.caching() + prices.testing() + race.used()
        raise ConfigError(
            f"The frozen part of {known.counts.train + known.counts.val:,} images takes {prices.caching():.0f} s "
            f"here by prediction, and {max(race.left(), 0):.0f} s of {limit:.0f} s are left for it and all that "
            f"is to be tried. Give it more ({option('minutes', _round(2 * seconds))}), or use a smaller backbone "
            "or image size."
        )
    reading = [parse(one.configs[0].method) for one in found if one.first and not one.in_place]
    alone = read_once(reading, ready.task, ready.backbone, pictures, common.training, here)
    prices.shared = alone is None
    for line in (*question.told, *_apart(alone)):
        race.say(line)
    return race


def _adviser(ready: Ready, pictures: Any, common: RunConfig, here: Placement, limit: float) -> Adviser:
    limits = Limits(round(FREE_PART * free(here.device)) + held(here.device))
    known = adviser(ready.task, ready.backbone, pictures, common.training, limits, here, 0.0, 1)
    return replace(known, allowed=min(PROBED * limit, LONGEST))


def _apart(reason: str | None) -> list[str]:
    """What is said where candidates share no readings."""
    return [] if reason is None else [f"Each candidate computes the frozen part for itself: {reason}."]


def _keep(question: Question, race: Race, tell: Callable[[str], None]) -> Record:
    """Test the best candidate and keep it."""
    ledger, home = race.ledger, question.folder
    name = ledger.best()
    if name is None:
        raise _nothing(race)
    configs = {config.folder.name: config for group in race.groups for config in group.configs}
    config = configs[name]
    record = test_later(config, tell, race.ready)
    used = race.used()
    if used > race.limit:
        race.say(f"It took {used:.0f} s and not {race.limit:.0f}: what was begun took longer than predicted.")
    selection = Selection(
        "auto", question.minutes, used, dict(question.given), list(ledger.tried.values()), race.told
    )
    return winner.keep(config, record, home, question.records, selection)


def _nothing(race: Race) -> ConfigError:
    """What is to be said where no candidate was trained to its end."""
    if race.failures:
        return ConfigError(f"No candidate could be trained. The first one: {race.failures[0]}")
    needed = min(race.prices.seconds(group, 1) for group in race.groups)
    if needed == float("inf"):
        reasons = dict.fromkeys(one.left_out or "" for one in race.ledger.tried.values())
        return ConfigError(f"No candidate can be had here: {'; '.join(reasons)}.")
    more = _round(needed + race.used() + race.prices.testing())
    return ConfigError(
        f"No candidate can be done in {race.limit:.0f} s: the shortest would take {needed:.0f} s by prediction, "
        f"and looking at data, backbone and speeds took {race.used():.0f} s. Give it more: "
        f"{option('minutes', more)}."
    )


def _round(seconds: float) -> float:
    """Seconds as minutes that somebody would type, with a little more."""
    return round(1.2 * seconds / 60 + 0.05, 1)


def _tell(line: str) -> None:
    print(line, file=sys.stderr)

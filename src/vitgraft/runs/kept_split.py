"""The images of a run: cut when it begins, listed beside it, and never cut again.

Whoever comes back to a run (to go on, to test it later, to measure it, to predict its test images) gets them here.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vitgraft.data import source
from vitgraft.data.benchmarks.find import recognised
from vitgraft.data.benchmarks.names import mentioned
from vitgraft.data.kept import FILE, SPLITS, Kept, Today, compared
from vitgraft.data.labelling import labelling
from vitgraft.data.measured import Part, part_of
from vitgraft.data.naming import matched
from vitgraft.data.pictures.survey import survey
from vitgraft.data.reading.files import FileImages
from vitgraft.data.reading.lists.splits import AUTO
from vitgraft.data.reading.options import Reading
from vitgraft.data.task import Split, Task
from vitgraft.errors import DataError, TaskError, command
from vitgraft.models import artefact
from vitgraft.results import store
from vitgraft.results.record import Record
from vitgraft.runs.config import DATA, KEPT, RunConfig, keys, read_toml

COLUMNS = ("path_column", "label_column", "split_column", "suffix", "labels")
"""Keys of a run that say what the columns of a list are."""

AS_IT_IS: dict[str, Any] = {"to_measure": True, "check": False}
"""How data are read that are not to be cut: what of them is measured is checked, and no more."""


def load_task(config: RunConfig) -> Task:
    """The task that a configuration names, cut into splits as it says.

    Raises:
        TaskError: data that cannot be used.
        ConfigError: something is to be chosen on validation images that are trained on.
    """
    config.check_choosing()
    cut: dict[str, Any] = {
        "seed": config.split_seed,
        "val_fraction": config.val_fraction,
        "test_fraction": config.test_fraction,
        "skip_unreadable": config.skip_unreadable,
        "train_on": config.train_on,
    }
    try:
        return source.load(config.data, **cut, **_reading(config))
    except DataError as error:
        raise TaskError(str(error)) from None


def task_of(config: RunConfig, resume: bool, tell: Callable[[str], None]) -> Task:
    """The task of a run that begins, or goes on."""
    return going_on(config, tell) if resume else load_task(config)


def list_of(config: RunConfig, task: Task, resume: bool) -> Kept | None:
    """The list of a run's images, None where they are not kept one by one; a run that goes on has its own.

    Where it begins with the values of another run, what that was trained on is listed, too.
    """
    if resume and (own := Kept.read(config.folder)) is not None:
        return own
    kept = Kept.of(task.splits)
    if kept is None or config.start_from is None:
        return kept
    return kept.with_earlier(Kept.read(Path(config.start_from).expanduser()))


def going_on(config: RunConfig, tell: Callable[[str], None]) -> Task:
    """The task of a run that goes on: the images that it began with, whatever has been added since.

    Raises:
        TaskError: some of them are not as they were.
    """
    kept = Kept.read(config.folder)
    if kept is None or _is_given(config.data):
        return load_task(config)
    try:
        task = _as_it_is(config)
        today = compared(kept, task)
    except DataError as error:
        raise TaskError(str(error)) from None
    if differs := today.differs():
        raise TaskError(
            f"{config.data} is not as it was when the run in {config.folder} began: {'; '.join(differs)}. Put it "
            "back, or train anew: --force, or another --out."
        )
    if added := today.additions():
        tell(f"{config.data} has grown since the run began: {'; '.join(added)}. The run goes on without them.")
    elif not today.renamed:
        return load_task(config)
    return replace(task, **_as_begun(config, today))


def test_split(config: RunConfig, record: Record, tell: Callable[[str], None]) -> Split | None:
    """The test images of a finished run that has not read them.

    Raises:
        TaskError: they are not as they were.
    """
    kept = Kept.read(config.folder)
    if kept is None or _is_given(config.data):
        task = load_task(config)
        if _differs(task, record):
            raise TaskError(_other(config, record))
        return task.splits.get("test")
    try:
        today = compared(kept, _as_it_is(config))
    except DataError as error:
        raise TaskError(str(error)) from None
    if differs := today.differs(["test"]):
        raise TaskError(
            f"{config.data} is not as it was when the run in {config.folder} began: {'; '.join(differs)}. Put it "
            "back, or train anew."
        )
    if added := today.additions():
        tell(f"{config.data} has grown since the run began: {'; '.join(added)}. They are not tested on.")
    splits: dict[str, Split] = _as_begun(config, today)["splits"]
    return splits.get("test")


def part_of_run(
    run: Path,
    asked: str | None = None,
    *,
    data: str | None = None,
    reading: Mapping[str, object] | None = None,
    allow_missing: bool = False,
) -> Part:
    """Images to measure a run on: a part of its own data, or of other `data`.

    `asked` is train, val, test, all or new; without it, the test of splits, or else all. `reading` has keys of a
    run that say how data are read, such as root; for its own data the run's are the others.

    Raises:
        DataError: there are no such images.
    """
    kept, reading = Kept.read(run), {**_learned(run), **(reading or {})}
    config = _config(run, reading)
    if data is None and config is None:
        how = command("eval", run)
        raise DataError(f"'{run}' does not say what it was trained on. Name the images: {how} DATA")
    if config is not None and (data is None or _same_place(data, config.data)):
        try:
            return _own(run, config, kept, asked, allow_missing)
        except DataError as error:
            if os.path.exists(config.data) or data is not None:
                raise
            raise DataError(
                f"{run} was trained on {config.data!r}, as it was called where the run began, and that cannot be "
                f"read here. Name the images: {command('eval', run)} DATA. {error}"
            ) from None
    other = RunConfig.of({"data": data, **reading})
    if kept is None and config is not None and (moved := _moved(run, config, other, asked)) is not None:
        return moved
    task = _as_it_is(other, skip_missing=allow_missing)
    part = part_of(task, asked, kept, allow_missing=allow_missing)
    return replace(part, notes=(*task.notes, *part.notes, *_unlisted(run, config, kept)))


def _learned(run: Path) -> dict[str, object]:
    """Which kind of labels a run has learned, if its graft is there: labels to measure it on are read as these."""
    return {"labels": artefact.read_card(run).kind} if (run / artefact.CARD).is_file() else {}


def _config(run: Path, reading: Mapping[str, object]) -> RunConfig | None:
    """What a run says of its own data, with changes; None if it says nothing."""
    if not (run / KEPT).is_file():
        return None
    given = read_toml(run / KEPT)
    own = {key: value for key, value in given.items() if keys()[key].panel == DATA}
    return RunConfig.of({**own, "out": str(run), **reading})


def _own(run: Path, config: RunConfig, kept: Kept | None, asked: str | None, allow_missing: bool) -> Part:
    """A part of a run's own data."""
    record = store.find(run / store.FILE)
    if kept is not None and not _is_given(config.data):
        return part_of(_as_it_is(config), asked or "test", kept, own=True, allow_missing=allow_missing)
    task = load_task(config)
    differs = record is not None and _differs(task, record)
    if differs and not _is_given(config.data):
        raise DataError(_other(config, record))
    part = part_of(task, asked or "test")
    notes = (_other(config, record),) if differs else ()
    return replace(part, notes=(*task.notes, *part.notes, *notes))


def _moved(run: Path, config: RunConfig, other: RunConfig, asked: str | None) -> Part | None:
    """A part of a run's own data at another place, if that is what `other` names: for runs without a list."""
    record = store.find(run / store.FILE)
    if record is None or _is_given(config.data) or _is_given(other.data):
        return None
    try:
        task = load_task(replace(config, data=other.data, root=other.root))
    except DataError:
        return None
    if _differs(task, record):
        return None
    part = part_of(task, asked or "test")
    moved = f"{other.data} holds the images of the run itself: they are split as they were."
    return replace(part, notes=(moved, *part.notes))


def _reading(config: RunConfig) -> dict[str, Any]:
    """How a configuration says that data are read, apart from how they are cut."""
    asked = {name: getattr(config, name) for name in ("root", *COLUMNS)}
    given = {name: value for name, value in asked.items() if value not in (None, AUTO)}
    return {**given, "pixel_range": config.pixel_range, "max_pixels": config.max_pixels}


def _as_it_is(config: RunConfig, skip_missing: bool = True) -> Task:
    """The data of a configuration with no split but their own."""
    how = {} if _is_given(config.data) else {**AS_IT_IS, "skip_missing": skip_missing}
    return source.load(config.data, **how, **_reading(config))


def _as_begun(config: RunConfig, today: Today) -> dict[str, Any]:
    """Classes and splits of a task with the images that a run began with."""
    assert today.images.classes is not None, "images that are compared know their classes"
    known = {entry.label for entry in today.kept.entries}
    classes = labelling(today.images.kind).used(known, today.images.classes)
    splits = {name: split for name in SPLITS if (split := today.split(name)) is not None}
    splits = {name: matched(split, classes).split for name, split in splits.items()}
    return {"classes": classes, "splits": _surveyed(config, splits)}


def _surveyed(config: RunConfig, splits: Mapping[str, Split]) -> Mapping[str, Split]:
    """Splits whose range of pixel values is found over their own images, as when the run began."""
    files = {name: split.images for name, split in splits.items() if isinstance(split.images, FileImages)}
    if len(files) < len(splits):
        return splits
    root = next(iter(files.values())).root
    paths = {name: images.paths for name, images in files.items()}
    ranges, _ = survey(root, paths, None, Reading(pixel_range=config.pixel_range, max_pixels=config.max_pixels))
    return {name: replace(splits[name], images=replace(images, ranges=ranges)) for name, images in files.items()}


def _is_given(data: str) -> bool:
    """True of data whose splits are given: those that are built in, and the benchmarks'."""
    from vitgraft.data import builtin

    path = os.path.expanduser(data)
    if mentioned(data) is not None or (data in builtin.names() and os.sep not in data):
        return True
    return os.path.isdir(path) and recognised(Path(path)) is not None


def _same_place(one: str, other: str) -> bool:
    paths = [os.path.realpath(os.path.expanduser(path)) for path in (one, other)]
    return paths[0] == paths[1]


def _differs(task: Task, record: Record) -> bool:
    """Whether a task is another than a record's, whatever the folder is called now."""
    return replace(task, name=record.task.name).fingerprint() != record.task.fingerprint


def _other(config: RunConfig, record: Record | None) -> str:
    """What is to be said of data that are not what a run was trained on."""
    what = f"{config.data} is not what {config.folder} was trained on"
    if record is not None and _is_given(config.data):
        return (
            f"{what}: its images or labels are others (fingerprint {record.task.fingerprint} then), as of another "
            "version or copy. Its test images as they are now are measured."
        )
    return (
        f"{what}: images, classes or labels have changed, and the run keeps no list of its images ({FILE}), as "
        "earlier versions did not. Cut again, the data would test it on what it was trained on. Name images that "
        f"it has not seen: {command('eval', config.folder)} DATA"
    )


def told_of_unlisted(earlier: Path, config: RunConfig, task: Task) -> tuple[str, ...]:
    """A sentence where a run goes on from the values of an `earlier` one, and nobody can know what of its images
    that was trained on."""
    if _is_given(config.data) or not earlier.exists() or Kept.read(earlier) is not None:
        return ()
    record = store.find(earlier / store.FILE)
    if record is not None and not _differs(task, record):  # split as it was then
        return ()
    return (
        f"{earlier} keeps no list of its images ({FILE}): if it was trained on some that are val or test here, "
        "the accuracy on these is better than it should be. To be sure, name images that it has not seen.",
    )


def _unlisted(run: Path, config: RunConfig | None, kept: Kept | None) -> list[str]:
    """A sentence where nobody can know what a run was trained on."""
    if kept is not None or (config is not None and _is_given(config.data)):
        return []
    return [
        f"{run} keeps no list of its images ({FILE}): whether it was trained on some of these, nobody can tell."
    ]

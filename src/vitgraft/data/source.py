"""One entry point for tasks, whatever names them: a built-in one, a benchmark's, a folder, a table or a list."""

import glob
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vitgraft.data.benchmarks import load as benchmarks
from vitgraft.data.benchmarks.find import recognised
from vitgraft.data.benchmarks.names import RETRAIN, Mention, mentioned, near
from vitgraft.data.labelling import KINDS
from vitgraft.data.pictures.decode import looks_like_image
from vitgraft.data.pictures.ranges import AUTO
from vitgraft.data.reading.folder import load_folder
from vitgraft.data.reading.left_out import LeftOut, sorted_out, together, told_counts
from vitgraft.data.reading.listing import list_to_measure, load_list, train_list
from vitgraft.data.reading.lists.columns import column_options
from vitgraft.data.reading.options import Reading
from vitgraft.data.reading.rows import LISTS
from vitgraft.data.reading.split_names import FRACTION
from vitgraft.data.reading.walk import images_below
from vitgraft.data.split import retraining
from vitgraft.data.task import Task
from vitgraft.errors import ConfigError, DataError, Told, unknown
from vitgraft.errors import near as nearest
from vitgraft.kinds import checked, converted, shown

LABELS = ("classes",)
"""What only a list can be told, and in Python alone."""

SHEETS = (".xlsx", ".xls", ".ods", ".numbers", ".json", ".jsonl", ".parquet", ".feather")
"""Tables of other kinds, which can be saved as CSV."""

TRAIN_ON = ("train", RETRAIN)
"""What may be trained on: train, or train and val as one."""


def load(source: str | Path, *, train_on: str = "train", **options: object) -> Task:
    """The task called `source`: a built-in one, a folder of class folders or lists, a CSV, TSV or text list.

    A text without a path separator is a built-in task first and a path second, so that a folder named like a
    built-in task is reached as `./name`; a `Path` is a path first. `options` are the fields of `Reading` and,
    for lists, `root`, `classes` and the fields of `Columns`. A built-in task takes `size`, `test` and `root` as
    `builtin.load` says, and of `Reading` the seed; its splits are fixed, and its pictures need no check.

    `vtab1k:cifar100` and `fgvc:cub200` are benchmarks' tasks, in any of their spellings, and `root` is the folder
    that holds the copy; `vtab1k:cifar100:trainval` has train and val as one split "train", and no val. The folder
    of such a task is a source, too. `train_on` trainval says the same of any task.

    Raises:
        DataError: nothing of that name, with near matches; or data that cannot be used as they are.
        ConfigError: an option that does not exist or has a wrong value.
    """
    from vitgraft.data import builtin

    source = source if isinstance(source, str) else converted("source", source, str | Path)
    if converted("train_on", train_on, str) not in TRAIN_ON:
        raise ConfigError(unknown("value of train_on", train_on, TRAIN_ON))
    text, both = os.fspath(source), train_on == RETRAIN
    if isinstance(source, str) and (mention := mentioned(text)) is not None:
        _refuse_columns(text, options)
        task = benchmarks.load(_asked(mention, both), options.pop("root", None), options)
        return _of_kind(task, options)
    path = Path(os.path.expanduser(text))
    separated = isinstance(source, Path) or "/" in text or os.sep in text
    if text in builtin.names() and not (separated and os.path.exists(path)):
        task = _of_kind(_built_in(text, options), options)
        return _together(task) if both else task
    if not text or not os.path.exists(path):
        raise DataError(_nothing_called(text, builtin.names()))
    if os.path.isdir(path) and (mention := recognised(path)) is not None:
        if options.get("root") is not None:
            raise ConfigError(f"'{path}' is the copy of {mention.row.name} itself: remove root (--root).")
        _refuse_columns(path, options)
        rest = {key: options[key] for key in options if key != "root"}
        return _of_kind(benchmarks.load(_asked(mention, both), path, rest), options)
    task = _read(path, options)
    return _together(task) if both else task


def load_task(source: str | Path, *, train_on: str = "train", **options: object) -> Task:
    """`load`, which see, for Python: what was guessed, ignored or left out is told by warnings (`Told`), too."""
    task = load(source, train_on=train_on, **options)
    unread = f"{len(task.skipped):,} images cannot be read and are left out: see the task's `skipped`."
    for line in (*task.notes, *([unread] if task.skipped else [])):
        warnings.warn(line, Told, stacklevel=2)
    return task


def _together(task: Task) -> Task:
    both = retraining(task)
    return both.noted("Train and val are one split (train_on = trainval): nothing is validated.")


def _asked(mention: Mention, both: bool) -> Mention:
    return mention._replace(retrain=mention.retrain or both)


def _of_kind(task: Task, options: Mapping[str, object]) -> Task:
    """The same task. Raises ConfigError if its labels are not of the kind that was asked for."""
    asked = options.get("labels", AUTO)
    if asked == AUTO or asked == task.kind:
        return task
    raise ConfigError(
        f"labels={shown(asked)} (--labels): those of {task.name} are {KINDS[task.kind].told} ({task.kind}). "
        "Leave it out; labels of other kinds come from a list (CSV)."
    )


def _read(path: Path, options: Mapping[str, object]) -> Task:
    """The task in a folder or a list of images."""
    if os.path.isdir(path):
        if (own := (list_to_measure if options.get("to_measure") is True else train_list)(path)) is not None:
            return load_list(path, **options).noted(f"The list '{own}' is read.")  # type: ignore[arg-type]
        if "root" in options:
            raise ConfigError(f"'{path}' has its images in it, and needs no root: leave it out (--root).")
        _refuse_columns(path, options)
        return _of_kind(load_folder(path, **options), options)
    if path.suffix.lower() in LISTS:
        return load_list(path, **options)  # type: ignore[arg-type]
    if looks_like_image(path.name):
        raise DataError(f"'{path}' is one image, not a task. Name a folder of class folders, or a list.")
    how = "Save the table as CSV" if path.suffix.lower() in SHEETS else "Rename it, or unpack it to a folder"
    raise DataError(f"'{path}' is no list: those end in {', '.join(LISTS)}. {how}.")


def _refuse_columns(what: object, options: Mapping[str, object]) -> None:
    """Raise ConfigError for options of lists where there is none."""
    asked = [key for key in (*column_options(options), *LABELS) if options.get(key) is not None]
    if asked:
        named = ", ".join(key if key in LABELS else f"{key} (--{key.replace('_', '-')})" for key in asked)
        raise ConfigError(f"'{what}' is no list, and has no columns: leave out {named}.")


class Images(list[Path]):
    """Image files, and what lies among them and is left out."""

    def __init__(self, files: Iterable[Path], left_out: LeftOut) -> None:
        super().__init__(files)
        self.left_out = left_out


@checked
def expand_images(patterns: Iterable[str | Path]) -> Images:
    """Image files named by files, folders (searched at any depth) and globs (`**` too), each once, in order.

    A file that is named is kept whatever it is. Of what folders and globs give, files with an image's suffix are
    kept, and those whose content is an image; the others are in `left_out`.

    Raises:
        DataError: a pattern that gives nothing, or no pattern.
    """
    found: dict[Path, None] = {}
    left: list[LeftOut] = []
    for pattern in patterns:
        path, beside = Path(os.path.expanduser(pattern)), LeftOut()
        if os.path.isdir(path):
            matches, beside = images_below(path)
            beside = beside.below(path)
            what = f"Folder '{path}' holds no images"
        elif os.path.exists(path):
            matches = [path]
        else:
            hits = sorted(glob.glob(str(path), recursive=True))
            matches, beside = sorted_out(hits)
            what = f"There is no file or folder '{path}'"
            if glob.has_magic(str(path)):
                what = f"'{path}' matches no images"
        if not matches:
            what += f", only other files ({told_counts(beside)}).{beside.advice()}" if beside.files else "."
            raise DataError(f"{what} Name image files, folders of images, or globs such as 'photos/*.jpg'.")
        found.update(dict.fromkeys(matches))
        left.append(beside)
    if not found:
        raise DataError("No images were named. Name image files, folders of images, or globs.")
    return Images(found, together(left, found))


def _built_in(name: str, options: Mapping[str, object]) -> Task:
    from vitgraft.data import builtin

    _refuse_columns(name, options)
    options = {key: value for key, value in options.items() if (key, value) != ("seed", None)}
    own = {key: value for key, value in options.items() if key in ("seed", "size", "test", "root")}
    if isinstance(own.get("root"), str):
        raise ConfigError(f"{name} is built in, and needs no root: leave it out (--root).")
    reading = Reading.of({key: value for key, value in options.items() if key == "seed" or key not in own})
    for key in ("val_fraction", "test_fraction"):
        if getattr(reading, key) not in (None, FRACTION):
            option = f"--{key.replace('_', '-')}"
            raise ConfigError(f"The built-in task {name!r} has its own splits: remove {key} ({option}).")
    task = builtin.load(name, **own)  # type: ignore[arg-type]
    if not reading.skip_unreadable:
        return task
    return task.noted(f"skip_unreadable (--skip-unreadable) has no effect: the pictures of {name} are drawn.")


def _nothing_called(text: str, names: Sequence[str]) -> str:
    """What was tried, what comes near, and what there is."""
    path = Path(os.path.expanduser(text))
    parent = path.parent
    beside = [str(parent / entry) for entry in os.listdir(parent)] if os.path.isdir(parent) else []
    close = nearest(str(path), [*names, *beside], 3, 0.6) + near(text) if text else []
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    what = f"There is no task {text!r}: no built-in task of that name, and no file or folder '{path.absolute()}'"
    others = "Benchmarks' tasks are named like vtab1k:cifar100; vitgraft data tasks lists them."
    return f"{what}.{hint} Built-in tasks: {', '.join(sorted(names))}. {others}"

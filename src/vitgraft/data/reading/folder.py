"""A folder of class folders as a task.

Two layouts:
- `root/train/<class>/...` with, where there are any, `root/val/<class>/...` and `root/test/<class>/...`;
- `root/<class>/...`, cut into 70 % train, 15 % val and 15 % test (stratified, seeded).
The split folders may have other well-known names, such as valid/ and holdout/. What is not given is cut out of
train as `split.missing_splits` says. Images may lie at any depth below a class folder. Hidden files and thumbnails
are ignored; of others without an image's suffix the content decides, and those that are no images are told of.
"""

import os
import unicodedata
from collections.abc import Mapping
from pathlib import Path

from vitgraft.data.reading.files import Found, check_classes, finish
from vitgraft.data.reading.left_out import Left, Role, told_counts
from vitgraft.data.reading.lists.defects import some
from vitgraft.data.reading.options import Item, Reading
from vitgraft.data.reading.split_names import ALL, SPLITS, needs_telling, split_hinted, split_named
from vitgraft.data.reading.walk import Walk, entries_of, folders_in, is_folder
from vitgraft.data.task import Task
from vitgraft.errors import DataError
from vitgraft.kinds import checked

LAYOUT = "Images lie in <folder>/<class>/, or in <folder>/train/<class>/ with val/ and test/ beside train/"


@checked
def load_folder(root: str | Path, **options: object) -> Task:
    """Read a folder of class folders; `options` are the fields of `Reading`.

    Classes are sorted by name and images by path, on every file system alike. Every class of val and test
    must be one of train's. The task is named after the folder.

    Raises:
        DataError: no such folder, no images, an empty class folder, fewer than two classes, classes that
            differ by case alone, a class that train lacks, images outside class folders, one file under two
            classes or splits, or an image that cannot be decoded.
        ConfigError: an option that does not exist or has a wrong value.
    """
    reading = Reading.of(options)
    return finish(find_folder(root, reading.to_measure), reading)


def find_folder(root: str | Path, to_measure: bool = False) -> Found:
    """What a folder of class folders holds: path, label and split of every image, before anything was decoded.

    `to_measure` as in `Reading`.

    Raises:
        DataError: as `load_folder`, but for images that cannot be decoded.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"There is no folder '{root}'. Check the path.")
    if not root.is_dir():
        raise DataError(f"'{root}' is a file, not a folder of class folders. {LAYOUT}.")
    walk = Walk(root)
    homes = _split_homes(root, to_measure)
    notes = _told_of_splits(root, homes, walk)
    homes = homes or {ALL if to_measure else "train": root}
    folders = {split: _class_folders(homes[split], walk) for split in (*SPLITS, ALL) if split in homes}
    notes = (*notes, *_told_of_groups([folder for one in folders.values() for folder in one.values()]))
    if to_measure:
        classes = tuple(sorted({name for by_name in folders.values() for name in by_name}))
    else:
        classes = _classes(root, folders["train"])
    splits: dict[str, list[Item]] = {}
    for split, by_name in folders.items():
        for name, folder in by_name.items():
            if name not in classes:
                what = f"Class {name!r} of '{folder.parent}' is not in '{homes['train']}'"
                raise DataError(f"{what}: it could never be predicted. Add it to train, or remove '{folder}'.")
        splits[split] = [
            Item(path, label)
            for label, name in enumerate(classes)
            if name in by_name
            for path in _members(root, by_name[name], walk, allow_none=to_measure)
        ]
    if not any(splits.values()):
        raise DataError(f"'{root}' has class folders and no images in them. {LAYOUT}.")
    _refuse_shared(root, splits)
    return Found(root.resolve().name, root, classes, splits, notes, walk.found())


def _told_of_splits(root: Path, homes: Mapping[str, Path], walk: Walk) -> tuple[str, ...]:
    """What lies beside split folders and is not read, and which names were guessed."""
    if not homes:
        return ()
    for entry in entries_of(root):
        if not is_folder(entry) and walk.takes(root, entry):
            walk.left.append(Left(entry.name, Role.unknown, ""))
    guessed = [f"{home.name}/ is taken as {split}." for split, home in homes.items() if needs_telling(home.name)]
    unread = [f"{folder.name}/" for folder in folders_in(root) if folder not in homes.values()]
    return (*guessed, *([f"Not read, since it is no split: {', '.join(unread)}."] if unread else []))


def _told_of_groups(folders: list[Path]) -> list[str]:
    """A note where all class folders hold folders of the same names, which may be meant to be the classes."""
    inner = [{one.name for one in folders_in(folder)} for folder in folders]
    shared = sorted(set.intersection(*inner)) if len(folders) > 1 else []
    if len(shared) < 2:
        return []
    names = dict.fromkeys(folder.name for folder in folders)
    return [f"The classes are {some(names)}, and not {some(shared)}, which are folders in each of them."]


def _split_homes(root: Path, to_measure: bool) -> dict[str, Path]:
    """The split folders by our name, or nothing where `root` itself holds the classes.

    A folder called train is a split when it holds folders; one that holds images alone is a class of trains.
    """
    homes: dict[str, Path] = {}
    others = []
    for folder in folders_in(root):
        split = split_named(folder.name)
        if split is None or (needs_telling(folder.name) and not folders_in(folder)):  # a class called dev
            others.append(folder)
        elif split in homes:
            what = f"'{root}' has two folders for {split}, '{homes[split].name}' and '{folder.name}'"
            raise DataError(f"{what}. Merge them, or remove one.")
        else:
            homes[split] = folder
    if not homes or (others and not ("train" in homes and folders_in(homes["train"]))):
        return {}
    if to_measure and ("train" not in homes or not all(map(folders_in, homes.values()))):
        return homes if all(map(folders_in, homes.values())) else {}  # a class may be called train, or test
    if "train" not in homes:
        given = " and ".join(f"{home.name}/" for home in homes.values())
        raise DataError(f"'{root}' has {given} but no train/. Add train/<class>/ folders.")
    known = {folder.name for folder in folders_in(homes["train"])}
    for other in others:
        if known & {folder.name for folder in folders_in(other)}:
            what = f"'{other}' holds classes of train/ but is no known split"
            raise DataError(f"{what}. Call it val or test, or move it out of '{root}'.")
    return homes


def _class_folders(home: Path, walk: Walk) -> dict[str, Path]:
    """Class folders by class name."""
    beside = Walk(walk.root)
    files = [entry for entry in entries_of(home) if not is_folder(entry)]
    loose = [entry.name for entry in files if beside.takes(home, entry)]
    left = beside.found()
    walk.left += left.files
    folders: dict[str, Path] = {}
    for folder in folders_in(home):
        first = folders.setdefault(_composed(folder.name), folder)
        if first != folder:
            raise DataError(f"'{first}' and '{folder}' differ in Unicode form alone. Merge them.")
    if loose and folders:
        what = f"'{home}' holds {len(loose)} images ('{loose[0]}') next to class folders"
        raise DataError(f"{what}, so their class is unknown. Move them into one, or away.")
    if folders:
        return folders
    lists = [file.path for file in left.files if file.path.lower().endswith((".csv", ".tsv"))]
    hint = f" If '{walk.root / lists[0]}' lists them with their labels, name that file." if lists else ""
    if loose and home != walk.root:
        hint = f" Images without classes are for predict: move '{home}' away.{hint}"
    if loose:
        raise DataError(f"'{home}' holds {len(loose)} images but no class folders. {LAYOUT}.{hint}")
    seen = f", only other files ({told_counts(left)})" if left.files else ""
    raise DataError(f"'{home}' holds no images{seen}.{left.advice()} {LAYOUT}.{hint}")


def _classes(root: Path, folders: Mapping[str, Path]) -> tuple[str, ...]:
    """Train's classes, checked; a single one may be a folder too many, which the message then says.

    Folders called like splits that hold the same folders are splits under names that are not known.
    """
    inner = [{one.name for one in folders_in(folder)} for folder in folders.values()]
    shared = set.intersection(*inner)
    if len(folders) > 1 and len(shared) > 1 and any(map(split_hinted, folders)):
        what = f"{some(folders)} in '{root}' look like splits, since all hold {some(sorted(shared))}"
        raise DataError(f"{what}. Call them train, val and test (or, if they are classes, call them otherwise).")
    if len(folders) == 1:
        (only,) = folders.values()
        if lists := sorted(one for one in root.iterdir() if one.suffix.lower() in (".csv", ".tsv")):
            what = f"'{root}' has one class only, {only.name!r}"
            raise DataError(f"{what}. If '{lists[0]}' lists the images with their labels, name that file.")
        if len(folders_in(only)) > 1:
            what = f"'{root}' has one class only, {only.name!r}, which itself holds folders"
            raise DataError(f"{what}. Did you mean '{only}'?")
    return check_classes(sorted(folders), root)


def _members(root: Path, folder: Path, walk: Walk, allow_none: bool) -> list[str]:
    """The images of one class folder as sorted paths below `root`."""
    own = Walk(root)
    paths = sorted(own.below(folder), key=_composed)
    left = own.found()
    if not paths and left.files and not allow_none:
        how = left.advice() or " Put images into it, or take the folder away."
        raise DataError(f"Class folder '{folder}' holds no images that are read, only {told_counts(left)}.{how}")
    if not paths and not allow_none:
        raise DataError(f"Class folder '{folder}' holds no images. Fill it, or delete it.")
    walk.left += left.files
    walk.renamed += left.renamed
    below = folder.relative_to(root).as_posix()
    return [path if below == "." else f"{below}/{path}" for path in paths]


def _refuse_shared(root: Path, splits: Mapping[str, list[Item]]) -> None:
    """Raise where links put one file under two classes or splits: it would be trained and tested on."""
    homes: dict[str, str] = {}  # realpath is slow, and a folder has many files
    owner: dict[str, str] = {}
    for items in splits.values():
        for item in items:
            path = os.path.join(root, item.path)
            if os.path.islink(path):
                real = os.path.realpath(path)
            else:
                folder, name = os.path.split(path)
                home = homes.get(folder) or homes.setdefault(folder, os.path.realpath(folder))
                real = os.path.join(home, name)
            first = owner.setdefault(real, item.path)
            if first != item.path:
                what = f"'{root / first}' and '{path}' are one file reached by two ways"
                raise DataError(f"{what}. Delete one, so that no image is both trained and tested on.")


def _composed(name: str) -> str:
    """A name in one Unicode form, since file systems differ."""
    return unicodedata.normalize("NFC", name)

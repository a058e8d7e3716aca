"""A folder of class folders as a task.

Two layouts:
- `root/train/<class>/...` with, where there are any, `root/val/<class>/...` and `root/test/<class>/...`;
- `root/<class>/...`, cut into 70 % train, 15 % val and 15 % test (stratified, seeded).
What is not given is cut out of train as `split.missing_splits` says. Images may lie at any depth below a
class folder. Hidden files, thumbnails and files without an image's suffix are ignored.
"""

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from vitgraft.data.decode import looks_like_image
from vitgraft.data.files import Found, Item, Reading, check_classes, finish
from vitgraft.data.task import Task
from vitgraft.errors import DataError
from vitgraft.kinds import checked

SPLITS = ("train", "val", "test")
ALL = "all"
"""What the images are that have no splits of their own, where they are to be measured and not cut."""

SPLIT_NAMES = {  # lower case -> ours
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
IGNORED = ("__MACOSX", "@eaDir", "lost+found")  # resource forks, thumbnails, file-system repair
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
    root = Path(root)
    if not root.exists():
        raise DataError(f"There is no folder '{root}'. Check the path.")
    if not root.is_dir():
        raise DataError(f"'{root}' is a file, not a folder of class folders. {LAYOUT}.")
    homes = _split_homes(root, reading.to_measure) or {ALL if reading.to_measure else "train": root}
    folders = {split: _class_folders(homes[split]) for split in (*SPLITS, ALL) if split in homes}
    if reading.to_measure:
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
            for path in _members(root, by_name[name], allow_none=reading.to_measure)
        ]
    if not any(splits.values()):
        raise DataError(f"'{root}' has class folders and no images in them. {LAYOUT}.")
    _refuse_shared(root, splits)
    return finish(Found(root.resolve().name, root, classes, splits), reading)


def images_below(folder: Path) -> list[Path]:
    """Every image file at any depth below a folder, sorted; each real folder is entered once."""
    return [folder / path for path in sorted(_walk(folder))]


def _split_homes(root: Path, to_measure: bool) -> dict[str, Path]:
    """The split folders by our name, or nothing where `root` itself holds the classes.

    A folder called train is a split when it holds folders; one that holds images alone is a class of trains.
    """
    homes: dict[str, Path] = {}
    others = []
    for folder in _folders(root):
        split = SPLIT_NAMES.get(folder.name.lower())
        if split is None:
            others.append(folder)
        elif split in homes:
            what = f"'{root}' has two folders for {split}, '{homes[split].name}' and '{folder.name}'"
            raise DataError(f"{what}. Merge them, or remove one.")
        else:
            homes[split] = folder
    if not homes or (others and not ("train" in homes and _folders(homes["train"]))):
        return {}
    if to_measure and ("train" not in homes or not all(map(_folders, homes.values()))):
        return homes if all(map(_folders, homes.values())) else {}  # a class may be called train, or test
    if "train" not in homes:
        given = " and ".join(f"{home.name}/" for home in homes.values())
        raise DataError(f"'{root}' has {given} but no train/. Add train/<class>/ folders.")
    known = {folder.name for folder in _folders(homes["train"])}
    for other in others:
        if known & {folder.name for folder in _folders(other)}:
            what = f"'{other}' holds classes of train/ but is no known split"
            raise DataError(f"{what}. Call it val or test, or move it out of '{root}'.")
    return homes


def _class_folders(home: Path) -> dict[str, Path]:
    """Class folders by class name."""
    loose = [entry.name for entry in _entries(home) if _is_image(entry)]
    folders: dict[str, Path] = {}
    for folder in _folders(home):
        first = folders.setdefault(_composed(folder.name), folder)
        if first != folder:
            raise DataError(f"'{first}' and '{folder}' differ in Unicode form alone. Merge them.")
    if loose and folders:
        what = f"'{home}' holds {len(loose)} images ('{loose[0]}') next to class folders"
        raise DataError(f"{what}, so their class is unknown. Move them into one, or away.")
    if loose:
        raise DataError(f"'{home}' holds {len(loose)} images but no class folders. {LAYOUT}.")
    if not folders:
        others = Counter(Path(entry.name).suffix or entry.name for entry in _entries(home))
        seen = ", ".join(f"{count} {kind}" for kind, count in others.most_common(3))
        raise DataError(f"'{home}' holds no images{f', only other files ({seen})' if seen else ''}. {LAYOUT}.")
    return folders


def _classes(root: Path, folders: Mapping[str, Path]) -> tuple[str, ...]:
    """Train's classes, checked; a single one may be a folder too many, which the message then says."""
    if len(folders) == 1:
        (only,) = folders.values()
        if len(_folders(only)) > 1:
            what = f"'{root}' has one class only, {only.name!r}, which itself holds folders"
            raise DataError(f"{what}. Did you mean '{only}'?")
    return check_classes(sorted(folders), root)


def _members(root: Path, folder: Path, allow_none: bool) -> list[str]:
    """The images of one class folder as sorted paths below `root`."""
    paths = sorted(_walk(folder), key=_composed)
    if not paths and not allow_none:
        raise DataError(f"Class folder '{folder}' holds no images. Fill it, or delete it.")
    return [(folder / path).relative_to(root).as_posix() for path in paths]


def _walk(folder: Path) -> Iterator[str]:
    """Image files below a folder, relative to it. Each real folder is entered once: links cannot loop."""
    entered: set[str] = set()
    pending = [folder]
    while pending:
        current = pending.pop()
        real = os.path.realpath(current)
        if real in entered:
            continue
        entered.add(real)
        deeper = []
        for entry in _entries(current):
            if _is_folder(entry):
                deeper.append(current / entry.name)
            elif _is_image(entry):
                yield (current / entry.name).relative_to(folder).as_posix()
        pending.extend(reversed(deeper))


def _refuse_shared(root: Path, splits: Mapping[str, list[Item]]) -> None:
    """Raise where links put one file under two classes or splits: it would be trained and tested on."""
    homes: dict[Path, str] = {}  # realpath is slow, and a folder has many files
    owner: dict[str, str] = {}
    for items in splits.values():
        for item in items:
            path = root / item.path
            if path.is_symlink():
                real = os.path.realpath(path)
            else:
                home = homes.get(path.parent) or homes.setdefault(path.parent, os.path.realpath(path.parent))
                real = os.path.join(home, path.name)
            first = owner.setdefault(real, item.path)
            if first != item.path:
                what = f"'{root / first}' and '{path}' are one file reached by two ways"
                raise DataError(f"{what}. Delete one, so that no image is both trained and tested on.")


def _composed(name: str) -> str:
    """A name in one Unicode form, since file systems differ."""
    return unicodedata.normalize("NFC", name)


def _is_image(entry: os.DirEntry[str]) -> bool:
    """A file named like an image, or a link that leads nowhere (reported later); never a pipe or socket."""
    return looks_like_image(entry.name) and (entry.is_symlink() or entry.is_file())


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _folders(folder: Path) -> list[Path]:
    return [folder / entry.name for entry in _entries(folder) if _is_folder(entry)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, sorted by name, without hidden and foreign things.

    Raises:
        DataError: a folder that cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            kept = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in IGNORED]
    except OSError as error:
        raise DataError(f"Cannot list folder '{folder}': {error.strerror}. Check its permissions.") from error
    return sorted(kept, key=lambda entry: entry.name)

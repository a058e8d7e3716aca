"""FGVC from the data sets' own lists, where VPT's splits are not there: each ships its train and test images.

CUB and NABirds have text files, the others MATLAB files. Only the flowers have a validation split of their own; of
the others it is cut out of train by `copy.py`, and is then not VPT's.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from vitgraft.data.benchmarks.lists import LARGEST, Entries, Entry
from vitgraft.data.benchmarks.table import Broken, Part, Problem

FIRST, SECOND = "cars_train_annos.mat", "cars_test_annos_withlabels.mat"


def is_official(folder: Path, key: str) -> bool:
    """Whether a folder holds the lists that a data set ships."""
    files, _ = READERS.get(key, ((), None))
    return bool(files) and all(_found(folder, name) for name in files)


def read_official(folder: Path, key: str) -> Entries:
    """What a data set's own lists say.

    Raises:
        Broken: a list that cannot be read.
    """
    files, read = READERS[key]
    try:
        return _checked(read(folder))
    except Exception as error:  # a damaged MATLAB file breaks in many ways
        what = f"The lists of '{folder}' ({', '.join(files)}) cannot be read: {error or type(error).__name__}."
        raise Broken(Problem("corrupt", what, ", ".join(files))) from None


def _checked(found: Entries) -> Entries:
    """The same entries. Raises ValueError for a label that none can be."""
    for entry in (entry for entries in found.values() for entry in entries):
        if not 0 <= entry.label < LARGEST:
            raise ValueError(f"{entry.where}: label {entry.label} is not a whole number from 0 up")
    return found


def _found(folder: Path, name: str) -> Path | None:
    """A list in the folder, or in one of those that the archives make."""
    return next(
        (home / name for home in (folder, folder / "lists", folder / "devkit") if (home / name).is_file()), None
    )


def _numbered(folder: Path, name: str) -> dict[str, str]:
    """A file of `id value` lines."""
    rows = {}
    for number, line in enumerate((folder / name).read_text(encoding="utf-8").splitlines(), start=1):
        if line.strip():
            key, _, value = line.strip().partition(" ")
            if not value:
                raise ValueError(f"{name}:{number} has one value, expected two")
            rows[key] = value.strip()
    return rows


def _birds(folder: Path) -> Entries:
    """CUB-200-2011 and NABirds: paths are below `images/`."""
    paths, labels = _numbered(folder, "images.txt"), _numbered(folder, "image_class_labels.txt")
    training = _numbered(folder, "train_test_split.txt")
    found: Entries = {"trainval": [], "test": []}
    for key, path in paths.items():
        part: Part = "trainval" if training[key] == "1" else "test"
        found[part].append(Entry(path, int(labels[key]), f"images.txt, image {key}"))
    return found


def _flowers(folder: Path) -> Entries:
    labels = _matlab(folder, "imagelabels.mat")["labels"].ravel()
    sets = _matlab(folder, "setid.mat")
    names: dict[Part, str] = {"train": "trnid", "val": "valid", "test": "tstid"}
    return {
        part: [
            Entry(f"jpg/image_{number:05d}.jpg", int(labels[number - 1]), f"setid.mat, {name}")
            for number in map(int, sets[name].ravel())
        ]
        for part, name in names.items()
    }


def _dogs(folder: Path) -> Entries:
    """Stanford Dogs: paths are below `Images/`."""
    names: dict[Part, str] = {"trainval": "train_list.mat", "test": "test_list.mat"}
    found: Entries = {}
    for part, name in names.items():
        lists = _matlab(folder, name)
        files = [str(cell[0]) for cell in lists["file_list"].ravel()]
        labels = map(int, lists["labels"].ravel())
        found[part] = [Entry(path, label, name) for path, label in zip(files, labels, strict=True)]
    return found


def _cars(folder: Path) -> Entries:
    """Stanford Cars in two folders of pictures, with labels for both."""
    names: dict[Part, tuple[str, str]] = {"trainval": ("cars_train", FIRST), "test": ("cars_test", SECOND)}
    found: Entries = {}
    for part, (home, name) in names.items():
        rows = _matlab(folder, name)["annotations"].ravel()
        found[part] = [Entry(f"{home}/{row['fname'].item()}", int(row["class"].item()), name) for row in rows]
    return found


def _matlab(folder: Path, name: str) -> Any:
    io = import_module("scipy.io")  # scikit-learn's own dependency, without types
    path = _found(folder, name)
    assert path is not None, "readers run where their lists are"
    return io.loadmat(str(path))


BIRDS = ("images.txt", "image_class_labels.txt", "train_test_split.txt")
READERS: dict[str, tuple[tuple[str, ...], Callable[[Path], Entries]]] = {
    "cub200": (BIRDS, _birds),
    "nabirds": (BIRDS, _birds),
    "flowers": (("imagelabels.mat", "setid.mat"), _flowers),
    "dogs": (("train_list.mat", "test_list.mat"), _dogs),
    "cars": ((FIRST, SECOND), _cars),
}

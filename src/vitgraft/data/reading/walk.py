"""A way through folders of images: what is an image, what is left out, and what is nobody's business."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from vitgraft.data.pictures.decode import looks_like_image
from vitgraft.data.reading.left_out import HIDDEN, SYSTEM, Left, LeftOut, Role, look
from vitgraft.errors import DataError

IGNORED = ("__MACOSX", "@eaDir", "lost+found")  # resource forks, thumbnails, file-system repair


def images_below(folder: Path) -> tuple[list[Path], LeftOut]:
    """Every image file at any depth below a folder, sorted, and what else is there; each real folder is entered
    once."""
    walk = Walk(folder)
    return [folder / path for path in sorted(walk.below(folder))], walk.found()


@dataclass
class Walk:
    """A way through the folders below `root`, which notes what is left out."""

    root: Path
    left: list[Left] = field(default_factory=list)
    renamed: list[str] = field(default_factory=list)

    def found(self) -> LeftOut:
        return LeftOut(tuple(sorted(self.left)), tuple(sorted(self.renamed)))

    def below(self, folder: Path) -> list[str]:
        """Image files below a folder, relative to it. Each real folder is entered once: links cannot loop."""
        found: list[str] = []
        entered: set[str] = set()
        pending = [(folder, "")]
        while pending:
            current, before = pending.pop()
            real = os.path.realpath(current)
            if real in entered:
                continue
            entered.add(real)
            deeper = []
            for entry in entries_of(current, hidden_images=True):
                if is_folder(entry):
                    deeper.append((current / entry.name, f"{before}{entry.name}/"))
                elif self.takes(current, entry):
                    found.append(before + entry.name)
            pending.extend(reversed(deeper))
        return found

    def takes(self, folder: Path, entry: os.DirEntry[str]) -> bool:
        """Whether a file is an image, by its name or else by its content; one that is not is noted.

        A link that leads nowhere is reported later; a pipe or a socket is never opened.
        """
        if entry.name.startswith("."):
            name = Path(os.path.relpath(folder / entry.name, self.root)).as_posix()
            self.left.append(Left(name, Role.other, HIDDEN))
            return False
        if looks_like_image(entry.name):
            return entry.is_symlink() or entry.is_file()
        if entry.name.lower() in SYSTEM or not _is_file(entry):
            return False
        name = Path(os.path.relpath(folder / entry.name, self.root)).as_posix()
        left = look(folder / entry.name, name)
        if left is None:
            self.renamed.append(name)
        else:
            self.left.append(left)
        return left is None


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link to itself
        return False


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden and foreign ones."""
    return [folder / entry.name for entry in entries_of(folder) if is_folder(entry)]


def entries_of(folder: Path, hidden_images: bool = False) -> list[os.DirEntry[str]]:
    """What a folder holds, sorted by name, without hidden and foreign things, but perhaps with hidden images.

    Raises:
        DataError: a folder that cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            kept = [entry for entry in entries if _shows(entry, hidden_images)]
    except OSError as error:
        raise DataError(f"Cannot list folder '{folder}': {error.strerror}. Check its permissions.") from error
    return sorted(kept, key=lambda entry: entry.name)


def _shows(entry: os.DirEntry[str], hidden_images: bool) -> bool:
    if entry.name.startswith("."):  # a resource fork is called ._name, and is no image
        return (
            hidden_images and not entry.name.startswith("._") and looks_like_image(entry.name) and _is_file(entry)
        )
    return entry.name not in IGNORED

"""Which files of a folder are pictures that are read: by a name that says so, else by the first bytes."""

import os
from collections import Counter
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from vitgraft.data.pictures.decode import looks_like_image
from vitgraft.data.pictures.signatures import KINDS, format_of, head_of, opener_of, unread

RAW = {  # TIFF files whose first picture is a thumbnail, and others that cameras write
    *(
        ".3fr",
        ".arw",
        ".cr2",
        ".cr3",
        ".crw",
        ".dcr",
        ".dng",
        ".erf",
        ".fff",
        ".iiq",
        ".kdc",
        ".mef",
        ".mos",
        ".mrw",
    ),
    *(".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
}
FOREIGN = {  # suffixes of pictures that are not read, for files whose content does not tell
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    **dict.fromkeys((".jxl",), "JPEG XL"),
    **dict.fromkeys((".avif", ".avifs"), "AVIF"),
    **dict.fromkeys(RAW, "camera raw"),
    **dict.fromkeys((".psd", ".psb"), "Photoshop document"),
    **dict.fromkeys((".dcm",), "DICOM"),
    **dict.fromkeys((".svg",), "SVG"),
}
SYSTEM = ("thumbs.db", "desktop.ini", "ehthumbs.db", "icon\r")
"""Files that systems put into folders; nobody misses them."""


HIDDEN = "hidden"
"""The kind of an image whose name begins with a dot."""


class Role(Enum):
    """What a file is in a folder of pictures: one that is read; one that is not; a file of unknown content, which
    may be one; or anything else."""

    read = "read"
    picture = "picture"
    unknown = "unknown"
    other = "other"


class Left(NamedTuple):
    """A file that is left out: its path, what it is, and the format of its content or name ("": none known)."""

    path: str
    role: Role
    kind: str


@dataclass(frozen=True)
class LeftOut:
    """Files that are left out of a folder of pictures, and how many are read that have no picture's suffix."""

    files: tuple[Left, ...] = ()
    renamed: tuple[str, ...] = ()

    @property
    def missed(self) -> int:
        """Files that are, or may be, pictures."""
        return sum(file.role is not Role.other for file in self.files)

    def below(self, folder: Path) -> "LeftOut":
        """The same files, whose paths are below a folder, with that folder before them."""
        files = (file._replace(path=str(folder / file.path)) for file in self.files)
        return LeftOut(tuple(files), tuple(str(folder / name) for name in self.renamed))

    def by_suffix(self) -> dict[str, int]:
        """How many files have a suffix, the most frequent first; "" counts those without one. Hidden ones do not
        count."""
        return dict(Counter(_suffix(file.path) for file in self.files if file.kind != HIDDEN).most_common())

    def notes(self) -> tuple[str, ...]:
        """Sentences for a person."""
        found = []
        suffixes = Counter(suffix for suffix in map(_suffix, self.renamed) if suffix not in FOREIGN)
        if suffixes:
            counts = _counted(suffixes)
            found.append(f"Read as images by their content, not their name: {counts}.")
        if hidden := [file.path for file in self.files if file.kind == HIDDEN]:
            found.append(f"Hidden files are not read: {len(hidden):,} called like images, such as {hidden[0]!r}.")
        if self.by_suffix():
            found.append(f"Left out: {_counted(self.by_suffix())}.{self.advice()}")
        return tuple(found)

    def advice(self) -> str:
        """What can be done about pictures that are not read, as sentences that begin with a space."""
        kinds = Counter(file.kind for file in self.files if file.role is Role.picture)
        told = ""
        for kind, count in kinds.most_common():
            what, fix = unread(kind)
            read = what.partition(", ")[2]
            told += f" {count:,} {'is' if count == 1 else 'are'} {kind}, {read}: {fix}"
        return told


def together(several: Iterable[LeftOut], read: Container[Path]) -> LeftOut:
    """What several searches left out, each file once, without those that another one reads."""
    parts = list(several)
    files = dict.fromkeys(file for part in parts for file in part.files if Path(file.path) not in read)
    return LeftOut(tuple(files), tuple(dict.fromkeys(name for part in parts for name in part.renamed)))


def told_counts(left: LeftOut) -> str:
    """The files by suffix, in words."""
    return _counted(left.by_suffix())


def called_like_image(name: str) -> bool:
    """Whether a name ends like that of a picture, be it one that is read here or not."""
    return looks_like_image(name) or _suffix(name) in FOREIGN


def look(path: Path, name: str) -> Left | None:
    """A file that is left out; None for one that is read. It is opened only if its suffix is no picture's."""
    if looks_like_image(path.name):
        return None
    suffix = path.suffix.lower()
    head = b""
    try:
        head = head_of(path)
        kind = format_of(head)
    except OSError:
        kind = None
    if suffix in RAW and kind in (None, "TIFF"):
        return Left(name, Role.picture, "camera raw")
    if kind is None and suffix in FOREIGN:
        return Left(name, Role.picture, FOREIGN[suffix])
    if kind is not None:
        if opener_of(kind) is not None:
            return None
        return Left(name, Role.picture if KINDS[kind].picture else Role.other, kind)
    return Left(name, Role.other if _is_text(head) else Role.unknown, "")


def sorted_out(names: Iterable[str]) -> tuple[list[Path], LeftOut]:
    """Those of some files that are images, and the others."""
    images: list[Path] = []
    left: list[Left] = []
    renamed: list[str] = []
    for name in names:
        path = Path(name)
        if not os.path.isfile(path) or path.name.lower() in SYSTEM:
            continue
        one = look(path, name)
        if one is not None:
            left.append(one)
            continue
        images.append(path)
        if not looks_like_image(name):
            renamed.append(name)
    return images, LeftOut(tuple(left), tuple(renamed))


def _is_text(head: bytes) -> bool:
    """Whether first bytes are those of a text, or of nothing."""
    if b"\0" in head:
        return False
    for cut in range(4):  # a letter may be cut in two
        try:
            text = head[: len(head) - cut].decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        return all(character.isprintable() or character.isspace() for character in text)
    return False


def _suffix(path: str) -> str:
    return os.path.splitext(os.path.basename(path))[1].lower()


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {suffix or 'without a suffix'}" for suffix, count in counts.items())

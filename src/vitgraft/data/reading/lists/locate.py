"""Where the images of a list lie: paths as they are, written on Windows, in another case, or without a suffix."""

import os
import shlex
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vitgraft.data.reading.left_out import called_like_image
from vitgraft.data.reading.lists.defects import Defect, some
from vitgraft.data.reading.rows import Row

FOLDERS = 50
"""Folders beside a list that are looked into for an image that is missing."""


@dataclass
class Places:
    """The path of each good row below `base` (absolute where it is outside) by its `where`, notes, and defects."""

    base: Path
    suffix: str | None = None
    paths: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    defects: list[Defect] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    _folders: dict[Path, dict[str, list[str]]] = field(default_factory=dict)
    _added: Counter[str] = field(default_factory=Counter)
    _respelt: tuple[str, str] | None = None

    def find(self, rows: Mapping[str, Sequence[Row]], allow_missing: bool) -> None:
        """Look for every row's image. One that is missing (unless that is allowed) or listed twice is a defect."""
        owner: dict[str, tuple[Row, str]] = {}
        fix = ""
        for split, members in rows.items():
            for row in members:
                if not row.path:
                    self.defects.append(
                        Defect(f"{row.where}: the path is empty", "Write one, or remove the line.")
                    )
                    continue
                files = self._files(row.path)
                if len(files) > 1:
                    what = f"{row.where}: {row.path!r} may be {some([file.name for file in files])}"
                    self.defects.append(
                        Defect(what, "Say which with --suffix (in Python suffix=), or in the line.")
                    )
                    continue
                if not files and not allow_missing:
                    fix = fix or self._whereabouts(row.path)
                    self.defects.append(Defect(f"{row.where}: there is no image '{self.base / row.path}'", fix))
                    continue
                file = files[0] if files else self.base / row.path
                first, home = owner.setdefault(os.path.realpath(file), (row, split))
                if first is not row:
                    self.defects.append(_listed_twice(first, home, row, split))
                    continue
                inside = os.path.relpath(file, self.base) if file.is_relative_to(self.base) else file.absolute()
                self.paths[row.where] = Path(inside).as_posix()
                self.missing += [] if files else [self.paths[row.where]]
        self._tell()

    def _files(self, path: str) -> list[Path]:
        """The files that a path can mean: the one that is there, or those that come near."""
        near: list[Path] = []
        for written in dict.fromkeys((path, path.replace("\\", "/"))):  # perhaps written on Windows
            plain = self.base / written
            if os.path.isfile(plain):
                return [plain]
            wanted = plain
            if self.suffix is not None:
                wanted = self.base / f"{written}{self.suffix}"
                if os.path.isfile(wanted):
                    self._added[self.suffix] += 1
                    return [wanted]
            near = near or self._near(wanted)
        if len(near) == 1:
            written, found = os.path.basename(path.replace("\\", "/")), near[0].name
            if _key(written) != _key(found):
                self._added[near[0].suffix] += 1
            elif not self._respelt:
                self._respelt = (written, found)
        return near

    def _near(self, file: Path) -> list[Path]:
        """Files beside `file` that are called so in another case or Unicode form, or with an image's suffix."""
        if file.parent not in self._folders:
            self._folders[file.parent] = _listed(file.parent)
        known = self._folders[file.parent]
        names = known.get(_key(file.name), [])
        if not names and not called_like_image(file.name):
            names = known.get(f"{_key(file.name)}.*", [])
            names = [name for name in names if os.path.splitext(name)[0] == file.name] or names
        return [file.parent / name for name in names]

    def _whereabouts(self, path: str) -> str:
        """What to do about an image that is not there, and the folder where it may be."""
        fix = (
            f"Paths are relative to '{self.base}': mend the list, or give another root (--root; in Python `root`)."
        )
        try:
            folders = sorted(entry for entry in self.base.iterdir() if entry.is_dir())
        except OSError:
            return fix
        for folder in folders[:FOLDERS]:
            if os.path.isfile(folder / path) or Places(folder, self.suffix)._files(path):
                return f"{fix} Did you mean --root {shlex.quote(str(folder))}?"
        return fix

    def _tell(self) -> None:
        if self._added:
            total = sum(self._added.values())
            kinds = ", ".join(f"{suffix} ({count:,})" for suffix, count in self._added.most_common())
            self.notes.append(f"{total:,} paths have no suffix; their images were found with {kinds}.")
        if self._respelt:
            written, found = self._respelt
            self.notes.append(
                f"Some paths are written in another form than their files, such as {written!r}: {found!r}."
            )


def _listed(folder: Path) -> dict[str, list[str]]:
    """The files of a folder by their names' keys, and images by their stems' keys and `.*`."""
    found: dict[str, list[str]] = {}
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except (OSError, ValueError):
        return {}
    for name in names:
        found.setdefault(_key(name), []).append(name)
        if called_like_image(name):
            found.setdefault(f"{_key(os.path.splitext(name)[0])}.*", []).append(name)
    return found


def _key(name: str) -> str:
    """A file's name without case, in one Unicode form."""
    return unicodedata.normalize("NFC", name).casefold()


def _listed_twice(first: Row, home: str, row: Row, split: str) -> Defect:
    what, why = f"{row.where}: image '{row.path}' is also at {first.where}", ""
    if home != split:
        why = f", in {home} there and in {split} here, which would leak"
    elif first.label != row.label:
        why = f", labelled {first.label!r} there and {row.label!r} here"
    return Defect(what + why, "Remove one of the lines.")

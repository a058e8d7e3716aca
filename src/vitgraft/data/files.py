"""Image files as a task: reading options, lazy decoding, the eager check, and the common end of every loader.

A loader (folder, listing) finds files and labels and hands a `Found` to `finish`, which checks every image,
leaves out the unreadable ones where the user said so, cuts missing splits and builds the `Task`.
"""

import hashlib
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from PIL import Image

from vitgraft.data.decode import UnreadableImage, read_image
from vitgraft.data.digests import WORKERS, digests
from vitgraft.data.split import missing_splits, stratified
from vitgraft.data.task import Split, Task
from vitgraft.errors import ConfigError, DataError, unknown
from vitgraft.kinds import check_fields, finite, whole

SHOWN = 5  # how many broken images a message lists


@dataclass(frozen=True)
class Reading:
    """How files become a task: the keywords of `load`, `load_folder` and `load_list`.

    `seed` and the fractions (in [0, 1), together below 1) cut the splits that were not given: see
    `split.missing_splits`. `check` decodes every image once up front; `skip_unreadable` then leaves out those
    that fail, and `Task.skipped` names them. `skip_missing` does the same with what a list names and is not there.

    `to_measure` reads images that a finished model is measured on. The classes are the model's, so those that
    occur are enough, named as they are written; no train is needed, and nothing is cut: images without splits of
    their own are one split, "all".

    Raises:
        ConfigError: a fraction or seed outside its range.
    """

    seed: int = 0
    val_fraction: float = 0.15
    test_fraction: float = 0.15
    skip_unreadable: bool = False
    check: bool = True
    skip_missing: bool = False
    to_measure: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        whole("seed", self.seed)
        for name in ("val_fraction", "test_fraction"):
            if not finite(value := getattr(self, name)):
                raise ConfigError(f"{name}={value}: expected a number of at least 0 and below 1.")
        if min(self.val_fraction, self.test_fraction) < 0 or self.val_fraction + self.test_fraction >= 1:
            given = f"val_fraction {self.val_fraction} and test_fraction {self.test_fraction}"
            raise ConfigError(f"{given} leave nothing to train on: each is at least 0, their sum below 1.")
        if self.skip_unreadable and not self.check:
            raise ConfigError("skip_unreadable needs check: unreadable images are found by decoding each once.")

    @classmethod
    def of(cls, options: Mapping[str, object]) -> Self:
        """From keywords.

        Raises:
            ConfigError: an unknown key or a value of the wrong type.
        """
        known = [item.name for item in fields(cls)]
        for key in options:
            if key not in known:
                raise ConfigError(unknown("reading option", key, known))
        return cls(**options)  # type: ignore[arg-type]


class Item(NamedTuple):
    """One labelled image: its path below the root, or an absolute one."""

    path: str
    label: int


@dataclass(frozen=True)
class Found:
    """What a loader found: items by split, "train" among them unless they are to be measured, before anything was
    decoded. `missing` are paths that a list names and that are not there."""

    name: str
    root: Path
    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[Item]]
    missing: Sequence[str] = ()


@dataclass(frozen=True)
class FileImages:
    """Image files, decoded when asked for. `paths` are below `root`, with forward slashes, or absolute."""

    root: Path
    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        return read_image(self.root / self.paths[index])

    def name(self, index: int) -> str:
        return str(self.root / self.paths[index])

    def fingerprint(self) -> str:
        """A digest of relative paths and contents, so that moving or touching the folder changes nothing.

        Raises:
            DataError: a file that is gone or cannot be opened.
        """
        digest = hashlib.sha256()
        for path, content in zip(self.paths, self._digests(), strict=True):
            digest.update(unicodedata.normalize("NFC", path).encode(errors="surrogateescape"))
            digest.update(b"\0" + content)
        return digest.hexdigest()[:16]

    def listed(self) -> list[tuple[str, str]]:
        """Each image's path as in `paths`, and a digest of its content."""
        return [(path, content.hex()[:16]) for path, content in zip(self.paths, self._digests(), strict=True)]

    def chosen(self, indices: Sequence[int]) -> Self:
        return replace(self, paths=tuple(self.paths[index] for index in indices))

    def _digests(self) -> list[bytes]:
        return digests(self.root / path for path in self.paths)


def finish(found: Found, reading: Reading) -> Task:
    """Check every image, leave out what the user allows to, cut missing splits, build the task.

    Raises:
        DataError: an unreadable image, or a class that loses all its training images.
    """
    skipped: dict[str, str] = {}
    if reading.check:
        paths = [item.path for items in found.splits.values() for item in items]
        skipped = unreadable(found.root, paths)
        if skipped and not reading.skip_unreadable:
            raise DataError(_broken(found.root, skipped, len(paths)))
    splits = {name: [item for item in items if item.path not in skipped] for name, items in found.splits.items()}
    if not reading.to_measure:
        _refuse_lost(found, splits["train"], skipped)
        splits = _cut(splits, reading)
    elif not any(splits.values()):
        raise DataError(_broken(found.root, skipped, len(skipped)))
    return Task(
        name=found.name,
        classes=found.classes,
        splits={name: _split(found.root, items) for name, items in splits.items() if items},
        skipped=(*((path, "there is no such file") for path in found.missing), *skipped.items()),
    )


def _refuse_lost(found: Found, left: Sequence[Item], skipped: Mapping[str, str]) -> None:
    """Raise DataError if a class has lost all its training images."""
    lost = {item.label for item in found.splits["train"]} - {item.label for item in left}
    for label in sorted(lost):
        what = f"Every training image of class {found.classes[label]!r} in '{found.root}' is unreadable"
        raise DataError(f"{what}: '{next(iter(skipped))}' and others. Replace them, or remove the class.")


def unreadable(root: Path, paths: Sequence[str]) -> dict[str, str]:
    """Decode every file once, in threads: those that fail, with the reason, in the given order."""

    def reason(path: str) -> str | None:
        try:
            read_image(root / path)
        except UnreadableImage as error:
            return error.reason
        return None

    pool = ThreadPoolExecutor(WORKERS)
    try:
        reasons = list(_progress(pool.map(reason, paths), len(paths)))
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the whole folder
    return {path: why for path, why in zip(paths, reasons, strict=True) if why is not None}


def check_classes(names: Iterable[str], where: str | Path) -> tuple[str, ...]:
    """The class names, in their order.

    Raises:
        DataError: fewer than two classes, or two that differ by upper and lower case or Unicode form alone.
    """
    classes = tuple(names)
    seen: dict[str, str] = {}
    for name in classes:
        key = unicodedata.normalize("NFC", name).casefold()
        if key in seen:
            what = f"Classes {seen[key]!r} and {name!r} in '{where}' differ by case or Unicode form alone"
            what = what if seen[key] != name else f"Class {name!r} is there twice in '{where}'"
            raise DataError(f"{what}. Merge them, or give one another name.")
        seen[key] = name
    if len(classes) < 2:
        found = f"only one, {classes[0]!r}" if classes else "none"
        raise DataError(f"A task needs at least two classes; '{where}' has {found}. Add another class.")
    return classes


def _cut(splits: dict[str, list[Item]], reading: Reading) -> dict[str, list[Item]]:
    fractions = missing_splits(list(splits), reading.val_fraction, reading.test_fraction)
    if not fractions:
        return splits
    train = splits["train"]
    labels = np.array([item.label for item in train], dtype=np.int64)
    parts = stratified(labels, fractions, reading.seed)
    return splits | {name: [train[i] for i in indices] for name, indices in parts.items()}


def _split(root: Path, items: Sequence[Item]) -> Split:
    labels = np.array([item.label for item in items], dtype=np.int64)
    return Split(FileImages(root, tuple(item.path for item in items)), labels)


def _broken(root: Path, reasons: Mapping[str, str], total: int) -> str:
    lines = [f"  '{root / path}': {why}" for path, why in list(reasons.items())[:SHOWN]]
    more = [f"  ... and {len(reasons) - SHOWN} more"] if len(reasons) > SHOWN else []
    fix = "Replace or delete them, or leave them out with skip_unreadable (--skip-unreadable)."
    return "\n".join([f"{len(reasons)} of {total} images cannot be read. {fix}", *lines, *more])


def _progress(results: Iterator[str | None], total: int) -> Iterator[str | None]:
    """The same results, under a progress bar where a person is watching."""
    if not sys.stderr.isatty():
        yield from results
        return
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(results, "Checking images", total=total, console=console, transient=True)

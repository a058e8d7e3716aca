"""Image files as a task: lazy decoding, the eager check, and the common end of every loader.

A loader (folder, listing) finds files and labels and hands a `Found` to `finish`, which checks every image,
leaves out the unreadable ones where the user said so, cuts missing splits and builds the `Task`.
"""

import hashlib
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Self

import PIL
from PIL import Image

from vitgraft.data.labelling import CLASS, Labelling
from vitgraft.data.pictures.decode import RULES, UnreadableImage, decode, read_image
from vitgraft.data.pictures.deep.samples import Samples
from vitgraft.data.pictures.ranges import MAX_PIXELS, OLD, Ranges, merged
from vitgraft.data.pictures.signatures import readable
from vitgraft.data.pictures.survey import survey
from vitgraft.data.reading import told
from vitgraft.data.reading.digests import WORKERS, digests, memory
from vitgraft.data.reading.left_out import LeftOut
from vitgraft.data.reading.options import Item, Reading
from vitgraft.data.split import missing_splits, stratified
from vitgraft.data.task import Split, Task
from vitgraft.errors import DataError

DEEP = "+"
"""Follows the rules by which a file of more than 8 bits was decoded, where they are kept."""

SHOWN = 5  # how many broken images a message lists


@dataclass(frozen=True)
class Found:
    """What a loader found: items by split, "train" among them unless they are to be measured, before anything was
    decoded. `missing` are paths that a list names and that are not there, `left_out` files that lie among the
    images and are not read; `notes` is what else a person should know."""

    name: str
    root: Path
    classes: tuple[str, ...]
    splits: Mapping[str, Sequence[Item]]
    notes: tuple[str, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)
    missing: Sequence[str] = ()
    kind: Labelling = CLASS


@dataclass(frozen=True)
class FileImages:
    """Image files, decoded when asked for. `paths` are below `root`, with forward slashes, or absolute.

    `ranges` say what is black and white in those of more than 8 bits.
    """

    root: Path
    paths: tuple[str, ...]
    ranges: Ranges | None = ()
    max_pixels: int = MAX_PIXELS

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Image.Image:
        return read_image(self.root / self.paths[index], ranges=self.ranges, max_pixels=self.max_pixels)

    def with_ranges(self, ranges: Ranges | None) -> Self:
        """The same images as a model sees them; types that it knows nothing about keep their own ranges."""
        return replace(self, ranges=ranges if ranges is OLD else merged(ranges, self.ranges or ()))

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
        return digests(self.root, self.paths)


def finish(found: Found, reading: Reading) -> Task:
    """Check every image, leave out what the user allows to, cut missing splits, build the task.

    Raises:
        DataError: an unreadable image, or a class that loses all its training images.
    """
    skipped: dict[str, str] = {}
    deep: list[str] | None = None
    if reading.check:
        paths = [item.path for items in found.splits.values() for item in items]
        skipped, deep = check_all(found.root, paths, reading.max_pixels)
        if skipped and not reading.skip_unreadable:
            raise DataError(_broken(found.root, skipped, len(paths)))
    given = {name: [item for item in items if item.path not in skipped] for name, items in found.splits.items()}
    splits, notes = given, [*found.notes, *found.left_out.notes()]
    if not reading.to_measure:
        _refuse_lost(found, given["train"], skipped)
        fractions = missing_splits(list(given), reading.fractions["val"], reading.fractions["test"])
        splits = _cut(given, fractions, reading.seed or 0, found)
        notes += told.of_cut(given, splits, fractions, reading, found.kind.cut_by)
    elif not any(splits.values()):
        raise DataError(_broken(found.root, skipped, len(skipped)))
    if reading.check:
        notes += told.of_twins(found.root, splits, found.classes, found.kind)
    paths_of = {name: [item.path for item in items] for name, items in splits.items()}
    ranges, found_ranges = survey(found.root, paths_of, deep, reading)
    like = FileImages(found.root, (), ranges, reading.max_pixels)
    return Task(
        name=found.name,
        classes=found.classes,
        splits={name: _split(like, items, found) for name, items in splits.items() if items},
        skipped=(*((path, "there is no such file") for path in found.missing), *skipped.items()),
        notes=tuple(dict.fromkeys((*notes, *found_ranges))),
        left_out=found.left_out,
    )


def _refuse_lost(found: Found, left: Sequence[Item], skipped: Mapping[str, str]) -> None:
    """Raise DataError if a class has lost all its training images, or there are none left."""
    lost = _classes_of(found, found.splits["train"]) - _classes_of(found, left)
    for label in sorted(lost):
        what = f"Every training image of class {label!r} in '{found.root}' is unreadable"
        raise DataError(f"{what}: '{next(iter(skipped))}' and others. Replace them, or remove the class.")
    if not left:
        raise DataError(_broken(found.root, skipped, len(skipped)))


def _classes_of(found: Found, items: Iterable[Item]) -> set[str]:
    """The classes that images have; of numbers none."""
    names = (found.kind.parts(found.kind.text(item.label, found.classes)) for item in items)
    return {name for some in names for name in some} & set(found.classes)


class Checked(NamedTuple):
    """What decoding every file found: why some cannot be read, and which have more than 8 bits."""

    reasons: dict[str, str]
    deep: list[str]


def check_all(root: Path, paths: Sequence[str], max_pixels: int = MAX_PIXELS) -> Checked:
    """Decode every file once, in threads.

    A file that was decoded by an earlier run, and is as it was then, is not decoded again.
    """
    known, rules = memory(root), decoding_rules(max_pixels)

    def reason(path: str) -> str | None:
        try:
            found = decode(root / path, max_pixels=max_pixels).found
        except UnreadableImage as error:
            return error.reason
        depths[path] = rules + (DEEP if isinstance(found, Samples) else "")
        known.digest(path, depths[path])
        return None

    depths = {path: seen.rules for path in paths if (seen := known.known(path)) is not None}
    new = [path for path in paths if depths.get(path) not in (rules, rules + DEEP)]
    pool = ThreadPoolExecutor(WORKERS)
    try:
        reasons = list(_progress(pool.map(reason, new), len(new)))
    finally:
        pool.shutdown(cancel_futures=True)  # so that Ctrl-C does not wait for the whole folder
        known.keep()
    broken = {path: why for path, why in zip(new, reasons, strict=True) if why is not None}
    return Checked(broken, [path for path in paths if depths.get(path) == rules + DEEP])


def unreadable(root: Path, paths: Sequence[str], max_pixels: int = MAX_PIXELS) -> dict[str, str]:
    """Files that cannot be decoded, with the reason, in the given order."""
    return check_all(root, paths, max_pixels).reasons


def check_classes(names: Iterable[str], where: str | Path, fewest: int = 2) -> tuple[str, ...]:
    """The class names, in their order.

    Raises:
        DataError: fewer than two classes (or `fewest`), or two that differ by upper and lower case or Unicode form
            alone.
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
    if len(classes) < fewest:
        found = f"only one, {classes[0]!r}" if classes else "none"
        raise DataError(f"A task needs at least two classes; '{where}' has {found}. Add another class.")
    return classes


def _cut(
    splits: dict[str, list[Item]], fractions: Mapping[str, float], seed: int, found: Found
) -> dict[str, list[Item]]:
    if not fractions:
        return splits
    train = splits["train"]
    labels = found.kind.of([item.label for item in train], len(found.classes))
    parts = stratified(found.kind.strata(labels), fractions, seed)
    return splits | {name: [train[i] for i in indices] for name, indices in parts.items()}


def decoding_rules(max_pixels: int = MAX_PIXELS) -> str:
    """A digest of what decides whether a file can be decoded, beside the file."""
    known = (PIL.__version__, RULES, readable(), max_pixels)
    return hashlib.sha256(repr(known).encode()).hexdigest()[:8]


def _split(like: FileImages, items: Sequence[Item], found: Found) -> Split:
    labels = found.kind.of([item.label for item in items], len(found.classes))
    return Split(replace(like, paths=tuple(item.path for item in items)), labels, kind=found.kind.name)


def _broken(root: Path, reasons: Mapping[str, str], total: int) -> str:
    lines = [f"  '{root / path}': {why}" for path, why in list(reasons.items())[:SHOWN]]
    more = [f"  ... and {len(reasons) - SHOWN} more"] if len(reasons) > SHOWN else []
    fix = "Replace or convert them, or leave them out with skip_unreadable (--skip-unreadable)."
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

"""Which images a model was trained and tested on: a list beside it, and what of them is there today.

`split.csv` has a line an image: its path below the data's root, its class, its split, a digest of its content. An
image is known by its content wherever it lies, and by its path where its content has changed.
"""

import csv
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import NamedTuple, Self

from vitgraft.atomic import write_atomically
from vitgraft.data.labelling import labelling
from vitgraft.data.naming import indices
from vitgraft.data.task import Split, Task, joined, listed
from vitgraft.errors import DataError

FILE = "split.csv"
SPLITS = ("train", "val", "test")
NEW = "new"
"""What images are that a model has not seen."""

BEFORE = "before"
"""The split of images that are none of a run's own: the model that it began with had seen them."""

RANK = {name: rank for rank, name in enumerate(("train", "val", BEFORE, "test"))}
"""Which split an image is in that is in two: what was trained on once stays so."""

SHOWN = 3  # images that a sentence names


class Entry(NamedTuple):
    """One line of the list."""

    path: str
    label: str
    split: str
    digest: str


@dataclass(frozen=True)
class Kept:
    """The images of a run, in the order of its splits."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, splits: Mapping[str, Split]) -> Self | None:
        """The images of some splits; None if they are not kept one by one, or their classes have no names."""
        entries: list[Entry] = []
        for name, split in splits.items():
            pairs = listed(split.images)
            if pairs is None or split.classes is None:
                return None
            entries += [
                Entry(path, label, name, digest)
                for (path, digest), label in zip(pairs, split.texts(), strict=True)
            ]
        return cls(tuple(entries)) if entries else None

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """The list in a folder, if there is one.

        Raises:
            DataError: it is damaged.
        """
        path = folder / FILE
        if not path.is_file():
            return None
        try:
            text = path.read_bytes().decode("utf-8", errors="surrogateescape")
            header, *rows = csv.reader(StringIO(text, newline=""), strict=True)
            entries = tuple(Entry(*row) for row in rows)
        except (ValueError, TypeError, csv.Error) as error:
            raise _damaged(path, str(error)) from None
        if tuple(header) != Entry._fields or not {entry.split for entry in entries} <= {*SPLITS, BEFORE}:
            raise _damaged(path, f"its columns are {', '.join(Entry._fields)}; splits are {', '.join(SPLITS)}")
        return cls(entries)

    def write(self, folder: Path) -> None:
        text = StringIO(newline="")
        csv.writer(text, lineterminator="\n").writerows([Entry._fields, *self.entries])
        write_atomically(folder / FILE, text.getvalue().encode("utf-8", errors="surrogateescape"))

    def with_seen(self, others: "Kept | None") -> "Kept":
        """These and others; an image in both is what it was trained or, failing that, selected on."""
        found: dict[tuple[str, str], Entry] = {}
        for entry in (*self.entries, *(others.entries if others else ())):
            before = found.setdefault((entry.path, entry.digest), entry)
            if RANK[entry.split] < RANK[before.split]:
                found[entry.path, entry.digest] = entry
        return Kept(tuple(found.values()))

    def with_earlier(self, others: "Kept | None") -> "Kept":
        """These, and what others were trained or selected on, which is `BEFORE`."""
        known = self.digests()
        seen = [
            one for one in (others.entries if others else ()) if one.split != "test" and one.digest not in known
        ]
        return Kept((*self.entries, *(one._replace(split=BEFORE) for one in seen)))

    def sizes(self) -> dict[str, int]:
        """How many images each split has."""
        return {name: count for name in SPLITS if (count := sum(one.split == name for one in self.entries))}

    def trained(self) -> set[str]:
        """Contents of all images that a model was trained or selected on, by whatever run."""
        return {entry.digest for entry in self.entries if entry.split != "test"}

    def digests(self, split: str | None = None) -> set[str]:
        """Contents of one split's images, or of all."""
        return {entry.digest for entry in self.entries if split in (None, entry.split)}


def put(kept: Kept | None, folder: Path) -> None:
    """Leave this list in a folder, or none, in place of any that is there."""
    if kept is None:
        (folder / FILE).unlink(missing_ok=True)
    else:
        kept.write(folder)


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"'{path}', which says what the model was trained on, is damaged: {why}. Restore it: without it, "
        "nobody can tell what images the model has not seen."
    )


@dataclass(frozen=True)
class Today:
    """A run's data as they are now.

    `at` is where each entry of the list is among `images`, None for what is gone. `new` are images that the list
    does not know; `renamed`, `changed` and `relabelled` are indices of entries that are there under another path,
    with other content, or in another class; `copies` are further files with a content that the list knows.
    """

    kept: Kept
    images: Split
    at: tuple[int | None, ...]
    new: tuple[int, ...] = ()
    renamed: tuple[int, ...] = ()
    changed: tuple[int, ...] = ()
    relabelled: tuple[int, ...] = ()
    recut: tuple[int, ...] = ()
    copies: tuple[str, ...] = ()

    def gone(self, split: str | None = None) -> list[str]:
        """Paths of images that are not there any more."""
        pairs = zip(self.kept.entries, self.at, strict=True)
        return [entry.path for entry, index in pairs if index is None and split in (None, entry.split)]

    def split(self, name: str) -> Split | None:
        """What is there of a split, in the order of the list; None if nothing is. Labels are those of today."""
        pairs = zip(self.kept.entries, self.at, strict=True)
        found = [index for entry, index in pairs if index is not None and entry.split == name]
        wanted = list(self.new) if name == NEW else found
        if not wanted:
            return None
        return self.images.chosen(wanted)

    def differs(self, splits: Iterable[str] = SPLITS) -> list[str]:
        """What is otherwise than it was about the images of some splits, in sentences."""
        wanted = set(splits)
        told = (
            ("is gone", "are gone", [i for i, index in enumerate(self.at) if index is None]),
            ("has another content", "have another content", self.changed),
            ("has another class", "have another class", self.relabelled),
        )
        found = []
        for one, several, numbers in told:
            every = (self.kept.entries[number] for number in numbers)
            entries = [entry for entry in every if entry.split in wanted]
            if entries:
                verb = one if len(entries) == 1 else several
                found.append(f"{_images(len(entries))} {verb} ({_some(entries)})")
        return found

    def additions(self) -> list[str]:
        """What is there that the list does not know, in sentences."""
        found = []
        if self.new:
            verb = "is" if len(self.new) == 1 else "are"
            some = ", ".join(repr(self.images.images.name(index)) for index in self.new[:SHOWN])
            found.append(f"{_images(len(self.new))} {verb} new ({some}{', ...' if len(self.new) > SHOWN else ''})")
        if self.copies:
            some = ", ".join(map(repr, self.copies[:SHOWN]))
            found.append(f"{_images(len(self.copies))} left out as byte for byte copies ({some})")
        return found


def compared(kept: Kept, task: Task) -> Today:
    """What is there of a run's images among those of a task that was read to be measured.

    Raises:
        DataError: images that cannot be listed, or one that is gone since the task was read.
    """
    images = joined(list(task.splits.values()))
    pairs = listed(images.images)
    if pairs is None:
        raise DataError(f"The images of {task.name} are not kept one by one, as those were that the run lists.")
    search = _Search(kept.entries)
    places = search.places([(_plain(path), digest) for path, digest in pairs])
    at: list[int | None] = [None] * len(kept.entries)
    renamed, changed = [], []
    for place, number in enumerate(places):
        if number is not None:
            (path, digest), entry = pairs[place], kept.entries[number]
            at[number] = place
            changed += [number] if digest != entry.digest else []
            renamed += [number] if _plain(path) != _plain(entry.path) else []
    known = kept.digests()
    free = [place for place, number in enumerate(places) if number is None]
    return Today(
        kept,
        images,
        tuple(at),
        new=tuple(place for place in free if pairs[place][1] not in known),
        renamed=tuple(renamed),
        changed=tuple(changed),
        relabelled=tuple(_relabelled(kept, images, at)),
        recut=tuple(_recut(kept, task, at)),
        copies=tuple(images.images.name(place) for place in free if pairs[place][1] in known),
    )


@dataclass
class _Search:
    """Finds the entry of each image: by path and content, else by content alone, else by path alone."""

    entries: Sequence[Entry]
    taken: set[int] = field(default_factory=set)

    def places(self, pairs: Sequence[tuple[str, str]]) -> list[int | None]:
        """The entry of each (path, digest)."""
        found: list[int | None] = [None] * len(pairs)
        exact = {(_plain(entry.path), entry.digest): number for number, entry in enumerate(self.entries)}
        for place, pair in enumerate(pairs):
            found[place] = self._take([exact[pair]] if pair in exact else [])
        by_content: dict[str, list[int]] = {}
        for number in sorted(range(len(self.entries)), key=lambda one: RANK[self.entries[one].split]):
            by_content.setdefault(self.entries[number].digest, []).append(number)
        for place, (_, digest) in enumerate(pairs):
            if found[place] is None:
                found[place] = self._take(by_content.get(digest, []))
        by_path = {_plain(entry.path): number for number, entry in enumerate(self.entries)}
        for place, (path, digest) in enumerate(pairs):
            if found[place] is None and path in by_path and digest not in by_content:
                found[place] = self._take([by_path[path]])
        return found

    def _take(self, candidates: Iterable[int]) -> int | None:
        """The first entry that no other image has."""
        free = next((number for number in candidates if number not in self.taken), None)
        if free is not None:
            self.taken.add(free)
        return free


def _relabelled(kept: Kept, images: Split, at: Sequence[int | None]) -> Iterator[int]:
    """Entries whose class is another now, however it is spelt."""
    assert images.classes is not None, "images that are compared know their classes"
    kind = labelling(images.kind)
    names = tuple(dict.fromkeys(part for entry in kept.entries for part in kind.parts(entry.label)))
    texts = images.texts()
    index = indices({part for text in texts for part in kind.parts(text)}, names)
    for number, place in enumerate(at):
        if place is not None:
            found = [index[part] for part in kind.parts(texts[place])]
            had = kind.parts(kept.entries[number].label)
            if None in found or {names[one] for one in found if one is not None} != set(had):
                yield number


def _recut(kept: Kept, task: Task, at: Sequence[int | None]) -> Iterator[int]:
    """Entries whose split is another than the data say now; what is cut from train they do not say."""
    says = [name for name, split in task.splits.items() for _ in range(len(split))]
    given, had = set(task.splits), kept.sizes()
    for number, place in enumerate(at):
        now, then = (None if place is None else says[place]), kept.entries[number].split
        cut = now == "train" and then not in given
        retrained = now == "val" and then == "train" and "val" not in had
        if now in SPLITS and then in SPLITS and now != then and not cut and not retrained:
            yield number


def _plain(path: str) -> str:
    """A path in one Unicode form, since file systems differ."""
    return unicodedata.normalize("NFC", path)


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _some(entries: Sequence[Entry]) -> str:
    return ", ".join(repr(entry.path) for entry in entries[:SHOWN]) + (", ..." if len(entries) > SHOWN else "")

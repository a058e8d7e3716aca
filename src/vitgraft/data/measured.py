"""Which images of a source a finished model is measured on.

Images that are nobody's splits are measured whole; of splits, the test. Where the source holds the images that the
model was trained on, these are never taken for others: the split that was kept says which they are.
"""

import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain

from vitgraft.data.kept import NEW, SPLITS, Kept, Today, compared
from vitgraft.data.reading.files import FileImages, unreadable
from vitgraft.data.reading.split_names import ALL
from vitgraft.data.task import ImageSource, Joined, Split, Task, joined, listed
from vitgraft.errors import DataError

PREFERRED = ("test", "val", "train")
"""Which split of a source that has some is measured unless a user says it."""

OWN = 0.5
"""A source that holds so much of what a model was trained on and tested on is the model's own data."""

SHOWN = 5
"""Images that cannot be read that a sentence lists."""

PARTS = (*SPLITS, ALL, NEW)


@dataclass(frozen=True)
class Part:
    """Images that are measured: the part of its source that they are, the source, and sentences for a person.

    `missing` counts images that belong to the part and are not there any more, `skipped` those that cannot be
    read.
    """

    split: Split
    name: str
    of: str
    notes: tuple[str, ...] = ()
    missing: int = 0
    skipped: int = 0


def part_of(
    task: Task, asked: str | None, kept: Kept | None = None, *, own: bool = False, allow_missing: bool = False
) -> Part:
    """The part of a source that is asked for: train, val, test, all, or new, which are images that are not `kept`.

    `own` says that the source is what the model was trained on; else it is, if it holds most of what is `kept`.
    Of its own images, those that are gone are missed unless `allow_missing`.

    Raises:
        DataError: there is no such part, or some of it is missing.
    """
    images = joined(list(task.splits.values()))
    pairs = None if kept is None else listed(images.images)
    if kept is None or pairs is None:
        return _chosen(task, asked, kept is not None)
    contents = {digest for _, digest in pairs}
    if own or _holds(contents, kept):
        wanted = asked or ("test" if own or kept.digests("test") else NEW)
        found = _of_own(compared(kept, task), wanted, task.name, allow_missing)
        what = "those that it has not seen are" if wanted == NEW else "the split that it kept is"
        moved = f"{task.name} holds the images that the model was trained on: {what} measured."
        return found if own else replace(found, notes=(moved, *found.notes))
    if asked == NEW:
        seen = kept.digests()
        left = [index for index, (_, digest) in enumerate(pairs) if digest not in seen]
        if not left:
            raise DataError(f"{task.name} has no image that the run has not seen.")
        return Part(images.chosen(left), NEW, task.name)
    part = _chosen(task, asked, True)
    return replace(part, notes=(*part.notes, *trained_on(part.split, kept), *_called_alike(part.split, kept)))


def _missed(task: Task) -> tuple[str, ...]:
    """A sentence on images that were left out while a task was read, if there are some."""
    if not task.skipped:
        return ()
    some = ", ".join(f"{name!r} ({why})" for name, why in task.skipped[:SHOWN])
    more = f" and {len(task.skipped) - SHOWN:,} more" if len(task.skipped) > SHOWN else ""
    return (f"Left out of {task.name}: {some}{more}.",)


def readable(part: Part, skip_unreadable: bool) -> Part:
    """A part without images that cannot be read, if that is wanted.

    Raises:
        DataError: images that cannot be read.
    """
    reasons = _unreadable(part.split.images)
    if not reasons:
        return part
    named = {part.split.images.name(index): why for index, why in reasons.items()}
    told = "".join(f"\n  '{name}': {why}" for name, why in list(named.items())[:SHOWN])
    more = f"\n  ... and {len(named) - SHOWN:,} more" if len(named) > SHOWN else ""
    what = f"{len(named):,} of {len(part.split):,} images cannot be read"
    if not skip_unreadable or len(named) == len(part.split):
        fix = "Replace or convert them, or leave them out: skip_unreadable (--skip-unreadable)."
        raise DataError(f"{what}. {fix}{told}{more}")
    left = [index for index in range(len(part.split)) if index not in reasons]
    split = part.split.chosen(left)
    return replace(
        part, split=split, notes=(*part.notes, f"{what}, and are left out:{told}{more}"), skipped=len(named)
    )


def _unreadable(images: ImageSource) -> dict[int, str]:
    """Indices of image files that cannot be read, and why."""
    if isinstance(images, Joined):
        found: dict[int, str] = {}
        start = 0
        for part in images.parts:
            found |= {start + index: why for index, why in _unreadable(part).items()}
            start += len(part)
        return found
    if not isinstance(images, FileImages):
        return {}
    reasons = unreadable(images.root, images.paths, images.max_pixels)
    return {index: reasons[path] for index, path in enumerate(images.paths) if path in reasons}


def trained_on(split: Split, kept: Kept, some: bool = False) -> list[str]:
    """A sentence on how many of these images a model was trained on; none if on none, or with `some` if on all."""
    seen = kept.trained()
    places = [index for index, (_, digest) in enumerate(listed(split.images) or ()) if digest in seen]
    if not places or (some and len(places) == len(split)):
        return []
    named = ", ".join(repr(split.images.name(index)) for index in places[:3])
    return [
        f"The model was trained or selected on {len(places):,} of these {len(split):,} images ({named}), and they "
        "say nothing about others. Without them: split new (--split new)."
    ]


def _called_alike(split: Split, kept: Kept) -> list[str]:
    """A sentence where most of a model's training images are here by path and class, with other contents: they may
    be the same pictures in another size or format.
    """
    ours = {_name(entry.path, entry.label) for entry in kept.entries if entry.split == "train"}
    seen, texts = kept.digests(), split.texts() if split.classes else []
    found = [
        place
        for place, (path, digest) in enumerate(listed(split.images) or ())
        if texts and digest not in seen and _name(path, texts[place]) in ours
    ]
    if not found or len(found) < OWN * len(ours):
        return []
    named = ", ".join(repr(split.images.name(index)) for index in found[:3])
    return [
        f"{len(found):,} of these {len(split):,} images are called like images that the model was trained on "
        f"({named}), and have another content. If they are the same pictures, saved again, they say nothing about "
        "others: measure the run without naming data, or only such as it has not seen."
    ]


def _name(path: str, label: str) -> tuple[str, str]:
    """How an image is called whatever its format."""
    return unicodedata.normalize("NFC", os.path.splitext(path)[0]).casefold(), label


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _holds(contents: set[str], kept: Kept) -> bool:
    """Whether a source's contents are a model's own data: most of its training images, and of its test's."""
    sets = [found for name in ("train", "test") if (found := kept.digests(name))]
    return bool(sets) and all(len(one & contents) >= OWN * len(one) for one in sets)


def _chosen(task: Task, asked: str | None, keeps: bool) -> Part:
    """A part of a source that is not the model's own data."""
    if asked == NEW:
        why = "are not kept one by one" if keeps else "are not known: no list of them is kept (split.csv)"
        raise DataError(
            f"Which images of {task.name} are new cannot be said: those that the model was trained on {why}. "
            f"Choose another split: {', '.join([*task.splits, ALL])}."
        )
    missing, notes = len(task.skipped), _missed(task)
    whole = list(task.splits) == [ALL]
    if asked == ALL or (asked is None and whole):
        return Part(joined(list(task.splits.values())), ALL, task.name, notes, missing)
    name = asked or next(name for name in PREFERRED if name in task.splits)
    if name not in task.splits:
        have = ", ".join(dict.fromkeys([*task.splits, ALL]))
        raise DataError(f"{task.name} has no {name} split. Choose another (--split): {have}.")
    if asked is not None:
        return Part(task.splits[name], name, task.name, notes, missing)
    others = [f"{other} ({_images(len(split))})" for other, split in task.splits.items() if other != name]
    also = f"; there is {', '.join(others)}, too" if others else ""
    told = f"{task.name} has splits of its own: {name} is measured{also}."
    return Part(task.splits[name], name, task.name, (*notes, told), missing)


def _of_own(today: Today, asked: str, title: str, allow_missing: bool) -> Part:
    """A part of the model's own data, as they are today."""
    sizes = today.kept.sizes()
    names = [name for name in SPLITS if name in sizes] if asked == ALL else [asked]
    if asked not in (*sizes, ALL, NEW):
        have = ", ".join([*sizes, ALL, *([NEW] if today.new else [])])
        raise DataError(f"The run has no {asked} split. Choose another (--split): {have}.")
    gone = list(chain.from_iterable(today.gone(name) for name in names))
    found = [one for name in (*names, *([NEW] if asked == ALL else [])) if (one := today.split(name)) is not None]
    differs = today.differs(names)
    if not found:
        if asked == NEW:
            raise DataError(f"{title} has no image that the run has not seen: there is nothing to measure.")
        what = f"none of the run's {asked} images is in {title} any more"
        raise DataError(f"There is nothing to measure: {what}. Name the folder or list that has them.")
    split = joined(found)
    if gone and not allow_missing:
        raise DataError(
            f"Of {sum(sizes.get(name, 0) for name in names):,} {asked} images, as {title} was when it was trained "
            f"on: {'; '.join(differs)}. Restore what is gone, or measure the {len(split):,} that are left: "
            "allow_missing (--allow-missing)."
        )
    return Part(split, asked, title, tuple(_told(today, asked, title, differs)), len(gone))


def _told(today: Today, asked: str, title: str, differs: Iterable[str]) -> list[str]:
    """How a model's own data differ from what they were."""
    notes = [f"{title} has changed since it was trained on: {'; '.join(differs)}."] if differs else []
    if today.recut:
        some = ", ".join(repr(today.kept.entries[number].path) for number in today.recut[:3])
        notes.append(
            f"{title} gives {_images(len(today.recut))} another split than when it was trained on ({some}): the "
            "split that the run kept holds."
        )
    added = today.additions()
    if added and asked not in (NEW, ALL):
        how = " The new ones are split new (--split new)." if today.new else ""
        notes.append(
            f"{title} has grown since it was trained on: {'; '.join(added)}. They are not in {asked}.{how}"
        )
    elif added:
        notes.append(f"{title} has grown since it was trained on: {'; '.join(added)}.")
    if asked == ALL:
        notes.append(f"{today.kept.sizes().get('train', 0):,} of these images were trained on.")
    return notes

"""What a task is: class names and splits of labelled images, read lazily.

Data flows from here to everything else: `Task` -> backbone -> plan -> tuned model -> record.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from PIL import Image

from vitgraft.data.images import ArrayImages as ArrayImages
from vitgraft.data.images import Chosen as Chosen
from vitgraft.data.images import Deep as Deep
from vitgraft.data.images import ImageSource as ImageSource
from vitgraft.data.images import Joined as Joined
from vitgraft.data.images import Listed as Listed
from vitgraft.data.images import chosen as chosen
from vitgraft.data.images import listed as listed
from vitgraft.data.images import ranged as ranged
from vitgraft.data.images import ranges_of as ranges_of
from vitgraft.data.labelling import CLASS, labelling
from vitgraft.data.labelling import Labels as Labels
from vitgraft.data.reading.left_out import LeftOut
from vitgraft.errors import DataError
from vitgraft.kinds import shown


@dataclass(frozen=True)
class Split:
    """Labelled images: `labels` are aligned with `images`, and what they are says `kind`.

    class: (n,) int64 over 0..C-1; multi: (n, C) bool, any number of classes an image; number: (n, K) float64, in
    the user's units. `classes` are the names of classes, or of numbers, if these are known: a split of a `Task`
    has those of its task.

    A list or a tensor serves as well as an array.

    Raises:
        DataError: labels of another kind, or not one an image.
        ConfigError: there is no such kind.
    """

    images: ImageSource
    labels: Labels
    classes: tuple[str, ...] | None = None
    kind: str = CLASS.name

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", labelling(self.kind).array(self.labels))
        if not hasattr(self.images, "__len__") or not hasattr(self.images, "__getitem__"):
            raise DataError(f"images={shown(self.images)}: expected images that can be read one by one.")
        if len(self.images) != len(self.labels):
            raise DataError(
                f"{len(self.images)} images and {len(self.labels)} labels: a split has one label an image."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, Any]:
        label = self.labels[index]
        return self.images[index], int(label) if label.ndim == 0 else label

    def chosen(self, indices: Iterable[int]) -> "Split":
        """The images of these indices, in their order, with their labels."""
        wanted = [int(index) for index in indices]
        return replace(self, images=chosen(self.images, wanted), labels=self.labels[wanted])

    def texts(self) -> list[str]:
        """Each image's label in words. The names must be known."""
        kind = labelling(self.kind)
        return [kind.text(kind.label(row), self.classes or ()) for row in self.labels]

    def tensors(self, transform: Callable[[Image.Image], Any]) -> "Tensors":
        """The split as a PyTorch dataset: items are (transform(picture), label), which a `DataLoader` collates.

        `split.tensors(model.transform)` gives what the model is called with, (3, H, W) float32 an image. A split's
        own items are PIL pictures of different sizes, which no loader collates.
        """
        known = getattr(getattr(transform, "preprocessing", None), "pixel_range", ())
        return Tensors(replace(self, images=ranged(self.images, known)), transform)


@dataclass(frozen=True)
class Task:
    """A named problem: which class, which classes, or what numbers.

    `classes` are the C label names in label order (of numbers, what each is called); `splits` holds "train" and,
    where there are any, "val" and "test"; images that were read to be measured need no train, and are "all" where
    nothing splits them. `group` is the benchmark group ("natural", "specialized", "structured") or None. `skipped`
    names images that were left out on the user's word (`--skip-unreadable`), each with the reason. `copy` says how
    a benchmark's copy is kept, such as "lists, JPEG". `notes` are sentences for a person on what was found,
    guessed or left out while the data were read: whoever loads a task tells them, and a run's record keeps them.
    `left_out` are files that lie among the images and are not read.
    """

    name: str
    classes: tuple[str, ...]
    splits: Mapping[str, Split]
    group: str | None = None
    skipped: tuple[tuple[str, str], ...] = field(default=())
    copy: str = ""
    notes: tuple[str, ...] = ()
    left_out: LeftOut = field(default_factory=LeftOut)

    def __post_init__(self) -> None:
        if len(kinds := {split.kind for split in self.splits.values()}) > 1:
            raise DataError(f"The splits have labels of {len(kinds)} kinds: {', '.join(sorted(kinds))}. Give one.")
        for name, split in self.splits.items():
            if split.classes not in (None, self.classes):
                raise DataError(
                    f"The labels of {name} are {_some(split.classes)}, those of the task {_some(self.classes)}. "
                    "Give a task splits whose labels are its own classes, in the same order."
                )
        named = {name: replace(split, classes=self.classes) for name, split in self.splits.items()}
        object.__setattr__(self, "splits", named)

    @property
    def kind(self) -> str:
        """What the labels are: class, multi or number."""
        return next((split.kind for split in self.splits.values()), CLASS.name)

    def noted(self, *lines: str) -> Self:
        """The same task with more to tell; what is told already is not told twice."""
        return replace(self, notes=tuple(dict.fromkeys((*self.notes, *lines))))

    def fingerprint(self) -> str:
        """A digest of labels, class names and images of every split: equal data, equal fingerprint."""
        other = () if self.kind == CLASS.name else (self.kind,)
        digest = hashlib.sha256(repr((self.name, self.classes, *other)).encode())
        for name in sorted(self.splits):
            split = self.splits[name]
            digest.update(name.encode())
            digest.update(split.labels.tobytes())
            digest.update(split.images.fingerprint().encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Tensors:
    """A split as a PyTorch dataset of (image, label), which a `DataLoader` collates: see `Split.tensors`."""

    split: Split
    transform: Callable[[Image.Image], Any]

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        picture, label = self.split[index]
        return self.transform(picture), label


def joined(splits: Sequence[Split]) -> Split:
    """Several splits as one, in their order.

    Raises:
        DataError: their labels are of different classes.
    """
    known = {split.classes for split in splits if split.classes is not None}
    if len(known) > 1:
        what = " and ".join(sorted(map(_some, known)))
        raise DataError(f"Splits with labels of different classes cannot be joined: {what}.")
    images = Joined(tuple(split.images for split in splits))
    labels = np.concatenate([split.labels for split in splits])
    return Split(images, labels, next(iter(known), None), splits[0].kind)


def _some(classes: Sequence[str] | None) -> str:
    names = [repr(name) for name in classes or ()]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

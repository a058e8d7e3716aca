"""What a task is: class names and splits of labelled images, read lazily.

Data flows from here to everything else: `Task` -> backbone -> plan -> tuned model -> record.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitgraft.data.pictures.ranges import Ranges, merged
from vitgraft.data.reading.left_out import LeftOut
from vitgraft.errors import DataError
from vitgraft.kinds import shown

Labels = NDArray[np.int64]


class ImageSource(Protocol):
    """n images that can be read one by one."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Image.Image:
        """Image `index` as an upright 8-bit RGB picture."""

    def name(self, index: int) -> str:
        """What a person calls image `index`: its path, or the task, split and number."""

    def fingerprint(self) -> str:
        """A digest that changes whenever an image of this source does."""


@runtime_checkable
class Listed(Protocol):
    """Images that are kept one by one, so that a list can name them."""

    def listed(self) -> list[tuple[str, str]]:
        """What each image is called within its data, and a digest of its content."""


def _as_labels(labels: object) -> Labels:
    """Labels (n,) as int64, on the CPU. Raises DataError unless each is a whole number."""
    try:
        found = np.asarray(labels.detach().cpu() if hasattr(labels, "detach") else labels)
        if found.ndim == 1 and (found.dtype.kind in "iu" or len(found) == 0):
            return found.astype(np.int64, copy=False)
    except (TypeError, ValueError, RuntimeError):
        pass
    raise DataError(f"labels={shown(labels)}: expected one whole number an image, counted from 0.")


@runtime_checkable
class Choosing(Protocol):
    """Images of which some are a source of the same kind."""

    def chosen(self, indices: Sequence[int]) -> ImageSource:
        """The images of these indices."""


@dataclass(frozen=True)
class Split:
    """Labelled images: `labels` is (n,) int64 over 0..C-1, aligned with `images`.

    `classes` are the names of the labels, if these are known: a split of a `Task` has those of its task.

    A list or a tensor of whole numbers serves as well as an array.

    Raises:
        DataError: labels of another kind, or not one an image.
    """

    images: ImageSource
    labels: Labels
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", _as_labels(self.labels))
        if not hasattr(self.images, "__len__") or not hasattr(self.images, "__getitem__"):
            raise DataError(f"images={shown(self.images)}: expected images that can be read one by one.")
        if len(self.images) != len(self.labels):
            raise DataError(
                f"{len(self.images)} images and {len(self.labels)} labels: a split has one label an image."
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return self.images[index], int(self.labels[index])

    def tensors(self, transform: Callable[[Image.Image], Any]) -> "Tensors":
        """The split as a PyTorch dataset: items are (transform(picture), label), which a `DataLoader` collates.

        `split.tensors(model.transform)` gives what the model is called with, (3, H, W) float32 an image. A split's
        own items are PIL pictures of different sizes, which no loader collates.
        """
        known = getattr(getattr(transform, "preprocessing", None), "pixel_range", ())
        return Tensors(replace(self, images=ranged(self.images, known)), transform)


@dataclass(frozen=True)
class Task:
    """A named classification problem.

    `classes` are the C label names in label order; `splits` holds "train" and, where there are any, "val" and
    "test"; images that were read to be measured need no train, and are "all" where nothing splits them. `group` is
    the benchmark group ("natural", "specialized", "structured") or None. `skipped` names images that were left out
    on the user's word (`--skip-unreadable`), each with the reason. `copy` says how a benchmark's copy is kept,
    such as "lists, JPEG". `notes` are sentences for a person on what was found, guessed or left out while the
    data were read: whoever loads a task tells them, and a run's record keeps them. `left_out` are files that lie
    among the images and are not read.
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
        for name, split in self.splits.items():
            if split.classes not in (None, self.classes):
                raise DataError(
                    f"The labels of {name} are {_some(split.classes)}, those of the task {_some(self.classes)}. "
                    "Give a task splits whose labels are its own classes, in the same order."
                )
        named = {name: replace(split, classes=self.classes) for name, split in self.splits.items()}
        object.__setattr__(self, "splits", named)

    def noted(self, *lines: str) -> Self:
        """The same task with more to tell; what is told already is not told twice."""
        return replace(self, notes=tuple(dict.fromkeys((*self.notes, *lines))))

    def fingerprint(self) -> str:
        """A digest of labels, class names and images of every split: equal data, equal fingerprint."""
        digest = hashlib.sha256(repr((self.name, self.classes)).encode())
        for name in sorted(self.splits):
            split = self.splits[name]
            digest.update(name.encode())
            digest.update(split.labels.tobytes())
            digest.update(split.images.fingerprint().encode())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class ArrayImages:
    """Images held in memory: `pixels` is (n, H, W, 3) uint8."""

    pixels: NDArray[np.uint8]
    label: str

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])

    def name(self, index: int) -> str:
        return f"{self.label}[{index}]"

    def fingerprint(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.pixels).tobytes()).hexdigest()[:16]


@runtime_checkable
class Deep(Protocol):
    """Images that may have more than 8 bits: `ranges` says which of their values are black and white."""

    @property
    def ranges(self) -> Ranges | None: ...

    def with_ranges(self, ranges: Ranges | None) -> "ImageSource":
        """The same images, read with the ranges of a model; types that it knows nothing about keep their own."""


def ranges_of(images: ImageSource) -> Ranges:
    """The ranges that images are read with; none where they have 8 bits."""
    return images.ranges or () if isinstance(images, Deep) else ()


def ranged(images: ImageSource, ranges: Ranges | None) -> ImageSource:
    """Images as a model whose preprocessing has `ranges` must see them."""
    return images.with_ranges(ranges) if isinstance(images, Deep) and ranges != () else images


@dataclass(frozen=True)
class Tensors:
    """A split as a PyTorch dataset of (image, label), which a `DataLoader` collates: see `Split.tensors`."""

    split: Split
    transform: Callable[[Image.Image], Any]

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        picture, label = self.split[index]
        return self.transform(picture), label


@dataclass(frozen=True)
class Joined:
    """Several image sources, one after the other."""

    parts: tuple[ImageSource, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, index: int) -> Image.Image:
        part, inner = self._at(index)
        return part[inner]

    @property
    def ranges(self) -> Ranges | None:
        known: Ranges = ()
        for part in self.parts:
            known = merged(known, ranges_of(part))
        return known

    def with_ranges(self, ranges: Ranges | None) -> "Joined":
        return replace(self, parts=tuple(ranged(part, ranges) for part in self.parts))

    def name(self, index: int) -> str:
        part, inner = self._at(index)
        return part.name(inner)

    def fingerprint(self) -> str:
        return "+".join(part.fingerprint() for part in self.parts)

    def chosen(self, indices: Sequence[int]) -> ImageSource:
        places = [self._at(index) for index in indices]
        if len({id(part) for part, _ in places}) == 1:
            return chosen(places[0][0], [inner for _, inner in places])
        return Chosen(self, tuple(indices))

    def _at(self, index: int) -> tuple[ImageSource, int]:
        for part in self.parts:
            if index < len(part):
                return part, index
            index -= len(part)
        raise IndexError(index)


@dataclass(frozen=True)
class Chosen:
    """Some images of a source, by their indices there."""

    images: ImageSource
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Image.Image:
        return self.images[self.indices[index]]

    @property
    def ranges(self) -> Ranges | None:
        return ranges_of(self.images)

    def with_ranges(self, ranges: Ranges | None) -> "Chosen":
        return replace(self, images=ranged(self.images, ranges))

    def name(self, index: int) -> str:
        return self.images.name(self.indices[index])

    def fingerprint(self) -> str:
        told = f"{self.images.fingerprint()}:{self.indices}"
        return hashlib.sha256(told.encode()).hexdigest()[:16]


def chosen(images: ImageSource, indices: Iterable[int]) -> ImageSource:
    """Some images of a source, in the order of `indices`: of the same kind where it can choose them itself."""
    wanted = [int(index) for index in indices]
    if isinstance(images, Choosing):
        return images.chosen(wanted)
    return Chosen(images, tuple(wanted))


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
    return Split(images, np.concatenate([split.labels for split in splits]), next(iter(known), None))


def listed(images: ImageSource) -> list[tuple[str, str]] | None:
    """What each image is called within its data, wherever those lie, and a digest of its content.

    None for images that are not kept one by one, such as drawn ones. Raises DataError for an image that is gone.
    """
    if isinstance(images, Chosen):
        of_all = listed(images.images)
        return None if of_all is None else [of_all[index] for index in images.indices]
    if isinstance(images, Joined):
        parts = [listed(part) for part in images.parts]
        return None if None in parts else [pair for part in parts for pair in part or ()]
    return images.listed() if isinstance(images, Listed) else None


def _some(classes: Sequence[str] | None) -> str:
    names = [repr(name) for name in classes or ()]
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")

"""Where images come from: read one by one, held in memory, several sources as one, some of a source."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitgraft.data.pictures.ranges import Ranges, merged


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


@runtime_checkable
class Choosing(Protocol):
    """Images of which some are a source of the same kind."""

    def chosen(self, indices: Sequence[int]) -> ImageSource:
        """The images of these indices."""


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

"""Image sizes as a user says them: pixels a side, or height x width; and the grids of patches that follow."""

import re
from typing import Any

from vitgraft.errors import BackboneError
from vitgraft.kinds import fitting, shown

Size = int | str | None
"""Pixels a side, `192x256` (height x width), or None for a model's own."""

SIDES = re.compile(r"\s*(\d{1,6})\s*(?:[xX×]\s*(\d{1,6})\s*)?")


def canonical_size(given: object) -> Size:
    """The one way to say a size: a number if it is a square's, else a text such as `192x256`. (H, W) serves, too.

    Raises:
        BackboneError: what is no size.
    """
    if given is None:
        return None
    sides: tuple[int, ...] | None = None
    if (number := fitting(given, int)) is not None:
        sides = number * 2
    elif isinstance(given, str) and (match := SIDES.fullmatch(given)) is not None:
        sides = (int(match[1]), int(match[2] or match[1]))
    elif isinstance(given, tuple | list) and len(given) == 2 and all(fitting(one, int) for one in given):
        sides = (int(given[0]), int(given[1]))
    if sides is None or min(sides) < 1 or max(sides) > 10**6:
        raise BackboneError(
            f"An image size of {shown(given)}: give pixels a side, such as 224, or height x width, such as "
            "192x256 (in Python also (192, 256)), each a multiple of the model's patch size."
        )
    return sides[0] if sides[0] == sides[1] else f"{sides[0]}x{sides[1]}"


def sides_of(size: object) -> tuple[int, int] | None:
    """(height, width) in pixels; None for a model's own. Raises BackboneError."""
    size = canonical_size(size)
    if size is None or isinstance(size, int):
        return None if size is None else (size, size)
    height, _, width = size.partition("x")
    return int(height), int(width)


def for_timm(size: object) -> int | tuple[int, int] | None:
    """A size as timm's `img_size` takes it. Raises BackboneError."""
    known = canonical_size(size)
    return known if isinstance(known, int) else sides_of(known)


def check_patches(size: Size, patch: tuple[int, int], name: str) -> None:
    """Raise BackboneError unless a size is whole patches, of (height, width) pixels."""
    sides = sides_of(size)
    if sides is None or not any(side % pixels for side, pixels in zip(sides, patch, strict=True)):
        return
    near = [_near(side, pixels) for side, pixels in zip(sides, patch, strict=True)]
    square = isinstance(size, int) and patch[0] == patch[1]
    fitting_sizes = near[0] if square else [f"{height}x{width}" for height in near[0] for width in near[1]]
    pixels = str(patch[0]) if patch[0] == patch[1] else f"{patch[0]} x {patch[1]}"
    raise BackboneError(
        f"An image size of {size} is no multiple of {name}'s patches of {pixels} pixels. Take "
        f"{' or '.join(map(str, fitting_sizes))}."
    )


def _near(side: int, patch: int) -> list[int]:
    """The multiples of a patch around a side, itself if it is one."""
    below = side - side % patch
    return [one for one in ((below,) if below == side else (below, below + patch)) if one > 0]


def said_sizes(*said: Any) -> list[tuple[int, int]]:
    """Those of some values, from files, that are sizes: numbers, or lists that end in height and width."""
    found = []
    for one in said:
        pair = one[-2:] if isinstance(one, list | tuple) else (one, one)
        if len(pair) == 2 and all(type(side) is int and side > 0 for side in pair):
            found.append((pair[0], pair[1]))
    return found

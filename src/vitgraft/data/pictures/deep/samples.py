"""The numbers of one picture, and the range of values that is in them."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FLOAT = "float"


class Samples(NamedTuple):
    """`values` (H, W, C), C of 1 or 3, of numpy's type `kind` (floats are `FLOAT`), and `alpha` (H, W), if any.

    `inverted`: small is white. `premultiplied`: the values are times alpha already. `declared`: black and white,
    where the file itself says. `orientation` is EXIF's, where the values are not upright yet.
    """

    values: NDArray[Any]
    alpha: NDArray[Any] | None = None
    inverted: bool = False
    premultiplied: bool = False
    declared: tuple[float, float] | None = None
    orientation: int = 1

    @property
    def kind(self) -> str:
        return FLOAT if self.values.dtype.kind == "f" else self.values.dtype.name


class NoPicture(Exception):
    """Numbers that are no picture: the arguments are the reason and the remedy."""


def of_array(
    values: NDArray[Any],
    alpha: NDArray[Any] | None = None,
    *,
    inverted: bool = False,
    premultiplied: bool = False,
    declared: tuple[float, float] | None = None,
    orientation: int = 1,
) -> Samples:
    """Samples of an array (H, W) or (H, W, C). Raises NoPicture where a value is not finite."""
    values = values if values.ndim == 3 else values[..., None]
    values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    if values.dtype.kind == "f":
        finite = int(np.isfinite(values).sum())
        if finite < values.size:
            raise NoPicture(
                f"{values.size - finite:,} of its {values.size:,} values are not finite (NaN or infinity)",
                "Replace them by numbers, as numpy.nan_to_num does, and write it anew.",
            )
    return Samples(values, alpha, inverted, premultiplied, declared, orientation)

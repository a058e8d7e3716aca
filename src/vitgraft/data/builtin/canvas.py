"""What the generators share: supersampling, light, grain and outlines.

A generator paints a float canvas (P, P, 3) with P = SUPERSAMPLE * size, then `develop`s it into size x size
pixels. Its signature is `(rng, size) -> (pixels (size, size, 3) uint8, label)`, and the label is decided before
anything whose number of random draws depends on `size`: so a picture has the same label at every size.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import RandomState
from PIL import Image

from vitgraft.data.drawing import Array, Pixels, shrink, to_uint8, value_noise

SUPERSAMPLE = 2
Sample = tuple[Pixels, int]
Generator = Callable[[RandomState, int], Sample]

_TWELVE = np.linspace(0, 2 * np.pi, 12, endpoint=False)
ELLIPSE = np.stack([np.cos(_TWELVE), np.sin(_TWELVE)], axis=1)
RECTANGLE = np.array([(-1.0, -1.0), (1.0, -1.0), (1.0, 1.0), (-1.0, 1.0)])


def develop(rng: RandomState, canvas: Array, grain: float, *, grey_grain: bool = False) -> Pixels:
    """Average the canvas (P, P, 3) down and add sensor noise of standard deviation `grain` (of 1).

    The noise is drawn for each channel, or once for all three with `grey_grain`.
    """
    picture = shrink(canvas, SUPERSAMPLE)
    channels = 1 if grey_grain else 3
    return to_uint8(picture + grain * rng.standard_normal((*picture.shape[:2], channels)))


def uneven_light(rng: RandomState, size: int, strength: float) -> Array:
    """Smooth brightness factors (size, size, 1) from about 1 - strength to 1 + strength."""
    return np.asarray(1 + strength * (2 * value_noise(rng, size, 3) - 1))[..., None]


def turn(x: Array, y: Array, angle: float) -> tuple[Array, Array]:
    """The coordinates of (x, y) along axes turned by `angle` radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return cosine * x + sine * y, cosine * y - sine * x


def placed(outline: Array, centre: Array, half: Array, angle: float) -> list[float]:
    """A unit outline (K, 2) scaled by `half` (2,), turned and moved to `centre` (2,): x0, y0, x1, y1, ..."""
    cosine, sine = np.cos(angle), np.sin(angle)
    rotation = np.array([(cosine, sine), (-sine, cosine)])
    flat: list[float] = ((outline * half) @ rotation + centre).ravel().tolist()
    return flat


def paint(colour: Array) -> tuple[int, int, int]:
    """A colour (3,) in [0, 1], clipped, as Pillow's fill."""
    red, green, blue = np.clip(colour * 255 + 0.5, 0, 255).astype(int).tolist()
    return red, green, blue


def to_pillow(canvas: Array) -> Image.Image:
    """The canvas as an 8-bit picture that Pillow can draw on."""
    return Image.fromarray(to_uint8(canvas))


def from_pillow(picture: Image.Image) -> Array:
    """A Pillow picture as floats in [0, 1]: (P, P) if grey, (P, P, 3) if in colour."""
    return np.asarray(picture, dtype=float) / 255

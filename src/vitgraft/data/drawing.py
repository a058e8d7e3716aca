"""Small drawing tools shared by every procedural picture: grids, colours, noise, supersampling.

Coordinates run over [-1, 1] in both directions, x to the right and y down. Colours are floats in [0, 1].
Randomness comes from `stream`, a legacy Mersenne Twister whose distributions numpy has frozen, so a picture
is the same in every numpy release.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]


def stream(*key: int) -> np.random.RandomState:
    """The random stream named by a tuple of non-negative integers, such as (task, split, index)."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(key)))


@cache
def grid(size: int) -> tuple[Array, Array]:
    """Pixel centres as (x, y), each (size, size), over [-1, 1]. Shared: never write to it."""
    axis = (np.arange(size) + 0.5) / size * 2 - 1
    x, y = np.meshgrid(axis, axis)
    x.setflags(write=False)
    y.setflags(write=False)
    return x, y


def hsv(hue: Array | float, saturation: Array | float, value: Array | float) -> Array:
    """Colours (..., 3) from hue (taken modulo 1), saturation and value, broadcast against each other."""
    hue, saturation, value = np.broadcast_arrays(
        np.asarray(hue, float), np.asarray(saturation, float), np.asarray(value, float)
    )
    # Every channel is the same trapezoid of the hue, shifted by a third of a turn.
    position = (hue[..., None] * 6 + np.array([5.0, 3.0, 1.0])) % 6
    ramp = np.clip(np.minimum(position, 4 - position), 0, 1)
    return np.asarray(value[..., None] * (1 - saturation[..., None] * ramp))


def shrink(image: Array, factor: int) -> Array:
    """Average factor x factor squares of (H, W) or (H, W, C): the end of supersampling."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    return np.asarray(image.reshape(height, factor, width, factor, *image.shape[2:]).mean(axis=(1, 3)))


def to_uint8(image: Array) -> Pixels:
    """Floats in [0, 1] (clipped) to 0..255."""
    return np.clip(image * 255 + 0.5, 0, 255).astype(np.uint8)


def power_noise(rng: np.random.RandomState, size: int, exponent: float = 1.5) -> Array:
    """1/f^exponent noise (size, size), mean 0 and standard deviation 1; 0 is white, 3 is cloud."""
    spectrum = np.fft.rfft2(rng.standard_normal((size, size)))
    radius = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    radius[0, 0] = 1
    spectrum /= radius ** (exponent / 2)
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, (size, size))
    return np.asarray((field - field.mean()) / (field.std() + 1e-9))


def value_noise(rng: np.random.RandomState, size: int, cells: int) -> Array:
    """Smooth noise in about [0, 1]: (cells+1)^2 random values, enlarged to (size, size)."""
    from PIL import Image

    knots = rng.rand(cells + 1, cells + 1).astype(np.float32)
    return np.asarray(Image.fromarray(knots).resize((size, size), Image.Resampling.BICUBIC), dtype=float)

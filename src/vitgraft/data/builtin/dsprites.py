"""White sprites on black, after dSprites (Matthey et al. 2017): predict where they are or how they are turned.

A sprite has five latents: 3 shapes x 6 scales x 40 orientations x 32 columns x 32 rows, as the original.

Deviation: orientations step by 2 pi / 40, where the original steps by 2 pi / 39 and so holds the turn 0 twice,
with labels at opposite ends. What the original shares stays: a square repeats every 10 steps and an ellipse every
20, so their orientation can only be guessed among 4 and 2 answers.
"""

from typing import NamedTuple

import numpy as np
from numpy.random import RandomState

from vitgraft.data.builtin.canvas import SUPERSAMPLE, Sample, turn
from vitgraft.data.drawing import Array, Pixels, grid, shrink, to_uint8

SHAPES = ("square", "ellipse", "heart")
SCALES, ORIENTATIONS, POSITIONS = 6, 40, 32
CLASSES = 16
UNIT = 0.34  # half-width of the largest ellipse, of the picture's half-width
REACH = 0.62  # the outermost centres, of the picture's half-width


class Latents(NamedTuple):
    """Indices of the five factors of one sprite."""

    shape: int
    scale: int
    orientation: int
    column: int
    row: int


def sample_latents(rng: RandomState) -> Latents:
    """Five independent uniform factors."""
    ranges = (len(SHAPES), SCALES, ORIENTATIONS, POSITIONS, POSITIONS)
    return Latents(*(int(rng.randint(count)) for count in ranges))


def _inside(shape: str, u: Array, v: Array) -> Array:
    """1 inside the unit shape, else 0, at the sprite's own coordinates (u, v)."""
    if shape == "square":
        inside = np.maximum(abs(u), abs(v)) <= 0.72
    elif shape == "ellipse":
        inside = u**2 + (2 * v) ** 2 <= 1
    else:  # the sextic heart, its tip in the direction of +v
        across, up = 1.25 * u, 0.1 - 1.25 * v
        inside = (across**2 + up**2 - 1) ** 3 <= across**2 * up**3
    return inside.astype(float)


def draw_sprite(latents: Latents, size: int) -> Pixels:
    """The sprite as (size, size, 3), with grey edges where it covers a pixel in part."""
    x, y = grid(size * SUPERSAMPLE)
    centre_x, centre_y = ((2 * index / (POSITIONS - 1) - 1) * REACH for index in latents[3:])
    u, v = turn(x - centre_x, y - centre_y, 2 * np.pi * latents.orientation / ORIENTATIONS)
    radius = UNIT * (0.5 + 0.5 * latents.scale / (SCALES - 1))
    coverage = shrink(_inside(SHAPES[latents.shape], u / radius, v / radius), SUPERSAMPLE)
    return to_uint8(np.repeat(coverage[..., None], 3, axis=-1))


def column_class(latents: Latents) -> int:
    """16 columns of two positions each, from the left; the row is not asked."""
    return latents.column * CLASSES // POSITIONS


def orientation_class(latents: Latents) -> int:
    """floor(id / 2.5): the classes hold 3 and 2 orientations in turn."""
    return latents.orientation * CLASSES // ORIENTATIONS


def place(rng: RandomState, size: int) -> tuple[Pixels, tuple[float, float]]:
    """A random sprite and where its centre is, in percent of width and height from the picture's upper left."""
    latents = sample_latents(rng)
    x, y = (50 * (1 + (2 * index / (POSITIONS - 1) - 1) * REACH) for index in latents[3:])
    return draw_sprite(latents, size), (x, y)


def location(rng: RandomState, size: int) -> Sample:
    """A random sprite and the class of its column."""
    latents = sample_latents(rng)
    return draw_sprite(latents, size), column_class(latents)


def orientation(rng: RandomState, size: int) -> Sample:
    """A random sprite and the class of its turn."""
    latents = sample_latents(rng)
    return draw_sprite(latents, size), orientation_class(latents)

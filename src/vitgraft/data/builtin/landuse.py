"""Ground from above, after EuroSAT's ten classes: crops, forest, roads, roofs, water.

Every scene is then spoilt as satellite pictures are: a colour cast, lost saturation, haze and grain. Without that
a small network is never wrong.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import RandomState
from PIL import ImageDraw

from vitgraft.data.builtin.canvas import (
    RECTANGLE,
    SUPERSAMPLE,
    Sample,
    develop,
    from_pillow,
    paint,
    placed,
    to_pillow,
    turn,
)
from vitgraft.data.drawing import Array, grid, hsv, power_noise, value_noise

Painter = Callable[[RandomState, int], Array]


def _parcels(rng: RandomState, side: int, count: int, hues: tuple[float, float], furrow: float) -> Array:
    """Fields that meet half-way between random points, each with a hue in `hues`, a brightness and furrows."""
    x, y = grid(side)
    points = rng.uniform(-1.2, 1.2, (count, 2))
    field = ((x[..., None] - points[:, 0]) ** 2 + (y[..., None] - points[:, 1]) ** 2).argmin(-1)
    hue = rng.uniform(*hues, size=count)[field]
    brightness = (0.3 + 0.4 * rng.rand(count))[field]
    along = (np.pi * rng.rand(count))[field]
    ridges = np.sin(40 * (x * np.cos(along) + y * np.sin(along)))
    return hsv(hue, 0.45, np.clip(brightness + furrow * ridges, 0, 1))


def _band(rng: RandomState, canvas: Array, width: float, colour: Array) -> Array:
    """The canvas with a winding strip of half-width `width` across it."""
    across, along = turn(*grid(len(canvas)), np.pi * rng.rand())
    bend = rng.uniform(0.05, 0.35) * np.sin(along * rng.uniform(1, 3) + 2 * np.pi * rng.rand())
    return np.where((abs(across - rng.uniform(-0.3, 0.3) - bend) < width)[..., None], colour, canvas)


def _roofs(rng: RandomState, canvas: Array, sizes: tuple[float, float], colours: Array) -> Array:
    """The canvas with one rectangle a colour (K, 3), half-sides of `sizes` pictures, on one street grid."""
    side, street = len(canvas), np.pi * rng.rand()
    picture = to_pillow(canvas)
    pen = ImageDraw.Draw(picture)
    for colour in colours:
        half = side * rng.uniform(*sizes, size=2)
        angle = street + np.pi / 2 * rng.randint(2)
        pen.polygon(placed(RECTANGLE, side * rng.rand(2), half, angle), fill=paint(colour))
    return from_pillow(picture)


def _meadow(rng: RandomState, side: int) -> Array:
    """Uneven low vegetation, also the ground under towns and rivers."""
    hue = 0.25 + 0.03 * rng.randn() + 0.02 * power_noise(rng, side, 2)
    return hsv(hue, 0.35, np.clip(0.4 + 0.05 * power_noise(rng, side, 1.5), 0, 1))


def _annual_crop(rng: RandomState, side: int) -> Array:
    return _parcels(rng, side, rng.randint(5, 12), (0.08, 0.35), furrow=0.05)


def _forest(rng: RandomState, side: int) -> Array:
    brightness = np.clip(0.22 + 0.09 * power_noise(rng, side, 0.6), 0, 1)
    return hsv(0.3 + 0.02 * power_noise(rng, side, 1), 0.55, brightness)


def _highway(rng: RandomState, side: int) -> Array:
    fields = _parcels(rng, side, rng.randint(3, 7), (0.15, 0.35), furrow=0.02)
    return _band(rng, fields, rng.uniform(0.03, 0.06), np.full(3, 0.55))


def _industrial(rng: RandomState, side: int) -> Array:
    greys = 0.6 + 0.35 * rng.rand(rng.randint(6, 14))
    return _roofs(rng, 0.8 * _meadow(rng, side) + 0.1, (0.06, 0.16), np.repeat(greys[:, None], 3, axis=1))


def _pasture(rng: RandomState, side: int) -> Array:
    brightness = np.clip(0.5 + 0.07 * power_noise(rng, side, 2.2), 0, 1)
    return hsv(0.28 + 0.03 * power_noise(rng, side, 2), 0.4, brightness)


def _permanent_crop(rng: RandomState, side: int) -> Array:
    """Orchards: parcels under a regular grid of trees."""
    parcels = _parcels(rng, side, rng.randint(4, 9), (0.2, 0.4), furrow=0.0)
    u, v = turn(*grid(side), np.pi * rng.rand())
    trees = np.sign(np.sin(26 * u) * np.sin(26 * v))
    return np.asarray(parcels * (0.8 + 0.2 * trees)[..., None])


def _residential(rng: RandomState, side: int) -> Array:
    count = rng.randint(40, 80)
    tiles = hsv(0.02 + 0.08 * rng.rand(count), 0.3 * rng.rand(count), 0.45 + 0.5 * rng.rand(count))
    return _roofs(rng, 0.7 * _meadow(rng, side) + 0.12, (0.012, 0.04), tiles)


def _river(rng: RandomState, side: int) -> Array:
    return _band(rng, _meadow(rng, side), rng.uniform(0.12, 0.25), hsv(0.55, 0.5, 0.3 + 0.1 * rng.rand()))


def _lake(rng: RandomState, side: int) -> Array:
    hue = 0.56 + 0.02 * rng.randn() + 0.005 * power_noise(rng, side, 2)
    brightness = 0.28 + 0.06 * rng.randn() + 0.02 * power_noise(rng, side, 1)
    return hsv(hue, 0.6, np.clip(brightness, 0, 1))


PAINTERS: dict[str, Painter] = {
    "annual crop": _annual_crop,
    "forest": _forest,
    "herbaceous vegetation": _meadow,
    "highway": _highway,
    "industrial": _industrial,
    "pasture": _pasture,
    "permanent crop": _permanent_crop,
    "residential": _residential,
    "river": _river,
    "sea or lake": _lake,
}


def _through_air(rng: RandomState, canvas: Array) -> Array:
    """The ground as the satellite sees it: less colour, a cast, uneven brightness, haze."""
    side = len(canvas)
    grey = canvas.mean(axis=-1, keepdims=True)
    canvas = grey + (canvas - grey) * rng.uniform(0.15, 1.1)
    mottle, cast = 1 + 0.12 * power_noise(rng, side, 1)[..., None], 1 + 0.12 * rng.randn(3)
    canvas = canvas * mottle * cast * rng.uniform(0.55, 1.35)
    haze = value_noise(rng, side, 3)[..., None] * rng.uniform(0, 0.45)
    return np.asarray(canvas * (1 - haze) + 0.8 * haze)


def ground(rng: RandomState, size: int) -> Sample:
    """A square of ground and the number of its use in `PAINTERS`."""
    label, side = int(rng.randint(len(PAINTERS))), size * SUPERSAMPLE
    canvas = list(PAINTERS.values())[label](rng, side)
    return develop(rng, _through_air(rng, canvas), grain=0.06), label

"""Coloured solids on a grey floor, after CLEVR (Johnson et al. 2017): how many, or how near is the nearest.

3 to 10 ellipsoids, boxes and cylinders in two sizes and eight colours, matt or shiny, none touching another; the
camera and the lamp move a little from picture to picture.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

from vitgraft.data.builtin.canvas import SUPERSAMPLE, Sample
from vitgraft.data.builtin.raycast import Camera, Solid, Stage, render, unit
from vitgraft.data.drawing import Pixels, shrink, to_uint8

FEWEST, MOST = 3, 10
SHAPES = ("ellipsoid", "box", "cylinder")
SMALL, LARGE = 0.38, 0.665
PALETTE = np.array(  # grey, red, blue, green, brown, purple, cyan, yellow: CLEVR's eight
    [
        (0.34, 0.34, 0.34),
        (0.68, 0.14, 0.14),
        (0.16, 0.29, 0.84),
        (0.11, 0.41, 0.08),
        (0.51, 0.29, 0.10),
        (0.51, 0.15, 0.75),
        (0.16, 0.82, 0.82),
        (1.00, 0.93, 0.20),
    ]
)

# The five inner 6-quantiles of `Scene.nearest` over the 20,000 scenes stream(20000, 0..19999),
# kept here as constants so that the classes stay what they are when the generator is measured again.
DISTANCE_EDGES = (6.91, 7.12, 7.33, 7.55, 7.91)


@dataclass(frozen=True)
class Scene:
    """Everything that decides a picture: the solids, the camera and the stage."""

    solids: tuple[Solid, ...]
    camera: Camera
    stage: Stage

    def nearest(self) -> float:
        """Distance from the eye to the nearest centre, in floor units (a large solid is 1.3 wide)."""
        return float(min(np.linalg.norm(solid.centre - self.camera.eye) for solid in self.solids))

    def draw(self, size: int) -> Pixels:
        """The picture (size, size, 3)."""
        canvas = render(self.solids, self.camera, self.stage, size * SUPERSAMPLE)
        return to_uint8(shrink(canvas, SUPERSAMPLE))


def _sample_spots(rng: RandomState) -> list[tuple[float, float, float]]:
    """Places (x, y) and half-sizes of 3 to 10 solids that keep clear of each other."""
    wanted = rng.randint(FEWEST, MOST + 1)
    spots: list[tuple[float, float, float]] = []
    for _ in range(400):  # ten solids nearly always fit; if not, there are fewer and the label says so
        if len(spots) == wanted:
            break
        half = LARGE if rng.rand() < 0.5 else SMALL
        x, y = rng.uniform(-2.9, 2.9, 2)
        if all((x - a) ** 2 + (y - b) ** 2 >= (half + other + 0.15) ** 2 for a, b, other in spots):
            spots.append((x, y, half))
    return spots


def sample_scene(rng: RandomState) -> Scene:
    """A random scene. Nothing is rendered, so labels alone are cheap."""
    light = unit(np.array([-0.5 + 0.2 * rng.rand(), -0.6, 1.0]))
    eye = np.array([0.4 * rng.randn(), -7.5 + 0.25 * rng.randn(), 5.4 + 0.25 * rng.randn()])
    solids = []
    for x, y, width in _sample_spots(rng):
        shape = SHAPES[rng.randint(len(SHAPES))]
        half = width * (0.72 if shape == "box" else 1.0)  # a box of the same half-width looks larger
        colour = PALETTE[rng.randint(len(PALETTE))] * (0.9 + 0.2 * rng.rand())
        gloss = 0.5 if rng.rand() < 0.5 else 0.0
        heading = 2 * np.pi * rng.rand()
        solids.append(Solid(shape, np.array([x, y, half]), np.full(3, half), heading, colour, gloss))
    camera = Camera(eye, np.array([0.0, -0.1, 0.75]), angle=0.82)
    return Scene(tuple(solids), camera, Stage(light, np.full(3, 0.6), np.full(3, 0.45)))


def distance_class(distance: float) -> int:
    """The number of edges strictly below the distance: 0 is the nearest sixth."""
    return int(np.searchsorted(DISTANCE_EDGES, distance))


def colours(rng: RandomState, size: int) -> tuple[Pixels, tuple[int, ...]]:
    """A scene and the colours of its solids, as indices of `PALETTE`, whose shades differ in brightness alone."""
    scene = sample_scene(rng)
    hues = PALETTE / PALETTE.sum(axis=1, keepdims=True)
    found = {int(abs(hues - one.colour / one.colour.sum()).sum(axis=1).argmin()) for one in scene.solids}
    return scene.draw(size), tuple(sorted(found))


def count(rng: RandomState, size: int) -> Sample:
    """A scene and its number of solids minus 3."""
    scene = sample_scene(rng)
    return scene.draw(size), len(scene.solids) - FEWEST


def distance(rng: RandomState, size: int) -> Sample:
    """A scene and the class of its nearest solid's distance."""
    scene = sample_scene(rng)
    return scene.draw(size), distance_class(scene.nearest())

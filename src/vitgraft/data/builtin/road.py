"""A road with boxes for cars, after KITTI's closest vehicle: is the nearest one near, middling, far or absent.

The camera's height, pitch, heading and zoom and the cars' sizes vary, because with fixed ones the row at which a
car meets the road gives the answer away. Farther cars, trees and houses distract. Lengths are in metres.
"""

import numpy as np
from numpy.random import RandomState

from vitgraft.data.builtin.canvas import SUPERSAMPLE, Sample
from vitgraft.data.builtin.raycast import Camera, Solid, Stage, render, unit
from vitgraft.data.drawing import Array, hsv, shrink, to_uint8

DISTANCES = ((4.0, 8.0), (8.0, 20.0), (20.0, 45.0))  # to the nearest car's rear, for the first three classes
ABSENT = len(DISTANCES)
LANES = (-3.5, 0.0, 3.5)
ROADSIDE = ("ellipsoid", "box", "cylinder")


def _car(rng: RandomState, x: float, rear: float) -> list[Solid]:
    """A body and a cabin at sideways position `x`, the rear `rear` ahead; some are as tall as a van."""
    size = rng.uniform(0.75, 1.35)
    tall = 0.5 * rng.rand() if rng.rand() < 0.3 else 0.0
    width, length, height = size * np.array([0.9 + 0.15 * rng.rand(), 2.0 + 0.8 * rng.rand(), 0.75 + tall])
    colour = hsv(rng.rand(), 0.2 + 0.7 * rng.rand(), 0.3 + 0.6 * rng.rand())
    heading = 0.15 * rng.randn()

    def box(middle: float, half: tuple[float, float, float], paint: Array) -> Solid:
        return Solid("box", np.array([x, rear + length, middle]), np.array(half), heading, paint)

    body = box(0.65 * height, (width, length, 0.55 * height), colour)
    cabin = box(1.6 * height, (0.85 * width, 0.6 * length, 0.4 * height), 0.35 * colour + 0.12)
    return [body, cabin]


def _cars(rng: RandomState, nearest: float) -> list[Solid]:
    """The nearest car, before the camera, and up to three farther ones in the lanes."""
    cars = _car(rng, rng.uniform(-0.35, 0.35) * min(nearest, 9.0), nearest)
    for _ in range(rng.randint(4)):
        lane = LANES[rng.randint(len(LANES))]
        cars.extend(_car(rng, lane + 0.5 * rng.randn(), nearest + 3 + 30 * rng.rand()))
    return cars


def _roadside(rng: RandomState) -> Solid:
    """A tree or a house beside the road."""
    side, ahead = rng.choice([-1, 1]), 5 + 45 * rng.rand()
    half = np.array([0.5 + 1.5 * rng.rand(), 0.5 + 1.5 * rng.rand(), 1 + 3 * rng.rand()])
    centre = np.array([side * (6 + 6 * rng.rand() + 0.1 * ahead), ahead, half[2]])
    colour = hsv(0.08 + 0.3 * rng.rand(), 0.5, 0.2 + 0.5 * rng.rand())
    return Solid(ROADSIDE[rng.randint(3)], centre, half, 0.0, colour, gloss=0.0)


def _stage(rng: RandomState) -> Stage:
    """Asphalt between green verges, under a pale sky."""
    light = unit(np.array([rng.uniform(-0.6, 0.6), -0.4, 1.0]))
    asphalt, edge = np.full(3, 0.3 + 0.15 * rng.rand()), rng.uniform(4.5, 6.0)
    verge = hsv(0.2 + 0.12 * rng.rand(), 0.4, 0.3 + 0.25 * rng.rand())

    def floor(x: Array, y: Array) -> Array:
        return np.where((abs(x) < edge)[..., None], asphalt, verge)

    return Stage(light, floor, hsv(0.58, 0.25 * rng.rand(), 0.65 + 0.3 * rng.rand()))


def nearest_car(rng: RandomState, size: int) -> Sample:
    """A view along the road and the class of the nearest car's distance."""
    label = rng.randint(len(DISTANCES) + 1)
    solids = [] if label == ABSENT else _cars(rng, rng.uniform(*DISTANCES[label]))
    solids += [_roadside(rng) for _ in range(rng.randint(2, 9))]
    stage = _stage(rng)
    eye = np.array([0.0, 0.0, 1.2 + 0.9 * rng.rand()])
    target = np.array([1.2 * rng.randn(), 20.0, 1.2 + 1.3 * rng.randn()])
    canvas = render(solids, Camera(eye, target, rng.uniform(0.85, 1.2)), stage, size * SUPERSAMPLE)
    return to_uint8(shrink(canvas, SUPERSAMPLE)), int(label)

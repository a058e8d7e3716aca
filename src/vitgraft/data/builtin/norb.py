"""Grey toys under six lamps, after smallNORB (LeCun et al. 2004): from which side, or how high, is the camera.

Five categories of ten instances; each instance is a fixed union of 4 to 10 solids. As in the original, training
pictures show instances 0 to 4 and evaluation pictures instances 5 to 9, which are other toys of the same kinds:
validation is therefore of the test's kind, not of the training's.
"""

from functools import cache, partial

import numpy as np
from numpy.random import RandomState

from vitgraft.data.builtin.canvas import SUPERSAMPLE, Sample
from vitgraft.data.builtin.raycast import Camera, Solid, Stage, render, unit
from vitgraft.data.drawing import Pixels, shrink, stream, to_uint8

CATEGORIES = ("animal", "figure", "plane", "truck", "car")
SEEN, UNSEEN = range(5), range(5, 10)
AZIMUTHS = tuple(range(0, 360, 20))  # degrees
ELEVATIONS = tuple(range(30, 75, 5))  # degrees above the floor
LAMPS = 6
TOY_KEY = 77  # the toys are part of the task: they are the same for every dataset seed
TARGET = np.array([0.0, 0.0, 0.5])
DISTANCE, FIELD_OF_VIEW = 4.6, 0.62
PAINT = np.full(3, 0.75)


def _solid(shape: str, centre: tuple[float, float, float], half: tuple[float, float, float]) -> Solid:
    return Solid(shape, np.array(centre), np.array(half), heading=0.0, colour=PAINT, gloss=0.1)


def _animal(rng: RandomState) -> list[Solid]:
    length, height, girth = rng.uniform(0.7, 1.0), rng.uniform(0.35, 0.6), rng.uniform(0.28, 0.4)
    head, tail = rng.uniform(0.2, 0.32), rng.uniform(0.1, 0.35)
    reach, lift = length * rng.uniform(0.85, 1.05), height + rng.uniform(0.45, 0.75)
    body = _solid("ellipsoid", (0, 0, height + 0.25), (length, girth, girth))
    skull = _solid("ellipsoid", (reach, 0, lift), (head, head, head))
    whip = _solid("ellipsoid", (-1.05 * length, 0, height + rng.uniform(0.3, 0.5)), (tail, 0.06, 0.08))
    legs = [
        _solid("cylinder", (x * 0.6 * length, y * 0.2, height / 2), (0.09, 0.09, height / 2))
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    return [body, skull, whip, *legs]


def _figure(rng: RandomState) -> list[Solid]:
    height, head = rng.uniform(0.38, 0.52), rng.uniform(0.18, 0.25)  # taller ones leave the picture
    chest = (rng.uniform(0.18, 0.26), rng.uniform(0.3, 0.42), 0.75 * height)
    solids = [
        _solid("box", (0, 0, 2 * height), chest),
        _solid("ellipsoid", (0, 0, 3.1 * height), (head, head, head)),
    ]
    for side in (-1, 1):
        arm = (rng.uniform(0.1, 0.35), 0.08, rng.uniform(0.1, 0.4))
        hand = (rng.uniform(0, 0.3), side * rng.uniform(0.42, 0.6), 2.1 * height)
        solids.append(_solid("cylinder", (0, 0.17 * side, 0.6 * height), (0.11, 0.11, 0.65 * height)))
        solids.append(_solid("box", hand, arm))
    return solids


def _plane(rng: RandomState) -> list[Solid]:
    length, altitude = rng.uniform(0.9, 1.15), rng.uniform(0.45, 0.7)
    wings = (rng.uniform(0.18, 0.28), rng.uniform(0.8, 1.1), 0.05)
    stern, fin = -0.85 * length, rng.uniform(0.2, 0.3)
    return [
        _solid("ellipsoid", (0, 0, altitude), (length, 0.18, 0.18)),
        _solid("box", (rng.uniform(-0.15, 0.2), 0, altitude), wings),
        _solid("box", (stern, 0, altitude + 0.05), (0.12, rng.uniform(0.3, 0.45), 0.04)),
        _solid("box", (stern, 0, altitude + 0.25), (0.13, 0.04, fin)),
    ]


def _wheels(places: tuple[float, ...], track: float, radius: float) -> list[Solid]:
    return [
        _solid("ellipsoid", (x, side * track, radius), (radius, 0.08, radius)) for x in places for side in (-1, 1)
    ]


def _truck(rng: RandomState) -> list[Solid]:
    length, height, width = rng.uniform(0.8, 1.05), rng.uniform(0.3, 0.55), rng.uniform(0.35, 0.45)
    cargo = _solid("box", (-0.2, 0, 0.25 + height), (0.75 * length, width, height))
    cab = _solid("box", (0.8 * length, 0, 0.25 + 0.75 * height), (0.28, 0.38, 0.75 * height))
    return [cargo, cab, *_wheels((-0.6 * length, 0.1 * length, 0.8 * length), track=0.4, radius=0.2)]


def _car(rng: RandomState) -> list[Solid]:
    length, width, depth = rng.uniform(0.8, 1.05), rng.uniform(0.38, 0.46), rng.uniform(0.15, 0.22)
    roof = (rng.uniform(0.45, 0.6), 0.36, rng.uniform(0.22, 0.34))
    body = _solid("box", (0, 0, 0.35), (length, width, depth))
    cabin = _solid("ellipsoid", (rng.uniform(-0.2, 0.05), 0, 0.55), roof)
    return [body, cabin, *_wheels((-0.62 * length, 0.62 * length), track=0.42, radius=0.19)]


_BUILDERS = (_animal, _figure, _plane, _truck, _car)


@cache
def toy(category: int, instance: int) -> tuple[Solid, ...]:
    """The solids of one toy, its front towards +x, standing on the floor."""
    return tuple(_BUILDERS[category](stream(TOY_KEY, category, instance)))


def draw_toy(solids: tuple[Solid, ...], azimuth: float, elevation: float, lamp: int, size: int) -> Pixels:
    """A toy seen from `azimuth` and `elevation` (degrees), lit by one of six lamps: (size, size, 3), grey."""
    around, above = np.radians(azimuth), np.radians(elevation)
    bearing = np.array([np.cos(above) * np.cos(around), np.cos(above) * np.sin(around), np.sin(above)])
    lamp_angle = 2 * np.pi * lamp / LAMPS
    light = unit(np.array([0.6 * np.cos(lamp_angle), 0.6 * np.sin(lamp_angle), 1.0]))
    camera = Camera(TARGET + DISTANCE * bearing, TARGET, FIELD_OF_VIEW)
    canvas = render(solids, camera, Stage(light, np.full(3, 0.5), np.full(3, 0.375)), size * SUPERSAMPLE)
    return to_uint8(shrink(canvas, SUPERSAMPLE))


def _view(rng: RandomState, size: int, instances: range) -> tuple[Pixels, int, int]:
    """A random view of a random toy among `instances`: pixels, azimuth index, elevation index."""
    category, instance = rng.randint(len(CATEGORIES)), instances[rng.randint(len(instances))]
    azimuth, elevation = rng.randint(len(AZIMUTHS)), rng.randint(len(ELEVATIONS))
    lamp = rng.randint(LAMPS)
    pixels = draw_toy(toy(category, instance), AZIMUTHS[azimuth], ELEVATIONS[elevation], lamp, size)
    return pixels, azimuth, elevation


def azimuth(rng: RandomState, size: int, instances: range = SEEN) -> Sample:
    """A toy and the direction of the camera around it, 18 classes of 20 degrees."""
    pixels, label, _ = _view(rng, size, instances)
    return pixels, label


def elevation(rng: RandomState, size: int, instances: range = SEEN) -> Sample:
    """A toy and the height of the camera above it, 9 classes of 5 degrees from 30 degrees."""
    pixels, _, label = _view(rng, size, instances)
    return pixels, label


azimuth_unseen = partial(azimuth, instances=UNSEEN)
elevation_unseen = partial(elevation, instances=UNSEEN)

"""Twelve kinds of surface, after DTD: which pattern is it, in any two colours, turn and scale.

A pattern is a function of plane coordinates u, v (turned, scaled by a random frequency, slightly warped) to a
brightness in [0, 1] that mixes the two colours.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import RandomState

from vitgraft.data.builtin.canvas import SUPERSAMPLE, Sample, develop, turn, uneven_light
from vitgraft.data.drawing import Array, grid, hsv, power_noise, value_noise


@dataclass(frozen=True)
class Plane:
    """Coordinates (P, P): x, y over [-1, 1], warped; u, v turned and with `frequency` periods a unit."""

    x: Array
    y: Array
    u: Array
    v: Array
    frequency: float

    def noise(self, rng: RandomState, exponent: float) -> Array:
        """1/f^exponent noise of the plane's size."""
        return power_noise(rng, len(self.x), exponent)


Pattern = Callable[[RandomState, Plane], Array]


def _wave(phase: Array) -> Array:
    """A sine of period 1."""
    return np.asarray(np.sin(2 * np.pi * phase))


def _fraction(value: Array) -> Array:
    return np.asarray(value - np.floor(value))


def _squashed(value: Array) -> Array:
    return np.asarray(0.5 + 0.5 * np.tanh(value))


def _stripes(rng: RandomState, plane: Plane) -> Array:
    return _squashed(_wave(plane.u) * rng.uniform(1, 6))


def _checks(rng: RandomState, plane: Plane) -> Array:
    return _squashed(_wave(plane.u) * _wave(plane.v) * rng.uniform(2, 9))


def _dots(rng: RandomState, plane: Plane) -> Array:
    distance = np.hypot(_fraction(plane.u) - 0.5, _fraction(plane.v) - 0.5)
    return np.asarray(1 / (1 + np.exp(40 * (distance - rng.uniform(0.2, 0.36)))))


def _lines(rng: RandomState, plane: Plane) -> Array:
    width = rng.uniform(0.08, 0.2)
    return ((_fraction(plane.u) < width) | (_fraction(plane.v) < width)).astype(float)


def _zigzag(rng: RandomState, plane: Plane) -> Array:
    triangle = abs(2 * _fraction(plane.v) - 1)
    return _squashed(4 * _wave(plane.u + 0.5 * rng.uniform(0.7, 1.6) * triangle))


def _waves(rng: RandomState, plane: Plane) -> Array:
    return np.asarray(0.5 + 0.5 * _wave(plane.u + rng.uniform(0.2, 0.45) * _wave(0.6 * plane.v)))


def _two_nearest(rng: RandomState, plane: Plane) -> tuple[Array, Array]:
    """Distances to the nearest and second nearest of random points (Worley 1996), in periods."""
    count = int(6 + 1.1 * plane.frequency**2)
    points = rng.uniform(-1.3, 1.3, (count, 2))
    squared = (plane.x[..., None] - points[:, 0]) ** 2 + (plane.y[..., None] - points[:, 1]) ** 2
    squared.partition(1, axis=-1)
    nearest = np.sqrt(squared[..., :2]) * plane.frequency
    return nearest[..., 0], nearest[..., 1]


def _cells(rng: RandomState, plane: Plane) -> Array:
    return np.asarray(1 - _two_nearest(rng, plane)[0] / 1.6)


def _cracks(rng: RandomState, plane: Plane) -> Array:
    nearest, second = _two_nearest(rng, plane)
    return (second - nearest > rng.uniform(0.12, 0.22)).astype(float)


def _marble(rng: RandomState, plane: Plane) -> Array:
    return np.asarray(0.5 + 0.5 * _wave(0.8 * plane.u + rng.uniform(0.35, 0.8) * plane.noise(rng, 2.6)))


def _wood(rng: RandomState, plane: Plane) -> Array:
    rings = np.hypot(2.2 * plane.u + 2 * rng.randn(), 0.5 * plane.v)
    return np.asarray(0.5 + 0.5 * _wave(1.1 * rings + 0.12 * plane.noise(rng, 2.2)))


def _noise(rng: RandomState, plane: Plane) -> Array:
    return np.asarray(0.5 + 0.25 * plane.noise(rng, rng.uniform(0, 2.4)))


def _weave(rng: RandomState, plane: Plane) -> Array:
    over = (np.floor(plane.u) + np.floor(plane.v)) % 2 == 0
    return np.asarray(0.25 + 0.75 * abs(np.where(over, _wave(plane.u / 2), _wave(plane.v / 2))))


PATTERNS: dict[str, Pattern] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "lines": _lines,
    "zigzag": _zigzag,
    "waves": _waves,
    "cells": _cells,
    "cracks": _cracks,
    "marble": _marble,
    "wood": _wood,
    "noise": _noise,
    "weave": _weave,
}


def _plane(rng: RandomState, side: int) -> Plane:
    x, y = grid(side)
    frequency, angle = 2.2 * 2 ** (1.6 * rng.rand()), 2 * np.pi * rng.rand()
    warp = 0.2 * rng.rand()
    x = x + warp * (value_noise(rng, side, 4) - 0.5)
    y = y + warp * (value_noise(rng, side, 4) - 0.5)
    u, v = turn(frequency * x, frequency * y, angle)
    return Plane(x, y, u + rng.rand(), v + rng.rand(), frequency)


def pattern(rng: RandomState, size: int) -> Sample:
    """A patch of surface and the number of its pattern in `PATTERNS`."""
    label, side = int(rng.randint(len(PATTERNS))), size * SUPERSAMPLE
    plane = _plane(rng, side)
    mix = np.clip(list(PATTERNS.values())[label](rng, plane), 0, 1)[..., None]
    dark = hsv(rng.rand(), 0.7 * rng.rand(), 0.15 + 0.5 * rng.rand())
    light = hsv(rng.rand(), 0.7 * rng.rand(), 0.5 + 0.5 * rng.rand())
    if rng.rand() < 0.5:
        dark, light = light, dark
    canvas = (dark + (light - dark) * mix) * uneven_light(rng, side, 0.2)
    return develop(rng, canvas, grain=0.04, grey_grain=True), label

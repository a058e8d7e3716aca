"""The back of an eye, after diabetic retinopathy photographs: grade it from 0, healthy, to 4, proliferative.

Grades differ in the number of microaneurysms (small dark dots), haemorrhages (large dark dots) and exudates (pale
dots); grade 4 also grows fine new vessels at the optic disc. Half of the eyes are healthy, as in the original.
Coordinates run over [-1, 1]; the retina is a disc of radius 0.95.
"""

from collections.abc import Sequence

import numpy as np
from numpy.random import RandomState
from PIL import ImageDraw

from vitgraft.data.builtin.canvas import (
    SUPERSAMPLE,
    Sample,
    develop,
    from_pillow,
    paint,
    to_pillow,
)
from vitgraft.data.drawing import grid, hsv, power_noise

PREVALENCE = (0.5, 0.14, 0.18, 0.1, 0.08)
# How many of each lesion a grade has: (fewest, most).
MICROANEURYSMS = ((0, 0), (2, 4), (5, 9), (8, 15), (6, 13))
HAEMORRHAGES = ((0, 0), (0, 0), (1, 3), (4, 7), (3, 7))
EXUDATES = ((0, 0), (0, 0), (0, 3), (1, 5), (0, 5))
NEW_VESSELS = 5
PROLIFERATIVE = 4

Point = tuple[float, float]
Colour = tuple[float, float, float]
VESSEL: Colour = (0.62, 0.12, 0.1)
DISC: Colour = (1.15, 0.95, 0.6)
MACULA: Colour = (0.7, 0.25, 0.15)
ANEURYSM: Colour = (0.45, 0.05, 0.05)
BLOOD: Colour = (0.4, 0.04, 0.04)
EXUDATE: Colour = (1.2, 1.05, 0.5)


class _Eye:
    """One picture being drawn; every colour is dimmed by the eye's own `brightness`."""

    def __init__(self, rng: RandomState, side: int) -> None:
        self.rng, self.side = rng, side
        self.radius = np.hypot(*grid(side))
        hue, self.brightness = 0.04 + 0.02 * rng.randn(), rng.uniform(0.55, 0.85)
        glow = self.brightness * (1 - 0.35 * self.radius**2) + 0.03 * power_noise(rng, side, 2)
        self.picture = to_pillow(hsv(hue, 0.75, np.clip(glow, 0, 1)))
        self.pen = ImageDraw.Draw(self.picture)

    def _fill(self, colour: Colour) -> tuple[int, int, int]:
        return paint(self.brightness * np.array(colour))

    def dot(self, centre: Point, radius: float, colour: Colour) -> None:
        """A filled disc."""
        x, y = ((value + 1) / 2 * self.side for value in centre)
        reach = radius / 2 * self.side
        self.pen.ellipse((x - reach, y - reach, x + reach, y + reach), fill=self._fill(colour))

    def vessel(self, start: Point, heading: float, width: float, forks: int) -> None:
        """A wandering line of about 0.84, `width` of the picture wide, that forks into thinner ones."""
        headings = heading + np.cumsum(0.22 * self.rng.randn(7))
        steps = 0.12 * np.stack([np.cos(headings), np.sin(headings)], axis=1)
        points = np.concatenate([[start], start + np.cumsum(steps, axis=0)])
        pixels = ((points + 1) / 2 * self.side).ravel().tolist()
        self.pen.line(pixels, fill=self._fill(VESSEL), width=max(1, int(width * self.side)))
        if forks:
            end = (float(points[-1, 0]), float(points[-1, 1]))
            for bend in (-0.5, 0.5):
                self.vessel(end, float(headings[-1]) + bend, 0.7 * width, forks - 1)

    def lesions(self, count: Sequence[int], radii: tuple[float, float], colour: Colour) -> None:
        """Between count[0] and count[1] dots anywhere on the retina."""
        for _ in range(self.rng.randint(count[0], count[1] + 1)):
            angle, distance = 2 * np.pi * self.rng.rand(), 0.85 * np.sqrt(self.rng.rand())
            centre = (distance * np.cos(angle), distance * np.sin(angle))
            self.dot(centre, self.rng.uniform(*radii), colour)


def grade(rng: RandomState, size: int) -> Sample:
    """A photograph and its grade."""
    label = int(np.searchsorted(np.cumsum(PREVALENCE)[:-1], rng.rand()))
    eye = _Eye(rng, size * SUPERSAMPLE)
    nasal = 0.5 * rng.choice([-1, 1])  # the disc lies to the left in one eye, to the right in the other
    disc = (nasal, 0.1 * rng.randn())
    inwards = 0.0 if nasal < 0 else np.pi
    for heading in (-1.0, 1.0, -2.1, 2.1):
        eye.vessel(disc, inwards + heading + 0.1 * rng.randn(), width=0.04, forks=1)
    eye.dot(disc, 0.14, DISC)
    eye.dot((-0.15 * nasal, 0.0), 0.1, MACULA)
    eye.lesions(MICROANEURYSMS[label], (0.03, 0.03), ANEURYSM)
    eye.lesions(HAEMORRHAGES[label], (0.05, 0.09), BLOOD)
    eye.lesions(EXUDATES[label], (0.03, 0.06), EXUDATE)
    if label == PROLIFERATIVE:
        for _ in range(NEW_VESSELS):
            start = (disc[0] + 0.1 * rng.randn(), disc[1] + 0.1 * rng.randn())
            eye.vessel(start, 2 * np.pi * rng.rand(), width=0.01, forks=0)
    retina = np.where((eye.radius < 0.95)[..., None], from_pillow(eye.picture), 0.02)
    return develop(rng, retina, grain=0.015), label

"""Stained tissue, after PatchCamelyon: does the centre of the patch hold a cluster of atypical nuclei.

Like the original, only the centre counts: three in five patches of either class also have a cluster near their
edge. Atypical nuclei are larger, paler, more uneven in colour and less round than the others.
"""

import numpy as np
from numpy.random import RandomState
from PIL import ImageDraw

from vitgraft.data.builtin.canvas import (
    ELLIPSE,
    SUPERSAMPLE,
    Sample,
    develop,
    from_pillow,
    paint,
    placed,
    to_pillow,
)
from vitgraft.data.drawing import Array, power_noise

EOSIN = np.array([0.93, 0.72, 0.84])  # the pink ground
NORMAL = np.array([0.37, 0.22, 0.53])  # haematoxylin in ordinary nuclei
ATYPICAL = np.array([0.45, 0.27, 0.59])
DECOYS = 0.6  # the share of patches with a cluster off the centre


class _Slide:
    """Nuclei drawn on one patch; `stain` (3,) multiplies every colour of it."""

    def __init__(self, rng: RandomState, side: int) -> None:
        self.rng, self.side = rng, side
        self.stain = rng.uniform(0.85, 1.15, 3)
        fibres = 0.05 * power_noise(rng, side, 2.4)[..., None] * (0.4, 1.0, 0.6)
        self.picture = to_pillow(EOSIN * self.stain + fibres)
        self.pen = ImageDraw.Draw(self.picture)

    def nucleus(self, centre: Array, radius: float, flattening: float, colour: Array) -> None:
        """An ellipse; `centre` (2,) and `radius` in units of the patch's side."""
        half = self.side * radius * np.array([1.0, flattening])
        outline = placed(ELLIPSE, self.side * centre, half, np.pi * self.rng.rand())
        self.pen.polygon(outline, fill=paint(colour))

    def ordinary(self) -> None:
        """One ordinary nucleus anywhere."""
        radius, flattening = 0.03 * self.rng.uniform(0.6, 1.6), self.rng.uniform(0.7, 1)
        colour = NORMAL * self.stain + 0.055 * self.rng.randn(3)
        self.nucleus(self.rng.rand(2), radius, flattening, colour)

    def cluster(self, centre: Array) -> None:
        """Three to six atypical nuclei around `centre` (2,)."""
        for _ in range(self.rng.randint(3, 7)):
            radius, flattening = 0.05 * self.rng.uniform(0.6, 1.3), self.rng.uniform(0.4, 1)
            unevenness = 0.1 * self.rng.randn() + 0.05 * self.rng.randn(3)
            self.nucleus(centre + 0.08 * self.rng.randn(2), radius, flattening, ATYPICAL * self.stain + unevenness)


def patch(rng: RandomState, size: int) -> Sample:
    """A patch of tissue; 1 if a cluster lies in its centre."""
    label = int(rng.randint(2))
    slide = _Slide(rng, size * SUPERSAMPLE)
    for _ in range(rng.randint(10, 90)):
        slide.ordinary()
    if label:
        slide.cluster(0.5 + 0.12 * rng.uniform(-1, 1, 2))
    if rng.rand() < DECOYS:
        angle = 2 * np.pi * rng.rand()
        slide.cluster(0.5 + 0.47 * np.array([np.cos(angle), np.sin(angle)]))
    return develop(rng, from_pillow(slide.picture), grain=0.02), label

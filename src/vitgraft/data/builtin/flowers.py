"""Thirty-two invented species of flower, after Oxford Flowers: fine-grained, told apart by form before colour.

A species fixes the number and form of the petals (the superformula of Gielis 2003), the layers, the size of the
core, the veins and a typical hue. A specimen is turned, tilted, scaled and lit, and its hue strays by a standard
deviation of 0.12 of the colour wheel: with 0.03 the colour alone gives the species away.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.random import RandomState

from vitgraft.data.builtin.canvas import SUPERSAMPLE, Sample, develop, turn, uneven_light
from vitgraft.data.drawing import Array, grid, hsv, stream, value_noise

SPECIES = 32
HUE_JITTER = 0.12
SPECIES_KEY = 5  # the species are part of the task: they are the same for every dataset seed
COLOURS = ("red", "orange", "yellow", "lime", "green", "mint", "cyan", "azure", "blue", "violet", "pink", "rose")


@dataclass(frozen=True)
class Species:
    """`petals` 3..12; `depth` and `roundness`, the superformula's n1 and n2; hues and saturation in [0, 1].

    `core` is the radius of the middle, of the flower's; `layers` is 1 or 2; `vein` is the darkness of the veins.
    """

    petals: int
    depth: float
    roundness: float
    hue: float
    saturation: float
    core_hue: float
    core: float
    layers: int
    vein: float

    def outline(self, direction: Array) -> Array:
        """Radius in (0, 1] of the petals' edge in each direction (radians). With roundness < 2, 1 is reached."""
        quarter = self.petals * direction / 4
        powers = abs(np.cos(quarter)) ** self.roundness + abs(np.sin(quarter)) ** self.roundness
        return np.asarray(powers ** (-1 / self.depth))

    def describe(self) -> str:
        """Such as "double violet, 7 petals, lime core": what the class is called."""
        layers = ("single", "double")[self.layers - 1]
        colour, core = (COLOURS[round(hue * 12) % 12] for hue in (self.hue, self.core_hue))
        return f"{layers} {colour}, {self.petals} petals, {core} core"


@cache
def species(number: int) -> Species:
    """Species 0 to 31."""
    rng = stream(SPECIES_KEY, number)
    return Species(
        petals=int(rng.randint(3, 13)),
        depth=rng.uniform(0.4, 1.2),
        roundness=rng.uniform(0.6, 2),
        hue=rng.rand(),
        saturation=rng.uniform(0.35, 1),
        core_hue=rng.rand(),
        core=rng.uniform(0.12, 0.4),
        layers=int(rng.randint(1, 3)),
        vein=rng.uniform(0, 0.6),
    )


def _meadow(rng: RandomState, side: int) -> Array:
    blades = 0.25 + 0.35 * value_noise(rng, side, 5)
    hue = 0.2 + 0.2 * rng.rand() + 0.1 * (blades - 0.4)
    return hsv(hue, 0.5, blades * (0.6 + 0.6 * rng.rand()))


def _specimen(rng: RandomState, kind: Species, canvas: Array) -> Array:
    """The canvas (P, P, 3) with one more flower of the kind."""
    x, y = grid(len(canvas))
    centre_x, centre_y = rng.uniform(-0.45, 0.45, 2)
    radius, tilt = rng.uniform(0.38, 0.8), rng.uniform(0.6, 1)
    along, across = turn(x - centre_x, y - centre_y, np.pi * rng.rand())
    distance = np.hypot(along, across / tilt) / radius
    direction = np.arctan2(across / tilt, along) + 2 * np.pi * rng.rand()
    hue = kind.hue + HUE_JITTER * rng.randn()
    for layer in range(kind.layers):
        shifted = direction + layer * np.pi / kind.petals  # an inner layer stands in the outer one's gaps
        edge = kind.outline(shifted) * (1 - 0.35 * layer)
        veins = 1 - 0.5 * kind.vein * (np.cos(3 * kind.petals * shifted) > 0.7)
        brightness = np.clip((0.55 + 0.45 * distance / edge) * veins, 0, 1) * (0.55 + 0.45 * rng.rand())
        petals = hsv(hue + 0.06 * layer, kind.saturation * rng.uniform(0.5, 1), brightness)
        canvas = np.where((distance < edge)[..., None], petals, canvas)
    core = hsv(kind.core_hue + HUE_JITTER * rng.randn(), 0.8, 0.5 + 0.4 * rng.rand())
    return np.where((distance < kind.core)[..., None], core, canvas)


def specimen(rng: RandomState, size: int) -> Sample:
    """One or two flowers of a species before a meadow, and the species' number."""
    label, side = int(rng.randint(SPECIES)), size * SUPERSAMPLE
    canvas = _meadow(rng, side)
    for _ in range(rng.randint(1, 3)):
        canvas = _specimen(rng, species(label), canvas)
    return develop(rng, canvas * uneven_light(rng, side, 0.25), grain=0.03), label

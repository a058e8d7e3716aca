"""A digit between other digits, after SVHN: read the one in the middle.

The digits are Pillow's own outline font, slanted and stretched, in two random colours under uneven light.
"""

from functools import cache

import numpy as np
from numpy.random import RandomState
from PIL import Image, ImageDraw, ImageFont

from vitgraft.data.builtin.canvas import SUPERSAMPLE, Sample, develop, from_pillow, uneven_light
from vitgraft.data.drawing import Array, hsv

LEAST_CONTRAST = 0.18  # between the mean grey of ink and ground: below it, people fail too


@cache
def _font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=height)


def _colours(rng: RandomState) -> tuple[Array, Array]:
    """Ground and ink, each (3,), that can be told apart."""
    ground = hsv(rng.rand(), 0.6 * rng.rand(), 0.2 + 0.7 * rng.rand())
    while True:
        ink = hsv(rng.rand(), 0.7 * rng.rand(), rng.rand())
        if abs(ink.mean() - ground.mean()) > LEAST_CONTRAST:
            return ground, ink


def _written(rng: RandomState, label: int, side: int) -> Image.Image:
    """White on black: the digit near the centre and, often, a neighbour cut by each edge."""
    page = Image.new("L", (side, side))
    pen = ImageDraw.Draw(page)
    font = _font(int(side * rng.uniform(0.55, 0.85)))
    x, y = side * (0.5 + 0.06 * rng.randn(2))
    bold = round(rng.randint(3) * side / 64)
    pen.text((x, y), str(label), fill=255, font=font, anchor="mm", stroke_width=bold)
    for direction in (-1, 1):
        if rng.rand() < 0.6:
            step = direction * font.getlength("0") * rng.uniform(0.95, 1.2)
            pen.text((x + step, y), str(rng.randint(10)), fill=255, font=font, anchor="mm")
    return page


def _slanted(rng: RandomState, page: Image.Image) -> Image.Image:
    """The page sheared and stretched about its centre."""
    shear_x, shear_y = 0.18 * rng.randn(2) * (1.0, 0.7)
    stretch_x, stretch_y = 1 + 0.1 * rng.randn(2)
    half = page.width / 2
    first_row = (stretch_x, shear_x, half * (1 - stretch_x - shear_x))
    second_row = (shear_y, stretch_y, half * (1 - stretch_y - shear_y))
    transform = Image.Transform.AFFINE
    return page.transform(page.size, transform, first_row + second_row, Image.Resampling.BILINEAR)


def middle_digit(rng: RandomState, size: int) -> Sample:
    """A house number and its middle digit."""
    label, side = int(rng.randint(10)), size * SUPERSAMPLE
    ground, ink = _colours(rng)
    coverage = from_pillow(_slanted(rng, _written(rng, label, side)))[..., None]
    canvas = (ground + (ink - ground) * coverage) * uneven_light(rng, side, 0.25)
    return develop(rng, np.asarray(canvas), grain=0.05), label

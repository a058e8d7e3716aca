"""The source pictures of the built-in backbone: random figures on random grounds, each with its exact mask.

Two kinds alternate. A *textured* picture holds one to three closed figures (Fourier contours or jagged stars)
filled with noise of one spectrum over noise of another; only the mask and the two spectra are labelled. A
*plain* picture holds one high-contrast figure of a fixed identity, whose outline is jittered anew each time.
Nothing is labelled with orientation, position, count or depth, and there are no glyphs, flowers, textures
with a name, or scenes. The mask itself says where the figure is: it is spatial supervision.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from vitgraft.data.drawing import Array, Pixels, grid, hsv, power_noise, shrink, stream, to_uint8

SIZE = 32
SUPERSAMPLING = 2
CANVAS = SIZE * SUPERSAMPLING
IDENTITIES = 100
SPECTRA = (0.2, 1.2, 2.2, 3.2)  # exponents of the 1/f noise that fills figures and grounds
NO_LABEL = -1
VERSION = 1  # raise it when the pictures change, so that an old cache is not read
_HARMONICS = 7
_SHAPE_STREAM, _PICTURE_STREAM = 71, 72


@dataclass(frozen=True)
class Outline:
    """A closed curve around the origin in polar form; `harmonics` and `phases` are (7,).

    A star has `vertices` > 0: straight sides between alternating radii 1 and `notch`, each radius jittered.
    """

    harmonics: Array
    phases: Array
    lobes: int
    lobe_depth: float
    aspect: float
    hole: float
    vertices: int
    notch: float

    def points(self, rng: np.random.RandomState, jitter: float) -> Array:
        """Points (P, 2) of a jittered copy, radius about 1."""
        if self.vertices:
            angle = np.arange(2 * self.vertices) * np.pi / self.vertices
            radius = np.where(np.arange(2 * self.vertices) % 2, self.notch, 1.0)
            radius = radius * (1 + jitter * rng.randn(2 * self.vertices)) + 0.3 * self.harmonics[0]
        else:
            angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
            harmonics = self.harmonics * (1 + jitter * rng.randn(_HARMONICS))
            phases = self.phases + jitter * rng.randn(_HARMONICS)
            order = np.arange(1, _HARMONICS + 1)[:, None]
            radius = 1 + harmonics @ np.cos(order * angle + phases[:, None])
            radius = radius + self.lobe_depth * np.cos(self.lobes * angle)
        radius = np.maximum(radius, 0.15)
        return np.stack([radius * np.cos(angle), self.aspect * radius * np.sin(angle)], axis=1)


def random_outline(rng: np.random.RandomState) -> Outline:
    """An outline from smooth to jagged; a quarter has a hole, a quarter is a star."""
    order = np.arange(1, _HARMONICS + 1)
    harmonics = rng.standard_normal(_HARMONICS) / order**1.1
    harmonics[0] *= 0.3  # the first harmonic only shifts the figure
    harmonics *= 0.33 * rng.uniform(0.4, 1.1) / np.sqrt((harmonics**2).sum())
    lobes = rng.randint(0, 7)
    return Outline(
        harmonics=harmonics,
        phases=rng.uniform(0, 2 * np.pi, _HARMONICS),
        lobes=lobes,
        lobe_depth=rng.uniform(0, 0.45) * (lobes > 2),
        aspect=rng.uniform(0.45, 1),
        hole=rng.uniform(0.15, 0.35) * (rng.rand() < 0.25),
        vertices=rng.randint(3, 9) * (rng.rand() < 0.25),
        notch=rng.uniform(0.35, 0.9),
    )


@cache
def identity_outline(identity: int) -> Outline:
    """The fixed outline behind a plain figure's label."""
    return random_outline(stream(_SHAPE_STREAM, identity))


def draw_mask(rng: np.random.RandomState, outline: Outline, radius: float, turn: float, jitter: float) -> Array:
    """Coverage (64, 64) in [0, 1] of one figure, placed at random so that most of it is visible."""
    spread = max(0.12, 0.85 - radius)
    centre = rng.uniform(-spread, spread, 2)
    cos, sin = np.cos(turn), np.sin(turn)
    rotation = np.array([[cos, sin], [-sin, cos]])
    points = centre + radius * outline.points(rng, jitter) @ rotation
    canvas = Image.new("L", (CANVAS, CANVAS))
    draw = ImageDraw.Draw(canvas)
    draw.polygon([tuple(p) for p in (points + 1) / 2 * CANVAS], fill=255)
    if outline.hole:
        low, high = ((centre + sign * outline.hole * radius + 1) / 2 * CANVAS for sign in (-1, 1))
        draw.ellipse((*low, *high), fill=0)
    return np.asarray(np.asarray(canvas, dtype=float) / 255)


def noise_fill(rng: np.random.RandomState, spectrum: int) -> Array:
    """A colour field (64, 64, 3): one hue modulated by noise; stretched noise gives a third of them a grain."""
    field = power_noise(rng, CANVAS, SPECTRA[spectrum])
    if rng.rand() < 0.33:
        field = _stretch(field, rng)
    second = power_noise(rng, CANVAS, SPECTRA[spectrum])
    tint = rng.randn(3) * rng.choice([0.03, 0.1])
    colour = hsv(rng.rand(), 0.9 * rng.rand(), 0.25 + 0.6 * rng.rand())
    contrast = rng.uniform(0.08, 0.35)
    return np.clip(colour * (1 + contrast * field)[..., None] + second[..., None] * tint, 0, 1)


def _stretch(field: Array, rng: np.random.RandomState) -> Array:
    """The field enlarged two to five times along a random direction, resampled on a torus."""
    angle, factor = rng.uniform(0, np.pi), rng.uniform(2, 5)
    x, y = grid(CANVAS)
    along = (np.cos(angle) * x + np.sin(angle) * y) / factor
    across = -np.sin(angle) * x + np.cos(angle) * y
    column = ((along * np.cos(angle) - across * np.sin(angle) + 1) / 2 * CANVAS).astype(int) % CANVAS
    row = ((along * np.sin(angle) + across * np.cos(angle) + 1) / 2 * CANVAS).astype(int) % CANVAS
    return np.asarray(field[row, column])


def relief(mask: Array, rng: np.random.RandomState) -> Array:
    """Brightness (64, 64) that makes a flat figure look inflated, or lit from one side, or leaves it flat."""
    style = rng.rand()
    angle = rng.uniform(0, 2 * np.pi)
    if style < 0.35:
        return np.ones_like(mask)
    if style < 0.6:
        x, y = grid(CANVAS)
        return np.asarray(1 + rng.uniform(0.1, 0.5) * (np.cos(angle) * x + np.sin(angle) * y))
    image = Image.fromarray((mask * 255).astype(np.uint8))
    height = np.asarray(image.filter(ImageFilter.GaussianBlur(rng.uniform(2, 6))), dtype=float) / 255
    slope_y, slope_x = np.gradient(height)
    light = slope_x * np.cos(angle) + slope_y * np.sin(angle)
    return np.asarray(1 + rng.uniform(0.3, 0.7) * light / (np.abs(light).max() + 1e-6))


@dataclass(frozen=True)
class Figure:
    """One picture (32, 32, 3), its figures' coverage (32, 32), both 0..255, and its labels or -1."""

    image: Pixels
    mask: Pixels
    identity: int
    spectra: tuple[int, int]


def textured(rng: np.random.RandomState) -> Figure:
    """One to three noise figures over a noise ground, the last on top, with small flat discs as clutter."""
    ground, fill = rng.randint(len(SPECTRA), size=2)
    image, union = noise_fill(rng, ground), np.zeros((CANVAS, CANVAS))
    base = image.mean(axis=(0, 1))
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        colour = noise_fill(rng, fill)
        while np.abs(colour.mean(axis=(0, 1)) - base).max() < 0.12:
            colour = noise_fill(rng, fill)
        radius = np.exp(rng.uniform(np.log(0.16), np.log(0.7)))
        mask = draw_mask(rng, random_outline(rng), radius, rng.uniform(0, 2 * np.pi), jitter=0)
        lit = np.clip(colour * relief(mask, rng)[..., None], 0, 1)
        image = image + (lit - image) * mask[..., None]
        union = np.maximum(union, mask)
    _add_clutter(rng, image, union)
    noisy = shrink(image, SUPERSAMPLING) + 0.02 * rng.standard_normal((SIZE, SIZE, 3))
    return Figure(to_uint8(noisy), to_uint8(shrink(union, SUPERSAMPLING)), NO_LABEL, (int(ground), int(fill)))


def _add_clutter(rng: np.random.RandomState, image: Array, union: Array) -> None:
    """Up to two small discs, which are ground and not figure."""
    x, y = grid(CANVAS)
    for _ in range(rng.randint(3)):
        centre, radius = rng.uniform(-1, 1, 2), rng.uniform(0.05, 0.12)
        disc = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
        image[disc], union[disc] = rng.rand(3), 0


def plain(rng: np.random.RandomState) -> Figure:
    """One high-contrast figure of a known identity; half of the pictures are perfectly flat and grey."""
    identity = rng.randint(IDENTITIES)
    dark = rng.rand() < 0.5
    low = hsv(rng.rand(), 0.7 * rng.rand(), 0.3 * rng.rand())
    high = hsv(rng.rand(), 0.6 * rng.rand(), 0.7 + 0.3 * rng.rand())
    grey = rng.rand() < 0.5
    if grey:
        low, high = (np.full(3, colour.mean()) for colour in (low, high))
    ground, fill = (low, high) if dark else (high, low)
    radius = np.exp(rng.uniform(np.log(0.2), np.log(0.75)))
    mask = draw_mask(rng, identity_outline(identity), radius, 0.3 * rng.randn(), jitter=0.1)
    image = ground + (fill - ground) * mask[..., None]
    if not grey:
        image = image * (1 + 0.15 * power_noise(rng, CANVAS, 2.0)[..., None])
        image = image * np.clip(relief(mask, rng), 0.5, 1.5)[..., None]
    covered = to_uint8(shrink(mask, SUPERSAMPLING))
    return Figure(to_uint8(shrink(image, SUPERSAMPLING)), covered, identity, (NO_LABEL, NO_LABEL))


def render(seed: int, index: int) -> Figure:
    """Picture `index` of the collection `seed`; two in three are textured."""
    rng = stream(_PICTURE_STREAM, seed, index)
    return plain(rng) if index % 3 == 2 else textured(rng)


@dataclass(frozen=True)
class Collection:
    """Pictures (N, 32, 32, 3), masks (N, 32, 32), identities (N,) and spectra (N, 2)."""

    images: Pixels
    masks: Pixels
    identities: NDArray[np.int64]
    spectra: NDArray[np.int64]


def _render_range(seed: int, start: int, stop: int) -> Collection:
    figures = [render(seed, index) for index in range(start, stop)]
    return Collection(
        images=np.stack([figure.image for figure in figures]),
        masks=np.stack([figure.mask for figure in figures]),
        identities=np.array([figure.identity for figure in figures], dtype=np.int64),
        spectra=np.array([figure.spectra for figure in figures], dtype=np.int64),
    )


FIELDS = ("images", "masks", "identities", "spectra")


def load_or_render(folder: Path, count: int, seed: int, workers: int = 2) -> Collection:
    """The collection from its cache file in `folder`, or rendered (about 4 ms a picture) and cached."""
    path = folder / f"figures-v{VERSION}-{seed}-{count}.npz"
    if not path.exists():
        print(f"rendering {count} figures to {path}", flush=True)
        bounds = [*range(0, count, 1000), count]
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(_render_range, [seed] * (len(bounds) - 1), bounds[:-1], bounds[1:]))
        folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial.npz")
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in FIELDS}
        np.savez(partial, **arrays)  # type: ignore[arg-type]
        os.replace(partial, path)
    with np.load(path) as stored:
        return Collection(**{name: stored[name] for name in FIELDS})


def main() -> None:
    parser = argparse.ArgumentParser(description="Render a sheet of source figures, to look at.")
    parser.add_argument("sheet", type=Path, help="PNG file to write")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="write them one by one, too, in folders by their kind")
    options = parser.parse_args()
    part = _render_range(options.seed, 0, 96)
    rows = part.images.reshape(8, 12, SIZE, SIZE, 3).transpose(0, 2, 1, 3, 4).reshape(8 * SIZE, 12 * SIZE, 3)
    masks = part.masks.reshape(8, 12, SIZE, SIZE).transpose(0, 2, 1, 3).reshape(8 * SIZE, 12 * SIZE)
    sheet = np.concatenate([rows, np.repeat(masks[..., None], 3, axis=-1)], axis=1)
    Image.fromarray(sheet).resize((sheet.shape[1] * 2, sheet.shape[0] * 2)).save(options.sheet)
    for index, (image, identity) in enumerate(zip(part.images, part.identities, strict=True)):
        if options.folder is not None:
            place = options.folder / ("textured" if identity == NO_LABEL else "plain")
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{index:03}.png")


if __name__ == "__main__":
    main()

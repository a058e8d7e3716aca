"""A small ray caster: ellipsoids, boxes and upright cylinders on a floor, with shading and soft shadows.

World axes: x to the right, y away, z up, the floor at z = 0. Shapes in docstrings: P is the picture's side in
pixels, (h, w) the part of it that one solid can cover. Visibility is a z-buffer over ray lengths.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vitgraft.data.drawing import Array, grid

AMBIENT, DIFFUSE, SHININESS, SHADOW = 0.35, 0.75, 20, 0.45
NEAREST = 1e-3  # hits closer than this to the eye do not count
_CORNERS = np.array([(x, y, z) for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])


@dataclass(frozen=True)
class Solid:
    """One body: `shape` is "ellipsoid", "box" or "cylinder" (its axis is z).

    `centre` and `half` (half-extents along its own axes) are (3,); `heading` turns it about z, in radians;
    `colour` is (3,) in [0, 1]; `gloss` is the strength of the highlight, 0 for none.
    """

    shape: str
    centre: Array
    half: Array
    heading: float
    colour: Array
    gloss: float = 0.35

    def rotation(self) -> Array:
        """(3, 3): a world vector's coordinates along the solid's own axes."""
        cosine, sine = np.cos(self.heading), np.sin(self.heading)
        return np.array([(cosine, sine, 0.0), (-sine, cosine, 0.0), (0.0, 0.0, 1.0)])


@dataclass(frozen=True)
class Camera:
    """A pinhole at `eye` (3,) that looks at `target` (3,); `angle` is the full field of view in radians."""

    eye: Array
    target: Array
    angle: float

    def axes(self) -> tuple[Array, Array, Array]:
        """Unit vectors (3,) forward, right and up."""
        forward = unit(self.target - self.eye)
        right = unit(np.cross(forward, (0.0, 0.0, 1.0)))
        return forward, right, np.cross(right, forward)

    def rays(self, side: int) -> Array:
        """Unit directions (P, P, 3) through the pixel centres."""
        forward, right, up = self.axes()
        x, y = grid(side)
        spread = np.tan(self.angle / 2)
        return unit(forward + spread * (x[..., None] * right - y[..., None] * up))

    def window(self, points: Array, side: int) -> tuple[slice, slice]:
        """Rows and columns of the P x P picture that hold the hull of `points` (K, 3)."""
        forward, right, up = self.axes()
        offset = points - self.eye
        depth = offset @ forward
        if depth.min() < 0.05:  # a corner beside or behind the eye projects nowhere: try every pixel
            return slice(0, side), slice(0, side)
        scale = depth * np.tan(self.angle / 2)
        columns = (1 + offset @ right / scale) / 2 * side
        rows = (1 - offset @ up / scale) / 2 * side
        return _span(rows, side), _span(columns, side)


@dataclass(frozen=True)
class Stage:
    """What surrounds the solids: `light` (3,) points towards the lamp, `sky` is a colour (3,).

    `floor` is a colour (3,), or a function from floor positions x, y, each (P, P), to colours (P, P, 3).
    """

    light: Array
    floor: Array | Callable[[Array, Array], Array]
    sky: Array


def unit(vectors: Array) -> Array:
    """Vectors (..., 3) scaled to length 1."""
    return np.asarray(vectors / (np.linalg.norm(vectors, axis=-1, keepdims=True) + 1e-9))


def _span(positions: Array, side: int) -> slice:
    first, last = int(np.clip(positions.min(), 0, side)), int(np.clip(np.ceil(positions.max()), 0, side))
    return slice(first, last)


def _quadratic(a: Array, b: Array, c: Array | float) -> Array:
    """The nearer root of a t^2 + 2 b t + c, infinite where there is none or it lies behind the eye."""
    under = b * b - a * c
    root = (-b - np.sqrt(np.maximum(under, 0))) / a
    return np.where((under > 0) & (root > NEAREST), root, np.inf)


def _at(eye: Array, rays: Array, lengths: Array) -> Array:
    """Points (h, w, 3) at finite ray lengths; the eye where the ray hits nothing."""
    return np.asarray(eye + rays * np.where(np.isfinite(lengths), lengths, 0)[..., None])


def _hit_ellipsoid(eye: Array, rays: Array) -> tuple[Array, Array]:
    lengths = _quadratic((rays * rays).sum(-1), rays @ eye, float(eye @ eye) - 1)
    return lengths, _at(eye, rays, lengths)


def _hit_box(eye: Array, rays: Array) -> tuple[Array, Array]:
    inverse = 1 / np.where(abs(rays) < 1e-9, 1e-9, rays)
    low, high = (-1 - eye) * inverse, (1 - eye) * inverse
    entries, exits = np.minimum(low, high), np.maximum(low, high)
    enter = entries.max(-1)
    lengths = np.where((enter < exits.min(-1)) & (enter > NEAREST), enter, np.inf)
    return lengths, np.where(entries == enter[..., None], -np.sign(rays), 0.0)


def _hit_cylinder(eye: Array, rays: Array) -> tuple[Array, Array]:
    flat, flat_eye = rays[..., :2], eye[:2]
    side = _quadratic((flat**2).sum(-1) + 1e-12, flat @ flat_eye, float(flat_eye @ flat_eye) - 1)
    points = _at(eye, rays, side)
    side = np.where(abs(points[..., 2]) <= 1, side, np.inf)
    upright = np.where(abs(rays[..., 2]) < 1e-9, 1e-9, rays[..., 2])
    cap = (np.sign(eye[2]) - eye[2]) / upright
    within = ((flat_eye + flat * cap[..., None]) ** 2).sum(-1) <= 1
    on_cap = (cap > NEAREST) & within & (cap < side)
    normals = np.where(on_cap[..., None], (0.0, 0.0, np.sign(eye[2])), points * (1.0, 1.0, 0.0))
    return np.where(on_cap, cap, side), normals


_HIT = {"ellipsoid": _hit_ellipsoid, "box": _hit_box, "cylinder": _hit_cylinder}


def _hit(solid: Solid, eye: Array, rays: Array) -> tuple[Array, Array]:
    """Ray lengths (h, w), infinite where missed, and unit normals (h, w, 3) in the world.

    Rays move into the solid's own frame, scaled to half-extents of 1. Ray lengths survive that; a normal of
    the scaled solid is divided by the half-extents once more to stand upright on the real one.
    """
    rotation = solid.rotation()
    own_eye = rotation @ (eye - solid.centre) / solid.half
    lengths, normals = _HIT[solid.shape](own_eye, rays @ rotation.T / solid.half)
    return lengths, unit((normals / solid.half) @ rotation)


def _floor(solids: Sequence[Solid], eye: Array, rays: Array, stage: Stage) -> tuple[Array, Array]:
    """The empty stage (P, P, 3) with the solids' shadows, and the ray lengths (P, P) of the floor."""
    down = np.minimum(rays[..., 2], -1e-4)
    lengths = np.where(rays[..., 2] < -1e-4, -eye[2] / down, np.inf)
    reach = np.minimum(lengths, 1e3)
    x, y = eye[0] + rays[..., 0] * reach, eye[1] + rays[..., 1] * reach
    shade = np.clip(1.15 - 0.02 * np.minimum(lengths, 40), 0.6, 1)  # far floor is darker
    for solid in solids:
        foot = solid.centre - stage.light / stage.light[2] * solid.centre[2]
        cosine, sine = np.cos(solid.heading), np.sin(solid.heading)
        along = (cosine * (x - foot[0]) + sine * (y - foot[1])) / (1.1 * solid.half[0])
        across = (cosine * (y - foot[1]) - sine * (x - foot[0])) / (1.1 * solid.half[1])
        shade = shade * (1 - SHADOW * np.exp(-(along**2 + across**2)))
    colour = stage.floor(x, y) if callable(stage.floor) else stage.floor
    return np.where(np.isfinite(lengths)[..., None], colour * shade[..., None], stage.sky), lengths


def render(solids: Sequence[Solid], camera: Camera, stage: Stage, side: int) -> Array:
    """The picture (P, P, 3), P = `side`, about [0, 1] and not clipped."""
    rays = camera.rays(side)
    picture, nearest = _floor(solids, camera.eye, rays, stage)
    half_way = unit(stage.light - camera.axes()[0])  # between lamp and viewer, for the highlight
    for solid in solids:
        corners = (_CORNERS * solid.half) @ solid.rotation() + solid.centre
        window = camera.window(corners, side)
        lengths, normals = _hit(solid, camera.eye, rays[window])
        front = lengths < nearest[window]
        if not front.any():
            continue
        diffuse = AMBIENT + DIFFUSE * np.clip(normals @ stage.light, 0, 1)
        highlight = solid.gloss * np.clip(normals @ half_way, 0, 1) ** SHININESS
        shaded = solid.colour * diffuse[..., None] + highlight[..., None]
        picture[window][front] = shaded[front]
        nearest[window][front] = lengths[front]
    return picture

"""The ray caster: hits lie where geometry says, and what is nearer hides what is farther."""

import numpy as np
import pytest

from vitgraft.data.builtin import raycast

SOLIDS = [
    raycast.Solid(shape, np.array([0.4, 0.2, 0.8]), np.array([0.9, 0.5, 0.7]), 0.6, np.array([0.9, 0.1, 0.1]))
    for shape in ("ellipsoid", "box", "cylinder")
]
CAMERA = raycast.Camera(np.array([0.3, -5.0, 3.0]), np.array([0.0, 0.0, 0.5]), 0.8)
STAGE = raycast.Stage(raycast.unit(np.array([0.5, -0.5, 1.0])), np.full(3, 0.5), np.full(3, 0.4))


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda solid: solid.shape)
def test_raycast__hits_lie_on_the_surface_and_face_the_eye(solid: raycast.Solid) -> None:
    rays = CAMERA.rays(48)
    lengths, normals = raycast._hit(solid, CAMERA.eye, rays)
    hit = np.isfinite(lengths)
    assert 100 < hit.sum() < 1500
    points = CAMERA.eye + rays[hit] * lengths[hit][:, None]
    own = abs((points - solid.centre) @ solid.rotation().T / solid.half)
    radius = {
        "ellipsoid": np.linalg.norm(own, axis=1),
        "box": own.max(axis=1),
        "cylinder": np.maximum(np.hypot(own[:, 0], own[:, 1]), own[:, 2]),
    }[solid.shape]
    np.testing.assert_allclose(radius, 1, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(normals[hit], axis=1), 1, atol=1e-6)
    assert ((normals[hit] * rays[hit]).sum(axis=1) < 1e-6).all()


@pytest.mark.parametrize("solid", SOLIDS, ids=lambda solid: solid.shape)
def test_raycast__windows_cut_nothing_off(solid: raycast.Solid, monkeypatch: pytest.MonkeyPatch) -> None:
    places = [(0.4, 0.2, 0.8), (-1.9, -2.5, 0.8), (0.3, -4.6, 2.4)]  # in the middle, at the edge, around the eye
    places += [(0.3 + 0.013 * step, 0.017 * step, 0.8) for step in range(24)]  # edges at all fractions of a pixel
    for at in places:
        moved = raycast.Solid(solid.shape, np.array(at), solid.half, solid.heading, solid.colour)
        with monkeypatch.context() as patch:
            found = raycast.render([moved], CAMERA, STAGE, 48)
            patch.setattr(raycast.Camera, "window", lambda self, points, side: (slice(None), slice(None)))
            np.testing.assert_array_equal(found, raycast.render([moved], CAMERA, STAGE, 48))


def test_raycast__the_nearer_solid_hides_the_farther_in_either_order() -> None:
    far, near = (
        raycast.Solid("ellipsoid", np.array([0, y, 0.8]), np.full(3, half), 0, np.array(colour), 0)
        for y, half, colour in ((2.0, 0.5, (0.0, 1.0, 0.0)), (-1.0, 0.8, (1.0, 0.0, 0.0)))
    )
    camera = raycast.Camera(np.array([0, -6.0, 0.8]), np.array([0, 0, 0.8]), 0.6)
    one, other = (raycast.render(order, camera, STAGE, 32) for order in ([far, near], [near, far]))
    centre = one[16, 16]
    assert centre[0] > 0.3
    assert centre[1] == 0
    np.testing.assert_allclose(one[12:20, 12:20], other[12:20, 12:20])

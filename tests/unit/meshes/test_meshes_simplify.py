from __future__ import annotations

import numpy as np
import pytest

from cloudbaker.compute.meshes.meshopt import MeshoptError
from cloudbaker.compute.meshes.simplify import SimplifyOptions, simplify


@pytest.mark.parametrize("ratio", [0.5, 0.25, 0.1])
def test_a_surface_gets_as_simple_as_asked(sheet, ratio):
    attributes, faces = sheet
    simple, error = simplify(attributes["POSITION"], faces, ratio=ratio)
    assert 0.8 * ratio * len(faces) <= len(simple) <= ratio * len(faces)
    assert 0 < error < 0.1
    assert set(simple.ravel()) <= set(faces.ravel())


def test_the_error_limit_stops_it(sheet):
    attributes, faces = sheet
    simple, error = simplify(attributes["POSITION"], faces, ratio=0.01, options=SimplifyOptions(max_error=0.005))
    assert error <= 0.005
    assert len(simple) > 0.05 * len(faces)


def test_attributes_count_as_error(sheet):
    """A stripe of colour across a flat sheet: only with the colour in the metric do its edges stay."""
    positions, faces = sheet[0]["POSITION"].copy(), sheet[1]
    positions[:, 1] = 0
    stripe = (np.abs(positions[:, :1]) < 0.2).astype(np.float32)
    plain, _ = simplify(positions, faces, ratio=0.05)
    careful, _ = simplify(positions, faces, ratio=0.05, attributes=stripe, weights=np.ones(1, np.float32))

    def mixed(simple: np.ndarray) -> float:
        """Area of triangles that run from inside the stripe to outside."""
        a, b, c = (positions[simple[:, k]] for k in range(3))
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        return float(area[np.ptp(stripe[simple][..., 0], axis=1) > 0].sum())

    assert mixed(careful) < mixed(plain) / 2


def test_locked_vertices_stay(sheet):
    attributes, faces = sheet
    locked = np.zeros(len(attributes["POSITION"]), bool)
    locked[::7] = True
    simple, _ = simplify(attributes["POSITION"], faces, ratio=0.3, locked=locked)
    assert set(np.flatnonzero(locked)) & set(faces.ravel()) <= set(simple.ravel())


def test_a_locked_border_stays(sheet):
    positions, faces = sheet[0]["POSITION"], sheet[1]
    border = (np.abs(positions[:, [0, 2]]) > 0.4999).any(axis=1)
    simple, _ = simplify(positions, faces, ratio=0.2, options=SimplifyOptions(lock_border=True))
    assert set(np.flatnonzero(border)) <= set(simple.ravel())


def test_no_triangles_are_no_triangles(sheet):
    simple, error = simplify(sheet[0]["POSITION"], np.empty((0, 3), np.uint32), ratio=0.5)
    assert simple.shape == (0, 3)
    assert error == 0


POINTS = np.eye(3, dtype=np.float32)
FACES = np.array([[0, 1, 2]], np.uint32)
ONES = np.ones((3, 1), np.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"indices": FACES + 1}, "out of range"),
        ({"positions": POINTS[:, :2]}, "shape"),
        ({"positions": POINTS + np.nan}, "finite"),
        ({"ratio": 0}, "ratio"),
        ({"ratio": 1.5}, "ratio"),
        ({"ratio": float("nan")}, "ratio"),
        ({"options": SimplifyOptions(max_error=float("nan"))}, "max_error"),
        ({"attributes": ONES[:2], "weights": ONES[0]}, "do not fit"),
        ({"attributes": ONES, "weights": np.ones(2)}, "do not fit"),
        ({"attributes": np.ones((3, 33)), "weights": np.ones(33)}, "at most 32"),
        ({"attributes": ONES, "weights": -ONES[0]}, "negative"),
        ({"attributes": ONES + np.inf, "weights": ONES[0]}, "finite"),
        ({"locked": np.zeros(2, bool)}, "locked"),
    ],
)
def test_bad_arguments_are_refused_before_native_code(arguments, message):
    good = {"positions": POINTS, "indices": FACES, "ratio": 0.5}
    call = good | arguments
    with pytest.raises(MeshoptError, match=message):
        simplify(call.pop("positions"), call.pop("indices"), **call)

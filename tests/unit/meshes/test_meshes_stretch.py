"""Texture coordinates of simplified surfaces."""

from __future__ import annotations

import numpy as np
import pytest

from cloudbaker.compute.meshes.error import Surface
from cloudbaker.compute.meshes.stretch import texcoord_error
from cloudbaker.testing import shapes


def sheet(n: int = 8) -> shapes.Surface:
    return shapes.heightfield(np.zeros((n + 1, n + 1), np.float32))


def error(source: shapes.Surface, other: shapes.Surface, uvs: np.ndarray | None = None) -> float:
    a, b = (Surface(s.positions, s.indices) for s in (source, other))
    return texcoord_error(a, source.uvs, b, other.uvs if uvs is None else uvs)


def test_the_same_surface_in_other_triangles_has_no_error() -> None:
    assert error(sheet(8), sheet(8)) == pytest.approx(0, abs=1e-3)
    assert error(sheet(8), sheet(3)) == pytest.approx(0, abs=0.01)


def test_a_shifted_texture_is_off_by_its_shift() -> None:
    moved = sheet(3)
    assert error(sheet(8), moved, moved.uvs + np.float32((3 / 1024, 4 / 1024))) == pytest.approx(5, rel=1e-3)


def test_stretch_is_a_mean() -> None:
    """u² instead of u: the mean of u − u² over [0, 1] is a sixth."""
    fine = sheet(64)
    bent = fine.uvs.copy()
    bent[:, 0] **= 2
    assert error(fine, fine, bent) == pytest.approx(1024 / 6, rel=0.01)


def test_integers_are_texture_coordinates_too() -> None:
    fine = sheet(4)
    assert error(fine, fine, np.round(fine.uvs * 65535).astype(np.uint16)) < 0.02


def test_vertices_without_a_triangle_don_t_count() -> None:
    fine = sheet(4)
    more = np.concatenate([np.full((5, 3), 9, np.float32), fine.positions])
    source = Surface(more, fine.indices + 5)
    uvs = np.concatenate([np.zeros((5, 2), np.float32), fine.uvs])
    assert texcoord_error(source, uvs, Surface(fine.positions, fine.indices), fine.uvs) == pytest.approx(0, abs=1e-3)


def test_nothing_has_no_error_and_shapes_are_looked_at() -> None:
    fine = sheet(4)
    whole, none = Surface(fine.positions, fine.indices), Surface(fine.positions, fine.indices[:0])
    assert texcoord_error(whole, fine.uvs, none, fine.uvs) == 0
    point = Surface(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    assert texcoord_error(whole, fine.uvs, point, np.zeros((3, 2))) == 0
    with pytest.raises(ValueError, match="shape"):
        texcoord_error(whole, fine.uvs[1:], whole, fine.uvs)

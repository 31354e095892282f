"""Normals of surfaces that have lost theirs."""

from __future__ import annotations

import numpy as np
import pytest

from cloudbaker.compute.meshes.normals import smooth_normals
from cloudbaker.testing import shapes


def test_a_ball_is_smooth_and_its_seam_does_not_show() -> None:
    ball = shapes.sphere(1, 48)
    found = smooth_normals(ball.positions, ball.indices)
    expected = ball.positions[ball.indices]
    assert np.linalg.norm(found, axis=2) == pytest.approx(1, abs=1e-5)
    cosine = np.einsum("tkc,tkc->tk", found, expected)
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() < 2
    corners = {}
    for place, normal in zip(map(tuple, np.round(expected.reshape(-1, 3), 5)), found.reshape(-1, 3), strict=True):
        assert normal == pytest.approx(corners.setdefault(place, normal), abs=1e-4)


def test_a_box_keeps_its_edges() -> None:
    box = shapes.box()
    assert smooth_normals(box.positions, box.indices) == pytest.approx(box.normals[box.indices], abs=1e-6)


def test_a_crease_is_an_angle() -> None:
    box = shapes.box()
    round_ = smooth_normals(box.positions, box.indices, crease_degrees=100)
    assert round_ == pytest.approx(box.positions[box.indices] / np.sqrt(0.75), abs=1e-5)


def test_triangles_without_area_have_a_normal_too() -> None:
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [2, 0, 0], [5, 5, 5]], np.float32)
    found = smooth_normals(positions, np.array([[0, 1, 2], [0, 1, 3], [4, 4, 4]]))
    assert found[0] == pytest.approx(np.tile([0, 0, 1], (3, 1)))
    assert np.isfinite(found).all()
    assert np.linalg.norm(found, axis=2) == pytest.approx(1)


def test_many_corners_in_one_place_are_done_in_pieces(monkeypatch) -> None:
    ball = shapes.sphere(1, 16)
    whole = smooth_normals(ball.positions, ball.indices)
    monkeypatch.setattr("cloudbaker.compute.meshes.normals._PAIRS", 7)
    assert smooth_normals(ball.positions, ball.indices) == pytest.approx(whole, abs=1e-6)

"""How meshes hang together, counted."""

from __future__ import annotations

import numpy as np
import pytest

from cloudbaker.compute.meshes.topology import Topology, merged, parts, topology
from cloudbaker.testing import shapes


def test_a_box_is_closed_although_its_faces_share_no_vertex() -> None:
    box = shapes.box()
    found = topology(box.positions, box.indices)
    assert found == Topology(8, 12, 1, 0, 0, 0, 0, 0)
    assert found.closed


@pytest.mark.parametrize("segments", [3, 8, 32])
def test_a_sphere_is_closed_at_its_seam_and_poles(segments) -> None:
    ball = shapes.sphere(1, segments)
    found = topology(ball.positions, ball.indices)
    assert found.closed
    assert found.vertices - 3 * found.triangles // 2 + found.triangles == 2  # Euler


def test_what_is_wrong_is_counted() -> None:
    box = shapes.box()
    assert topology(box.positions, box.indices[1:]).open_edges == 3
    turned = box.indices.copy()
    turned[4] = turned[4, ::-1]
    assert topology(box.positions, turned).flipped_edges == 3
    twice = np.concatenate([box.indices, np.roll(box.indices[:2], 1, axis=1), box.indices[:1, ::-1]])
    found = topology(box.positions, twice)
    assert found.repeated_triangles == 3
    assert found.branching_edges == 5
    flat = np.concatenate([box.indices, [[0, 0, 1], [2, 2, 2]]])
    found = topology(box.positions, flat)
    assert (found.flat_triangles, found.triangles, found.closed) == (2, 14, True)


def test_a_grid_has_its_border() -> None:
    grid = shapes.heightfield(np.zeros((9, 9), np.float32))
    found = topology(grid.positions, grid.indices)
    assert (found.open_edges, found.components, found.branching_edges) == (32, 1, 0)


def test_parts_are_numbered() -> None:
    balls = shapes.joined([shapes.sphere(1, 8).moved((3 * n, 0, 0)) for n in range(5)])
    assert topology(balls.positions, balls.indices).components == 5
    label = parts(merged(balls.positions, balls.indices)[1])
    assert set(label) == set(range(5))
    assert all(len(set(each)) == 1 for each in np.split(label, 5))


def test_nothing_and_a_point_are_no_surface() -> None:
    assert not topology(np.zeros((3, 3)), np.zeros((0, 3), int)).closed
    found = topology(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    assert (found.flat_triangles, found.components, found.closed) == (1, 0, False)


def test_zero_has_no_sign() -> None:
    places, faces = merged(np.array([[0.0, 0, 0], [-0.0, 0, 0], [1, 0, 0]]), np.array([[0, 1, 2]]))
    assert len(places) == 2
    assert faces[0, 0] == faces[0, 1]

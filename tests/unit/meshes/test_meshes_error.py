from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudbaker.compute.meshes.error import Surface, mesh_error
from cloudbaker.compute.meshes.simplify import simplify
from cloudbaker.testing import shapes


def nearest_by_trying_all(triangles: np.ndarray, point: np.ndarray) -> float:
    """Closest point on a triangle as in Ericson, 5.1.5, one triangle at a time: another way than the module's."""
    best = math.inf
    for a, b, c in triangles:
        ab, ac, ap = b - a, c - a, point - a
        d1, d2 = ab @ ap, ac @ ap
        bp, cp = point - b, point - c
        d3, d4, d5, d6 = ab @ bp, ac @ bp, ab @ cp, ac @ cp
        va, vb, vc = d3 * d6 - d5 * d4, d5 * d2 - d1 * d6, d1 * d4 - d3 * d2
        if d1 <= 0 and d2 <= 0:
            q = a
        elif d3 >= 0 and d4 <= d3:
            q = b
        elif d6 >= 0 and d5 <= d6:
            q = c
        elif vc <= 0 and d1 >= 0 and d3 <= 0:
            q = a + ab * (d1 / (d1 - d3))
        elif vb <= 0 and d2 >= 0 and d6 <= 0:
            q = a + ac * (d2 / (d2 - d6))
        elif va <= 0 and d4 - d3 >= 0 and d5 - d6 >= 0:
            q = b + (c - b) * ((d4 - d3) / ((d4 - d3) + (d5 - d6)))
        else:
            q = a + ab * (vb / (va + vb + vc)) + ac * (vc / (va + vb + vc))
        best = min(best, float(np.linalg.norm(point - q)))
    return best


def soup(triangles) -> Surface:
    return Surface(triangles.reshape(-1, 3), np.arange(3 * len(triangles)).reshape(-1, 3))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 70), st.sampled_from([0.01, 0.3, 3.0]))
def test_the_tree_finds_the_nearest_triangle(seed, count, size):
    rng = np.random.default_rng(seed)
    triangles = rng.normal(size=(count, 1, 3)) + rng.normal(size=(count, 3, 3)) * size
    points = rng.normal(size=(12, 3)) * 2
    expected = [nearest_by_trying_all(triangles, p) for p in points]
    np.testing.assert_allclose(soup(triangles).distances(points), expected, rtol=1e-9, atol=1e-12)


def test_triangles_without_area_are_found_too():
    point = np.array([[0.5, 1.0, 0.0]])
    line = np.array([[[0, 0, 0], [1, 0, 0], [2, 0, 0]]], float)
    spot = np.zeros((1, 3, 3))
    assert soup(line).distances(point)[0] == pytest.approx(1.0)
    assert soup(spot).distances(point)[0] == pytest.approx(math.hypot(0.5, 1.0))


def test_a_mesh_is_no_distance_from_itself(sphere):
    attributes, faces = sphere
    found = mesh_error(attributes["POSITION"], faces, attributes["POSITION"], faces)
    assert found.max_percent < 1e-6


def test_other_triangles_on_the_same_surface_are_no_error():
    """Nearest vertices would be half a cell apart."""
    coarse = shapes.heightfield(np.zeros((3, 3), np.float32))
    fine = shapes.heightfield(np.zeros((65, 65), np.float32))
    found = mesh_error(fine.positions, fine.indices, coarse.positions, coarse.indices)
    assert found.max_percent < 1e-4


@pytest.mark.parametrize("offset", [0.1, 0.001, 0.0001])
def test_a_shifted_sheet_is_exactly_that_far(offset):
    sheet = shapes.heightfield(np.zeros((9, 9), np.float32))
    positions = sheet.positions.astype(np.float64)
    found = mesh_error(positions, sheet.indices, positions + np.array([0, offset, 0]), sheet.indices)
    assert found.mean_percent == pytest.approx(100 * offset / math.sqrt(2), rel=1e-6)
    assert found.max_percent == pytest.approx(100 * offset / math.sqrt(2), rel=1e-6)


def test_concentric_spheres_differ_by_their_radii():
    inner, outer = shapes.sphere(1.0, 96), shapes.sphere(1.01, 96)
    found = mesh_error(inner.positions, inner.indices, outer.positions, outer.indices)
    assert found.mean_percent == pytest.approx(100 * 0.01 / math.sqrt(12), rel=0.01)


def test_a_hole_shows_in_one_direction_only_and_counts():
    sheet = shapes.heightfield(np.zeros((21, 21), np.float32))
    middle = np.abs(sheet.positions[sheet.indices].mean(axis=1)[:, [0, 2]]).max(axis=1) < 0.2
    found = mesh_error(sheet.positions, sheet.indices, sheet.positions, sheet.indices[~middle])
    assert found.max_percent == pytest.approx(100 * 0.2 / math.sqrt(2), rel=0.05)
    bump = mesh_error(sheet.positions, sheet.indices[~middle], sheet.positions, sheet.indices)
    assert bump.max_percent == pytest.approx(found.max_percent)


def test_a_vanished_mesh_is_infinitely_far(sphere):
    attributes, faces = sphere
    found = mesh_error(attributes["POSITION"], faces, attributes["POSITION"], faces[:0])
    assert math.isinf(found.mean_percent)


def test_percentages_can_refer_to_something_larger(sphere):
    attributes, faces = sphere
    simple, _ = simplify(attributes["POSITION"], faces, ratio=0.3)
    own = mesh_error(attributes["POSITION"], faces, attributes["POSITION"], simple)
    part = mesh_error(attributes["POSITION"], faces, attributes["POSITION"], simple, diagonal=2 * math.sqrt(12))
    assert part.mean_percent == pytest.approx(own.mean_percent / 2, rel=1e-3)


def test_units_do_not_matter_and_the_same_meshes_give_the_same_figures(sphere):
    attributes, faces = sphere
    simple, _ = simplify(attributes["POSITION"], faces, ratio=0.3)
    first = mesh_error(attributes["POSITION"], faces, attributes["POSITION"], simple)
    assert mesh_error(attributes["POSITION"], faces, attributes["POSITION"], simple) == first
    scaled = attributes["POSITION"].astype(np.float64) * 1e6 + 1e7
    assert mesh_error(scaled, faces, scaled, simple).mean_percent == pytest.approx(first.mean_percent, rel=1e-6)


def test_few_samples_agree_with_many(sheet):
    """Good to a hundredth of a percent of the diagonal, which is what gates are set in."""
    attributes, faces = sheet
    simple, _ = simplify(attributes["POSITION"], faces, ratio=0.2)
    few = mesh_error(attributes["POSITION"], faces, attributes["POSITION"], simple, samples=5_000)
    many = mesh_error(attributes["POSITION"], faces, attributes["POSITION"], simple, samples=200_000)
    assert few.mean_percent == pytest.approx(many.mean_percent, abs=0.005)
    assert few.max_percent <= many.max_percent * 1.0001


def test_large_and_tiny_triangles_together():
    """A small detailed thing on a large ground plane: what a uniform grid is bad at."""
    ground = shapes.heightfield(np.zeros((2, 2), np.float32), 1000.0)
    thing = shapes.sphere(0.5, 64)
    scene = shapes.joined([ground, thing])
    found = mesh_error(scene.positions, scene.indices, scene.positions, scene.indices)
    assert found.max_percent < 1e-6


def test_a_source_in_one_point_is_measured():
    points, faces = np.zeros((3, 3)), np.array([[0, 1, 2]])
    assert mesh_error(points, faces, points + np.array([3, 0, 4]), faces).mean_percent == pytest.approx(500)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((3, 2)), [[0, 1, 2]], np.zeros((3, 3)), [[0, 1, 2]]), "shape"),
        ((np.zeros((3, 3)), [0, 1, 2], np.zeros((3, 3)), [[0, 1, 2]]), "shape"),
        ((np.zeros((3, 3)), [[0.0, 1.0, 2.0]], np.zeros((3, 3)), [[0, 1, 2]]), "integers"),
        ((np.zeros((3, 3)), [[0, 1, 3]], np.zeros((3, 3)), [[0, 1, 2]]), "source index 3 is out of range"),
        ((np.zeros((3, 3)), [[0, 1, 2]], np.zeros((3, 3)) + np.inf, [[0, 1, 2]]), "finite"),
        ((np.zeros((3, 3)), np.empty((0, 3), int), np.zeros((3, 3)), [[0, 1, 2]]), "no triangles"),
    ],
)
def test_bad_meshes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        mesh_error(*arguments)


@pytest.mark.parametrize(("option", "message"), [({"samples": 0}, "samples"), ({"diagonal": math.nan}, "diagonal")])
def test_bad_options_are_refused(sphere, option, message):
    attributes, faces = sphere
    with pytest.raises(ValueError, match=message):
        mesh_error(attributes["POSITION"], faces, attributes["POSITION"], faces, **option)

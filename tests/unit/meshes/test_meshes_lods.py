from __future__ import annotations

import numpy as np
import pytest

from cloudbaker.compute.meshes.error import mesh_error
from cloudbaker.compute.meshes.lods import LodOptions, shared_vertices, simplify_primitive
from cloudbaker.compute.meshes.meshopt import MeshoptError
from cloudbaker.testing import shapes


def measured(mesh, result) -> float:
    attributes, faces = mesh
    return mesh_error(attributes["POSITION"], faces, result.attributes["POSITION"], result.indices).mean_percent


def assert_sound(result) -> None:
    """All vertices used, all arrays of one length, every triangle with three vertices."""
    count = len(result.attributes["POSITION"])
    assert {len(v) for v in result.attributes.values()} == {count}
    assert set(result.indices.ravel()) == set(range(count))
    assert len(result.source) == count
    assert result.triangles == len(result.indices) > 0
    assert (np.diff(np.sort(result.indices, axis=1), axis=1) > 0).all()


@pytest.mark.parametrize("ratio", [0.5, 0.25])
def test_a_sphere_reaches_its_ratio_within_the_gate(sphere, ratio):
    result = simplify_primitive(*sphere, ratio=ratio, max_error_percent=1.0)
    assert_sound(result)
    assert result.method == "attributes"
    assert 0.9 * ratio <= result.triangles / len(sphere[1]) <= 1.1 * ratio
    assert result.note == ""
    assert 0 < result.error_mean_percent < 1.0
    assert measured(sphere, result) == pytest.approx(result.error_mean_percent, rel=0.1)


def test_vertices_are_selected_never_made(sphere):
    attributes, faces = sphere
    count = len(attributes["POSITION"])
    rng = np.random.default_rng(4)
    attributes = {
        **attributes,
        "JOINTS_0": rng.integers(0, 9, (count, 4)).astype(np.uint8),
        "WEIGHTS_0": rng.random((count, 4)).astype(np.float32),
        "COLOR_0": rng.integers(0, 255, (count, 3)).astype(np.uint16),
        "_CUSTOM/with/slashes": rng.random((count, 1)).astype(np.float32),
    }
    result = simplify_primitive(attributes, faces, ratio=0.5, max_error_percent=2.0)
    assert set(result.attributes) == set(attributes)
    for name, values in attributes.items():
        assert result.attributes[name].dtype == values.dtype
        np.testing.assert_array_equal(result.attributes[name], values[result.source])


def test_morph_targets_follow_and_are_in_the_metric(sheet):
    """A flat sheet with a bump only in its morph target: without the target in the metric the bump is gone."""
    attributes, faces = {k: v.copy() for k, v in sheet[0].items()}, sheet[1]
    attributes["POSITION"][:, 1] = 0
    attributes["NORMAL"][:] = (0, 1, 0)
    distance = np.linalg.norm(attributes["POSITION"][:, [0, 2]], axis=1)
    bump = np.zeros_like(attributes["POSITION"])
    bump[:, 1] = np.maximum(0, 0.25 - distance)
    targets = [{"POSITION": bump, "NORMAL": np.zeros_like(bump)}, {"POSITION": bump * 0}]
    result = simplify_primitive(attributes, faces, ratio=0.1, max_error_percent=1.0, morph_targets=targets)
    assert_sound(result)
    assert [set(t) for t in result.morph_targets] == [{"POSITION", "NORMAL"}, {"POSITION"}]
    np.testing.assert_array_equal(result.morph_targets[0]["POSITION"], bump[result.source])

    def raised(part) -> float:
        moved = part.attributes["POSITION"] + part.morph_targets[0]["POSITION"]
        return mesh_error(attributes["POSITION"] + bump, faces, moved, part.indices).mean_percent

    careless = simplify_primitive(
        attributes,
        faces,
        ratio=0.1,
        max_error_percent=1.0,
        morph_targets=targets,
        options=LodOptions(morph_weight=0),
    )
    assert raised(result) < raised(careless) / 2


def test_a_flat_shaded_mesh_is_simplified_and_stays_flat_shaded(sheet, faceted):
    mesh = faceted(sheet)
    result = simplify_primitive(*mesh, ratio=0.4, max_error_percent=1.0)
    assert_sound(result)
    assert result.method == "flat"
    assert result.triangles <= 0.45 * len(mesh[1])
    a, b, c = (result.attributes["POSITION"][result.indices[:, k]].astype(np.float64) for k in range(3))
    normals = np.cross(b - a, c - a)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    for corner in range(3):
        np.testing.assert_allclose(result.attributes["NORMAL"][result.indices[:, corner]], normals, atol=1e-4)
    # Joined without normals, split again by normals: three corners a triangle at most.
    assert len(result.attributes["POSITION"]) <= 3 * result.triangles


def test_flat_shading_with_tangents_is_left_alone(sheet, faceted):
    attributes, faces = faceted(sheet)
    attributes["TANGENT"] = np.tile(np.array([1, 0, 0, 1], np.float32), (len(attributes["POSITION"]), 1))
    result = simplify_primitive(attributes, faces, ratio=0.4, max_error_percent=1.0)
    assert result.method != "flat"
    assert_sound(result)


def test_the_gate_decides_the_ratio(sheet):
    loose = simplify_primitive(*sheet, ratio=0.02, max_error_percent=5.0)
    tight = simplify_primitive(*sheet, ratio=0.02, max_error_percent=0.05)
    assert_sound(tight)
    assert tight.error_mean_percent <= 0.05
    assert loose.triangles < tight.triangles < len(sheet[1])
    assert "error gate" in tight.note


def test_a_gate_that_nothing_passes_keeps_the_mesh(sphere):
    result = simplify_primitive(*sphere, ratio=0.5, max_error_percent=1e-7)
    assert result.method == "kept"
    assert result.triangles == len(sphere[1])
    assert result.error_max_percent == 0
    assert_sound(result)


def test_a_box_keeps_its_corners():
    surface = shapes.box()
    result = simplify_primitive(
        {"POSITION": surface.positions, "NORMAL": surface.normals}, surface.indices, ratio=0.25, max_error_percent=50
    )
    assert (result.method, result.triangles) == ("kept", 12)
    assert "too few" in result.note


@pytest.mark.parametrize("ratio", [0.9, 0.1, 0.001])
def test_no_mesh_vanishes(ratio):
    """Many separate little parts: each could go, and all together would be the whole mesh."""
    parts = shapes.joined([shapes.box(0.01).moved((x, y, 0)) for x in range(8) for y in range(8)])
    result = simplify_primitive({"POSITION": parts.positions}, parts.indices, ratio=ratio, max_error_percent=2.0)
    assert_sound(result)
    left = result.attributes["POSITION"]
    nearest = np.linalg.norm(parts.positions[:, None] - left[None], axis=2).min(axis=1)
    # Some of the little parts may go, but what is reported says how far the farthest of them was from what is left.
    assert (
        nearest.max() <= result.error_max_percent / 100 * np.linalg.norm(np.ptp(parts.positions, axis=0)) * 1.05 + 0.02
    )
    assert result.error_mean_percent <= 2.0


def test_a_seam_between_textures_stays_closed(sphere):
    """The sphere's texture seam: vertices in one place with different coordinates must stay in one place."""
    result = simplify_primitive(*sphere, ratio=0.3, max_error_percent=2.0)
    positions = np.round(result.attributes["POSITION"].astype(np.float64), 6)
    place = np.unique(positions, axis=0, return_inverse=True)[1].ravel()[result.indices]
    edges = np.sort(np.concatenate([place[:, [0, 1]], place[:, [1, 2]], place[:, [2, 0]]]), axis=1)
    counts = np.unique(edges, axis=0, return_counts=True)[1]
    assert (counts == 2).all()


def test_shared_vertices_keep_two_materials_together(sheet):
    attributes, faces = sheet
    left = attributes["POSITION"][faces].mean(axis=1)[:, 0] < 0
    halves = []
    for part in (faces[left], faces[~left]):
        used, numbered = np.unique(part, return_inverse=True)
        halves.append(({k: v[used] for k, v in attributes.items()}, numbered.reshape(-1, 3).astype(np.uint32)))
    shared = shared_vertices([h[0]["POSITION"] for h in halves])
    border = [set(map(tuple, h[0]["POSITION"][s].tolist())) for h, s in zip(halves, shared, strict=True)]
    assert border[0] == border[1]
    assert len(border[0]) == 33
    for half, lock, expected in zip(halves, shared, border, strict=True):
        result = simplify_primitive(*half, ratio=0.2, max_error_percent=3.0, locked=lock)
        assert "/locked" not in result.attributes
        assert expected <= set(map(tuple, result.attributes["POSITION"].tolist()))


def test_one_primitive_shares_nothing(sphere):
    (alone,) = shared_vertices([sphere[0]["POSITION"]])
    assert not alone.any()


def test_unused_and_repeated_vertices_are_gone(sphere):
    attributes, faces = sphere
    count = len(attributes["POSITION"])
    twice = {k: np.concatenate([v, v, v]) for k, v in attributes.items()}
    result = simplify_primitive(twice, faces + count, ratio=0.999, max_error_percent=1e-7)
    assert_sound(result)
    assert len(result.attributes["POSITION"]) <= count


def test_triangles_that_show_nothing_are_dropped_unless_something_may_open_them(sphere):
    attributes, faces = {k: np.concatenate([v, v[:1]]) for k, v in sphere[0].items()}, sphere[1]
    attributes["TEXCOORD_0"][-1] = 9  # the same place, another vertex
    last = len(attributes["POSITION"]) - 1
    bad = np.concatenate([faces, np.zeros((50, 3), np.uint32), [[0, last, 70]]]).astype(np.uint32)
    kept = {"ratio": 0.9999, "max_error_percent": 1e-9}
    assert simplify_primitive(attributes, bad, **kept).triangles == len(faces)
    joints = np.zeros((last + 1, 4), np.uint8)
    joints[-1] = 1
    assert simplify_primitive({**attributes, "JOINTS_0": joints}, bad, **kept).triangles == len(faces) + 1
    move = np.zeros((last + 1, 3), np.float32)
    move[-1] = 1
    opened = simplify_primitive(attributes, bad, morph_targets=[{"POSITION": move}], **kept)
    assert opened.triangles == len(faces) + 1


def test_a_mesh_in_one_point_is_kept():
    attributes = {"POSITION": np.zeros((120, 3), np.float32), "_ID": np.arange(120, dtype=np.uint32)[:, None]}
    faces = np.arange(120, dtype=np.uint32).reshape(-1, 3)
    result = simplify_primitive(attributes, faces, ratio=0.5, max_error_percent=1.0)
    assert result.triangles == 40


def test_the_same_mesh_gives_the_same_level(sphere):
    first = simplify_primitive(*sphere, ratio=0.3, max_error_percent=1.0)
    again = simplify_primitive(*sphere, ratio=0.3, max_error_percent=1.0)
    np.testing.assert_array_equal(first.indices, again.indices)
    np.testing.assert_array_equal(first.source, again.source)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"attributes": {"NORMAL": np.zeros((3, 3))}}, "without POSITION"),
        ({"attributes": {"POSITION": np.zeros((3, 3)), "NORMAL": np.zeros((2, 3))}}, "NORMAL must have shape"),
        ({"attributes": {"POSITION": np.zeros((3, 3)), "/0/POSITION": np.zeros((3, 3))}}, "can't begin"),
        ({"indices": np.array([[0, 1, 3]])}, "out of range"),
        ({"ratio": 0.0}, "ratio"),
        ({"morph_targets": [{"POSITION": np.zeros((4, 3))}]}, "POSITION must have shape"),
        ({"locked": np.zeros(4, bool)}, "locked must have shape"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    good = {
        "attributes": {"POSITION": np.eye(3, dtype=np.float32)},
        "indices": np.array([[0, 1, 2]]),
        "ratio": 0.5,
        "max_error_percent": 1.0,
    }
    call = good | change
    with pytest.raises(MeshoptError, match=message):
        simplify_primitive(call.pop("attributes"), call.pop("indices"), **call)

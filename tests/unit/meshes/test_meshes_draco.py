from __future__ import annotations

import dataclasses

import DracoPy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudbaker.compute.meshes import draco
from cloudbaker.compute.meshes.draco import DracoError, DracoOptions
from cloudbaker.compute.meshes.meshopt import weld
from cloudbaker.testing import shapes


def winding(triangles: np.ndarray) -> list[tuple[int, ...]]:
    return sorted(min((a, b, c), (b, c, a), (c, a, b)) for a, b, c in triangles.tolist())


def quantized(positions: np.ndarray, bits: int) -> float:
    """Half the diagonal of a quantization cell: how far Draco may move a vertex."""
    return float(np.ptp(positions, axis=0).max()) / ((1 << bits) - 1) / 2 * np.sqrt(3) * 1.01 + 1e-7


# -------------------------------------------------------------------------------------------------------- round trips


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_what_is_decoded_is_within_the_bound_of_what_was_encoded(data):
    bits = data.draw(st.integers(8, 20))
    seed = data.draw(st.integers(0, 2**32 - 1))
    count = data.draw(st.integers(3, 60))
    rng = np.random.default_rng(seed)
    positions = (rng.normal(size=(count, 3)) * data.draw(st.sampled_from([1e-3, 1.0, 1e4]))).astype(np.float32)
    faces = rng.integers(0, count, (data.draw(st.integers(1, 80)), 3)).astype(np.uint32)  # soup, non-manifold
    faces[0] = (0, 1, 2)
    done = draco.encode({"POSITION": positions}, faces, DracoOptions(position_bits=bits), keep_source=True)
    moved = np.linalg.norm(done.attributes["POSITION"] - positions[done.source], axis=1)
    assert moved.max() <= quantized(positions, bits)
    diagonal = np.linalg.norm(np.ptp(positions[np.unique(faces)], axis=0))
    assert moved.max() * 100 / diagonal <= done.position_error_percent * 1.01 + 1e-6
    distinct = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])]
    assert len(done.indices) == len(distinct)
    assert done.dropped_triangles == len(faces) - len(distinct)

    same_place = np.unique(positions, axis=0, return_inverse=True)[1].ravel()
    assert winding(same_place[done.source[done.indices]]) == winding(same_place[distinct])


def test_a_whole_primitive_comes_back_with_every_attribute_measured(sphere):
    attributes, faces = dict(sphere[0]), sphere[1]
    count = len(attributes["POSITION"])
    rng = np.random.default_rng(0)
    attributes |= {
        "TEXCOORD_1": rng.random((count, 2)).astype(np.float32),
        "TEXCOORD_2": (rng.random((count, 2)) * 9 - 4).astype(np.float32),
        "COLOR_0": rng.integers(0, 256, (count, 4)).astype(np.uint8),
        "COLOR_1": rng.random((count, 3)).astype(np.float32),
        "JOINTS_0": rng.integers(0, 300, (count, 4)).astype(np.uint16),
        "WEIGHTS_0": rng.random((count, 4)).astype(np.float32),
        "_HEAT": rng.random((count, 1)).astype(np.float32),
        "_ID": np.arange(count, dtype=np.uint32)[:, None],
    }
    done = draco.encode(attributes, faces)
    assert set(done.attributes) == set(done.attribute_ids) == set(attributes)
    assert len(set(done.attribute_ids.values())) == len(attributes)
    kinds = {name: values.dtype.name for name, values in done.attributes.items()}
    assert kinds == {
        "POSITION": "float32",
        "NORMAL": "float32",
        "TEXCOORD_0": "float32",
        "TEXCOORD_1": "uint16",
        "TEXCOORD_2": "float32",
        "COLOR_0": "uint8",
        "COLOR_1": "uint8",
        "JOINTS_0": "uint16",
        "WEIGHTS_0": "uint8",
        "_HEAT": "float32",
        "_ID": "uint32",
    }
    source = done.attributes["_ID"][:, 0]  # exact, so it tells which vertex is which
    for exact in ("TEXCOORD_2", "COLOR_0", "JOINTS_0", "_HEAT"):
        np.testing.assert_array_equal(done.attributes[exact], attributes[exact][source])
    assert (done.attributes["WEIGHTS_0"].sum(axis=1, dtype=int) == 255).all()
    np.testing.assert_allclose(
        done.attributes["TEXCOORD_1"] / 65535, attributes["TEXCOORD_1"][source], atol=0.51 / 4096
    )
    np.testing.assert_allclose(done.attributes["TEXCOORD_0"], attributes["TEXCOORD_0"][source], atol=1 / 4095)
    cosine = np.einsum("ij,ij->i", done.attributes["NORMAL"], attributes["NORMAL"][source])
    assert np.degrees(np.arccos(np.clip(cosine, -1, 1))).max() == pytest.approx(done.errors["NORMAL"], abs=0.02)
    assert done.errors["NORMAL"] < 0.3
    assert 0 < done.position_error_percent < 0.01
    assert done.vertex_count == len(source)
    assert done.index_count == done.indices.size == faces.size


def test_the_payload_alone_gives_the_same(sphere):
    done = draco.encode(*sphere)
    again = draco.decode(memoryview(done.data), attribute_ids=done.attribute_ids)
    np.testing.assert_array_equal(again.indices, done.indices)
    for name, values in done.attributes.items():
        np.testing.assert_array_equal(again.attributes[name], values)
    by_id = draco.decode(done.data)
    assert sorted(by_id.attributes) == sorted(done.attribute_ids.values())


def test_the_same_mesh_gives_the_same_bytes(sphere):
    assert draco.encode(*sphere).data == draco.encode(*sphere).data


def test_it_is_worth_it(sphere):
    attributes, faces = sphere
    plain = sum(v.nbytes for v in attributes.values()) + faces.size * 2
    assert len(draco.encode(attributes, faces).data) < plain / 8


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_more_bits_are_more_exact(sphere, bits):
    done = draco.encode(*sphere, DracoOptions(position_bits=bits, color_bits=bits))
    assert done.errors["POSITION"] <= quantized(sphere[0]["POSITION"], bits)


def test_colours_of_more_than_eight_bits_become_sixteen(sphere):
    attributes = {**sphere[0], "COLOR_0": np.abs(sphere[0]["NORMAL"])}
    done = draco.encode(attributes, sphere[1], DracoOptions(color_bits=12))
    assert done.attributes["COLOR_0"].dtype == np.uint16


# ------------------------------------------------------------------------------------------- data that stays outside


def test_tangents_follow_their_vertices(sphere):
    attributes, faces = sphere
    tangents = np.random.default_rng(1).normal(size=(len(attributes["POSITION"]), 4)).astype(np.float32)
    done = draco.encode(attributes, faces, keep_source=True)
    np.testing.assert_allclose(attributes["POSITION"][done.source], done.attributes["POSITION"], atol=2e-4)
    np.testing.assert_allclose(attributes["TEXCOORD_0"][done.source], done.attributes["TEXCOORD_0"], atol=2e-4)
    assert tangents[done.source].shape == (done.vertex_count, 4)
    assert draco.read_header(done.data).method == "edgebreaker"


def test_vertices_that_differ_only_outside_keep_apart(sphere):
    """Two vertices equal to Draco may have different morph targets."""
    attributes, faces = sphere
    twice = {k: np.concatenate([v, v]) for k, v in attributes.items()}
    both = np.concatenate([faces, faces + len(attributes["POSITION"])]).astype(np.uint32)
    done = draco.encode(twice, both, keep_source=True)
    assert winding(done.source[done.indices]) == winding(both)


def test_where_order_cannot_be_traced_it_is_kept(sphere):
    """A soup of equal corners: which of them Draco joined with which can't be told."""
    attributes, faces = sphere
    soup = {k: v[faces.ravel()] for k, v in attributes.items()}
    corners = np.arange(faces.size, dtype=np.uint32).reshape(-1, 3)
    done = draco.encode(soup, corners, keep_source=True)
    assert draco.read_header(done.data).method == "sequential"
    assert winding(done.source[done.indices]) == winding(corners)
    assert draco.read_header(draco.encode(soup, corners).data).method == "edgebreaker"


def test_without_anything_outside_equal_vertices_are_joined(sphere):
    attributes, faces = sphere
    twice = {k: np.concatenate([v, v]) for k, v in attributes.items()}
    both = np.concatenate([faces, faces + len(attributes["POSITION"])]).astype(np.uint32)
    assert len(draco.encode(twice, faces).data) == len(draco.encode(attributes, faces).data)
    assert draco.encode(twice, both).source is None


def test_triangles_without_area_go_unless_something_may_open_them():
    surface = shapes.sphere(segments=8)
    positions = np.concatenate([surface.positions, surface.positions[:1]])
    flat = np.array([[0, len(positions) - 1, 20]], np.uint32)
    faces = np.concatenate([surface.indices, flat])
    attributes = {"POSITION": positions, "_ID": np.arange(len(positions), dtype=np.uint32)[:, None]}
    gone = draco.encode(attributes, faces)
    assert (gone.dropped_triangles, len(gone.indices)) == (1, len(faces) - 1)
    kept = draco.encode(attributes, faces, keep_source=True, keep_flat=True)
    assert (kept.dropped_triangles, len(kept.indices)) == (0, len(faces))
    skinned = {**attributes, "JOINTS_0": np.zeros((len(positions), 4), np.uint8)}
    assert draco.encode(skinned, faces).dropped_triangles == 0


def test_non_manifold_soup_is_traced(sphere):
    """Three triangles on each edge: Draco splits vertices, and differently with one attribute more."""
    rng = np.random.default_rng(11)
    for size in range(6, 40, 3):
        positions = rng.random((size, 3)).astype(np.float32)
        faces = rng.integers(0, size, (size * 3, 3)).astype(np.uint32)
        joined = weld({"POSITION": positions}, faces)
        done = draco.encode(joined.streams, joined.indices, keep_source=True)
        np.testing.assert_allclose(joined.streams["POSITION"][done.source], done.attributes["POSITION"], atol=1e-4)


# ----------------------------------------------------------------------------------------------------------- refusals


def test_an_outlier_that_would_flatten_the_rest_is_refused(sphere):
    attributes, faces = {k: v.copy() for k, v in sphere[0].items()}, sphere[1]
    attributes["POSITION"][faces[0, 0]] = 1e30
    with pytest.raises(DracoError, match="very far away"):
        draco.encode(attributes, faces)


TRIANGLE = np.array([[0, 1, 2]], np.uint32)
POINTS = np.eye(3, dtype=np.float32)


@pytest.mark.parametrize(
    ("attributes", "faces", "message"),
    [
        ({}, TRIANGLE, "without POSITION"),
        ({"POSITION": POINTS[:, :2]}, TRIANGLE, "shape"),
        ({"POSITION": POINTS}, TRIANGLE + 1, "out of range"),
        ({"POSITION": POINTS}, TRIANGLE[:, :2], "multiple of 3"),
        ({"POSITION": POINTS}, np.empty((0, 3), np.uint32), "nothing is left"),
        ({"POSITION": POINTS}, np.zeros((4, 3), np.uint32), "nothing is left"),
        ({"POSITION": POINTS * 0}, TRIANGLE, "nothing is left"),
        ({"POSITION": POINTS + np.inf}, TRIANGLE, "finite"),
        ({"POSITION": POINTS, "NORMAL": POINTS * np.nan}, TRIANGLE, "finite"),
        ({"POSITION": POINTS, "NORMAL": POINTS[:2]}, TRIANGLE, "shape"),
        ({"POSITION": POINTS, "NORMAL": POINTS[:, :2]}, TRIANGLE, "3 components"),
        ({"POSITION": POINTS, "TANGENT": np.ones((3, 4))}, TRIANGLE, "outside Draco"),
        ({"POSITION": POINTS, "JOINTS_0": np.ones((3, 4))}, TRIANGLE, "unsigned"),
        ({"POSITION": POINTS, "_LEVEL": np.ones((3, 1), np.int16)}, TRIANGLE, "unsigned integers only"),
    ],
)
def test_what_cannot_be_encoded_is_refused(attributes, faces, message):
    with pytest.raises(DracoError, match=message):
        draco.encode(attributes, faces)


def test_too_many_attributes_for_eight_bit_ids():
    attributes = {"POSITION": POINTS} | {f"_A{i}": np.ones((3, 1), np.uint8) for i in range(101)}
    with pytest.raises(DracoError, match="too many"):
        draco.encode(attributes, TRIANGLE)


@pytest.mark.parametrize(
    "bad", [{"position_bits": 1}, {"normal_bits": 31}, {"texcoord_bits": 0}, {"color_bits": 17}, {"level": 11}]
)
def test_options_out_of_range_are_refused(bad):
    with pytest.raises(DracoError, match=next(iter(bad))):
        DracoOptions(**bad)
    assert dataclasses.is_dataclass(DracoOptions())


# ----------------------------------------------------------------------------------------------------------- decoding


def test_the_header_is_read_without_decoding(sphere):
    done = draco.encode(*sphere)
    header = draco.read_header(done.data)
    assert (header.geometry, header.method, header.version) == ("mesh", "edgebreaker", (2, 2))
    assert header.triangles == len(sphere[1])
    kept = DracoPy.encode(sphere[0]["POSITION"], sphere[1], preserve_order=True)
    header = draco.read_header(kept)
    assert (header.method, header.triangles, header.vertices) == (
        "sequential",
        len(sphere[1]),
        len(sphere[0]["POSITION"]),
    )


def test_limits_hold_before_decoding(sphere):
    data = draco.encode(*sphere).data
    with pytest.raises(DracoError, match="triangles: the limit is 10"):
        draco.decode(data, max_triangles=10)
    with pytest.raises(DracoError, match="vertices: the limit is 10"):
        draco.decode(data, max_vertices=10)
    assert draco.decode(data, max_triangles=10_000, max_vertices=10_000).vertex_count > 0


def test_point_clouds_are_refused():
    with pytest.raises(DracoError, match="point cloud"):
        draco.decode(DracoPy.encode(POINTS))


def test_missing_attributes_are_named(sphere):
    done = draco.encode(*sphere)
    with pytest.raises(DracoError, match="lacks COLOR_0, which"):
        draco.decode(done.data, attribute_ids={**done.attribute_ids, "COLOR_0": 77})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not Draco"),
        (b"glTF" + bytes(20), "not Draco"),
        (b"DRACO", "not Draco"),
        (b"DRACO\x09\x09\x01\x01" + bytes(20), "not known"),
        (b"DRACO\x02\x02\x01\x01\x00\x00\x00\xff\xff\xff\xff\xff\xff", "cut off"),
        (b"DRACO\x02\x02\x01\x01\x00\x00" + bytes(30), "damaged|no"),
    ],
)
def test_what_is_not_draco_is_refused(data, message):
    with pytest.raises(DracoError, match=message):
        draco.decode(data)


def test_a_truncated_payload_is_refused_at_every_length(sphere):
    data = draco.encode(*sphere).data
    for length in range(0, len(data) - 1, max(1, len(data) // 60)):
        with pytest.raises(DracoError):
            draco.decode(data[:length])

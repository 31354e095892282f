"""Draco and meshopt over whole documents: what comes out of a decoder is what went in, within the promised bits."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudbaker.compute.gltf.compress_draco import compress_draco
from cloudbaker.compute.gltf.compress_meshopt import _exponential, compress_meshopt, compress_rest, ordered
from cloudbaker.compute.gltf.decompress import decode, decompress, dequantize
from cloudbaker.compute.gltf.document import ARRAY_BUFFER, Document
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.compute.gltf.measure import measure
from cloudbaker.compute.gltf.pack import pack
from cloudbaker.compute.gltf.primitives import Geometry, read, shapes, write
from cloudbaker.compute.gltf.prune import prune, reserve
from cloudbaker.testing import models

VALID = sorted(models.VALID)


def compress_both(document: Document) -> None:
    compress_draco(document)
    compress_rest(document)


CODECS = {"draco": compress_draco, "meshopt": compress_meshopt, "both": compress_both}
LIMIT = 100 * 2.0**-13
"""Twice the half step of 14 bits, in %: no direction of a box is longer than its diagonal."""


def rich(segments: int = 24) -> bytes:
    """A sphere with everything that a vertex can have: tangents, two sets of UVs, colours, custom attributes."""
    document = Document.from_glb(models.sphere(segments))
    primitive = document.json["meshes"][0]["primitives"][0]
    count = len(document.accessor(primitive["attributes"]["POSITION"]))
    rng = np.random.default_rng(7)
    normals = document.accessor(primitive["attributes"]["NORMAL"])
    tangents = np.cross(normals, [0.3, 1.0, 0.2])
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    signs = np.where(rng.random((count, 1)) < 0.5, -1, 1)
    extra = {
        "TANGENT": (np.concatenate([tangents, signs], axis=1).astype(np.float32), False),
        "TEXCOORD_1": ((rng.random((count, 2)) * 3 - 1).astype(np.float32), False),
        "COLOR_0": (rng.integers(0, 256, (count, 3), np.uint8), True),
        "_FEATURE_ID_0": (np.arange(count, dtype=np.float32)[:, None], False),
        "_LEVEL": (rng.integers(0, 60000, (count, 1), np.uint16), False),
    }
    for name, (data, normalized) in extra.items():
        primitive["attributes"][name] = document.add_accessor(data, normalized=normalized, target=ARRAY_BUFFER)
    return document.to_glb()


def plain(data: bytes) -> Document:
    document = Document.from_glb(data)
    decode(document)
    dequantize(document)
    return document


def compressed(data: bytes, codec: str) -> bytes:
    document = plain(data)
    reserved = reserve(document)
    CODECS[codec](document)
    prune(document, reserved)
    pack(document)
    prune(document, reserved)
    return document.to_glb()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("name", VALID)
def test_geometry_stays_within_its_bits_and_nothing_is_lost(name, codec):
    data = models.VALID[name]()
    out = compressed(data, codec)
    measured = measure(plain(data), plain(out))
    assert measured.rest_max_percent <= LIMIT
    assert measured.error_max_percent <= 16 * LIMIT  # in poses, with weights of 8 bits
    losses = [loss for loss in compare(Document.from_glb(data), Document.from_glb(out)) if loss.place != "/bufferViews"]
    assert losses == []


def test_tangents_beside_draco_are_packed_and_stay_true():
    out, packed = Document.from_glb(compressed(rich(96), "draco")), Document.from_glb(compressed(rich(96), "both"))
    assert len(packed.to_glb()) < len(out.to_glb()) - 8 * 96 * 48 // 2  # half of what the tangents took
    decode(out)
    decode(packed)
    primitives = [d.json["meshes"][0]["primitives"][0]["attributes"] for d in (out, packed)]
    before, after = (
        d.accessor(p["TANGENT"], dequantize=True).astype(np.float64)
        for d, p in zip((out, packed), primitives, strict=True)
    )
    assert np.array_equal(before[:, 3], after[:, 3])
    length = np.linalg.norm(before[:, :3], axis=1) * np.linalg.norm(after[:, :3], axis=1)
    cosine = np.einsum("ij,ij->i", before[:, :3], after[:, :3]) / length
    assert np.degrees(np.arccos(np.minimum(cosine, 1))).max() < 0.25


@pytest.mark.parametrize("codec", CODECS)
def test_outputs_pass_the_official_validator_packed_and_unpacked(khronos, codec):
    outputs = [compressed(data, codec) for data in (*(models.VALID[name]() for name in VALID), rich())]
    assert khronos([*outputs, *map(decompress, outputs)]) == []


@pytest.mark.parametrize("codec", CODECS)
def test_every_attribute_of_every_vertex_comes_back(codec):
    data = rich()
    before, after = plain(data), plain(compressed(data, codec))
    old = read(before, before.json["meshes"][0]["primitives"][0]).attributes
    new = read(after, after.json["meshes"][0]["primitives"][0]).attributes
    assert list(new) == list(old)
    assert len(new["POSITION"]) == len(old["POSITION"])
    # Vertices come in another order: the feature id, kept exactly, says which is which.
    source = np.searchsorted(old["_FEATURE_ID_0"][:, 0], new["_FEATURE_ID_0"][:, 0])
    assert sorted(source) == list(range(len(source)))
    np.testing.assert_array_equal(new["_FEATURE_ID_0"], old["_FEATURE_ID_0"][source])
    np.testing.assert_array_equal(new["_LEVEL"], old["_LEVEL"][source])
    bounds = {"POSITION": 2.0**-14, "TEXCOORD_0": 2.0**-12, "TEXCOORD_1": 3 * 2.0**-12, "COLOR_0": 1e-6}
    for name, bound in bounds.items():
        assert np.abs(new[name] - old[name][source]).max() <= bound, name
    for name, degrees in {"NORMAL": 0.3, "TANGENT": 0.3}.items():
        a, b = (
            v[:, :3] / np.linalg.norm(v[:, :3].astype(float), axis=1)[:, None] for v in (new[name], old[name][source])
        )
        assert np.degrees(2 * np.arcsin(np.linalg.norm(a - b, axis=1) / 2)).max() < degrees, name
    np.testing.assert_array_equal(np.sign(new["TANGENT"][:, 3]), old["TANGENT"][source][:, 3])


def test_draco_makes_a_sphere_with_tangents_smaller():
    data = rich(48)
    assert len(compressed(data, "draco")) < 0.5 * len(data)


@pytest.mark.parametrize("codec", CODECS)
def test_morph_targets_follow_their_vertices(codec):
    data = models.morphed()
    before, after = plain(data), plain(compressed(data, codec))
    old = read(before, before.json["meshes"][0]["primitives"][0])
    new = read(after, after.json["meshes"][0]["primitives"][0])
    assert [list(target) for target in new.targets] == [["POSITION", "NORMAL"]] * 2
    for number, factor in ((0, (0, 0.8, 0)), (1, (0.6, 0, 0.6))):
        expected = new.attributes["POSITION"] * factor
        np.testing.assert_allclose(new.targets[number]["POSITION"], expected, atol=2e-4)
    assert len(old.targets) == len(new.targets)


def test_attributes_of_one_stride_and_different_types_share_a_view():
    """Texture coordinates that all are one point are kept as floats: 8 bytes, as 16-bit weights are."""
    document = Document.from_glb(models.skinned())
    primitive = document.json["meshes"][0]["primitives"][0]
    count = len(document.accessor(primitive["attributes"]["POSITION"]))
    flat = np.full((count, 2), 0.25, np.float32)
    primitive["attributes"]["TEXCOORD_0"] = document.add_accessor(flat, target=ARRAY_BUFFER)
    out = plain(compressed(document.to_glb(), "meshopt"))
    attributes = out.json["meshes"][0]["primitives"][0]["attributes"]
    np.testing.assert_array_equal(out.accessor(attributes["TEXCOORD_0"]), 0.25)
    np.testing.assert_array_equal(out.accessor(attributes["WEIGHTS_0"]).astype(int).sum(axis=1), 65535)


def test_skin_weights_still_sum_to_one():
    after = plain(compressed(models.skinned(), "meshopt"))
    primitive = after.json["meshes"][0]["primitives"][0]
    weights = after.accessor(primitive["attributes"]["WEIGHTS_0"])
    assert weights.dtype == np.uint16
    np.testing.assert_array_equal(weights.astype(int).sum(axis=1), 65535)


@pytest.mark.parametrize("codec", CODECS)
def test_points_lines_and_primitives_with_unknown_extensions_stay_as_they_are(codec):
    document = Document.from_glb(models.points_and_lines())
    document.json["meshes"][0]["primitives"][2]["extensions"] = {"ACME_outline": {"width": 0.5}}
    document.declare("ACME_outline")
    data = document.to_glb()
    out = Document.from_glb(compressed(data, codec))
    for old, new in zip(document.json["meshes"][0]["primitives"], out.json["meshes"][0]["primitives"], strict=True):
        a, b = document.accessor(old["attributes"]["POSITION"]), out.accessor(new["attributes"]["POSITION"])
        np.testing.assert_array_equal(a, b)
        assert old.get("mode") == new.get("mode")


@pytest.mark.parametrize("codec", CODECS)
def test_colours_beyond_one_are_not_clamped(codec):
    document = Document.from_glb(models.sphere(8))
    primitive = document.json["meshes"][0]["primitives"][0]
    count = len(document.accessor(primitive["attributes"]["POSITION"]))
    primitive["attributes"]["COLOR_0"] = document.add_accessor(
        np.full((count, 3), 4.0, np.float32), target=ARRAY_BUFFER
    )
    out = plain(compressed(document.to_glb(), codec))
    np.testing.assert_array_equal(out.accessor(out.json["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]), 4.0)


def test_geometry_that_many_primitives_draw_is_stored_once():
    document = Document.from_glb(models.many_nodes(40))
    mesh = document.json["meshes"][0]
    document.json["meshes"] = [{**mesh, "name": f"cube {number}"} for number in range(40)]
    for number, node in enumerate(document.json["nodes"]):
        node["mesh"] = number
    for codec in CODECS:
        out = Document.from_glb(compressed(document.to_glb(), codec))
        assert len(out.items("accessors")) <= 4
        assert len(out.items("meshes")) == 40


def test_strips_and_fans_become_lists_with_their_winding():
    document = Document.from_glb(models.box())
    primitive = document.json["meshes"][0]["primitives"][0]
    positions = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 2, 0]], np.float32)
    primitive["attributes"] = {"POSITION": document.add_accessor(positions, bounds=True, target=ARRAY_BUFFER)}
    primitive.pop("indices")
    primitive["mode"] = 5
    assert read(document, primitive).indices.tolist() == [[0, 1, 2], [1, 3, 2], [2, 3, 4]]
    primitive["mode"] = 6
    assert read(document, primitive).indices.tolist() == [[1, 2, 0], [2, 3, 0], [3, 4, 0]]


def test_writing_a_shape_back_keeps_component_types():
    document = Document.from_glb(rich(8))
    shape = next(shapes(document))
    geometry = read(document, shape.first)
    write(document, shape, Geometry(geometry.attributes, geometry.indices[::-1]))
    accessors = document.items("accessors")
    color = accessors[shape.first["attributes"]["COLOR_0"]]
    assert (color["componentType"], color["normalized"]) == (5121, True)
    assert accessors[shape.first["attributes"]["_LEVEL"]]["componentType"] == 5123
    np.testing.assert_array_equal(read(document, shape.first).attributes["COLOR_0"], geometry.attributes["COLOR_0"])


@settings(max_examples=60, deadline=None)
@given(
    scale=st.sampled_from([1e-12, 1e-5, 0.02, 1.0, 37.0, 1e9]),
    offset=st.floats(-400, 400),
    bits=st.integers(8, 18),
    seed=st.integers(0, 9),
)
def test_exponential_positions_keep_their_promise_anywhere(scale, offset, bits, seed):
    points = ((np.random.default_rng(seed).random((64, 3)) + offset) * scale).astype(np.float32)
    extent = float(np.ptp(points, axis=0).max())
    stream = _exponential(points, extent, bits)
    assert np.abs(stream.decoded.astype(float) - points).max() <= extent / 2 ** (bits + 1) * 1.000001


def test_ordering_keeps_the_triangles():
    geometry = read(plain(models.sphere(12)), plain(models.sphere(12)).json["meshes"][0]["primitives"][0])
    again = ordered(geometry)

    def triangles(g: Geometry) -> list[bytes]:
        corners = g.attributes["POSITION"][g.indices]
        rolled = [min(np.roll(t, -n, axis=0).tobytes() for n in range(3)) for t in corners]
        return sorted(rolled)

    area = np.linalg.norm(
        np.cross(
            geometry.attributes["POSITION"][geometry.indices[:, 1]]
            - geometry.attributes["POSITION"][geometry.indices[:, 0]],
            geometry.attributes["POSITION"][geometry.indices[:, 2]]
            - geometry.attributes["POSITION"][geometry.indices[:, 0]],
        ),
        axis=1,
    )
    solid = Geometry(geometry.attributes, geometry.indices[area > 0])
    assert set(triangles(solid)) <= set(triangles(again))


# -- decompression -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["draco", "meshopt", "quantized"])
def test_packed_models_unpack_to_plain_ones(name, khronos):
    data = models.VALID[name]()
    out = decompress(data)
    document = Document.from_glb(out)
    assert "extensionsRequired" not in document.json
    assert "KHR_draco_mesh_compression" not in out.decode("latin-1")
    assert khronos([out]) == []
    primitive = document.json["meshes"][0]["primitives"][0]
    radius = np.linalg.norm(document.accessor(primitive["attributes"]["POSITION"]), axis=1)
    np.testing.assert_allclose(radius, 1.0, atol=1e-3)
    assert document.accessor(primitive["attributes"]["NORMAL"]).dtype == np.float32


@pytest.mark.parametrize("name", sorted(set(VALID) - {"draco", "meshopt", "quantized"}))
def test_plain_models_come_through_decompression_unchanged(name):
    data = models.VALID[name]()
    assert decompress(data) == Document.from_glb(data).to_glb()


def test_two_payloads_that_claim_one_accessor_get_one_each():
    document = Document.from_glb(models.draco())
    mesh = document.json["meshes"][0]
    other = Document.from_glb(models.draco(16))
    payload = other.json["meshes"][0]["primitives"][0]["extensions"]["KHR_draco_mesh_compression"]
    view = document.add_view(other.stored(payload["bufferView"]))
    second = document.clone().json["meshes"][0]["primitives"][0]
    second["extensions"]["KHR_draco_mesh_compression"] = {**payload, "bufferView": view}
    mesh["primitives"].append(second)
    decode(document)
    counts = [len(read(document, primitive).indices) for primitive in mesh["primitives"]]
    assert counts[0] > 3 * counts[1] > 0


def test_quantized_integers_are_packed_as_they_are(khronos):
    """No detour over floats: the same integers come out, and none is rounded a second time."""
    document = Document.from_glb(models.VALID["quantized"]())
    primitive = document.json["meshes"][0]["primitives"][0]
    before = {name: document.accessor(index) for name, index in primitive["attributes"].items()}
    kinds = {
        name: document.items("accessors")[index]["componentType"] for name, index in primitive["attributes"].items()
    }
    assert kinds["POSITION"] != 5126
    reserved = reserve(document)
    compress_meshopt(document)
    prune(document, reserved, data_only=True)
    data = document.to_glb()
    packed = Document.from_glb(data)
    primitive = packed.json["meshes"][0]["primitives"][0]
    for name, index in primitive["attributes"].items():
        accessor = packed.items("accessors")[index]
        after = packed.accessor(index)
        assert accessor["componentType"] == kinds[name], name
        if name in ("POSITION",) or name.startswith("TEXCOORD_"):
            rows = {tuple(row) for row in before[name].tolist()}
            assert {tuple(row) for row in after.tolist()} <= rows, name
    assert khronos([data, decompress(data)]) == []

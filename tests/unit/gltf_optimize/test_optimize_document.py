"""The document layer: reading every kind of accessor, and writing that loses nothing."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from cloudbaker.compute.gltf.document import ARRAY_BUFFER, Document, DocumentError, describe
from cloudbaker.compute.gltf.glb import join_glb, split_glb
from cloudbaker.testing import models

VALID = sorted(models.VALID)


def test_models_are_by_name():
    assert "draco" in VALID
    assert "meshopt" in VALID


@pytest.mark.parametrize("name", VALID)
def test_writing_keeps_every_accessor_and_every_word(name):
    data = models.VALID[name]()
    document = Document.from_glb(data)
    again = Document.from_glb(document.to_glb())
    for index in range(len(document.items("accessors"))):
        before, after = document.accessor(index), again.accessor(index)
        assert before.dtype == after.dtype
        np.testing.assert_array_equal(before, after)
    storage = {"buffers", "bufferViews"}
    assert {k: v for k, v in again.json.items() if k not in storage} == {
        k: v for k, v in json.loads(bytes(split_glb(data)[0])).items() if k not in storage
    }


@pytest.mark.parametrize("name", VALID)
def test_writing_is_deterministic_and_a_fixed_point(name):
    once = Document.from_glb(models.VALID[name]()).to_glb()
    assert Document.from_glb(once).to_glb() == once


def _document(accessor: dict, content: bytes, **view: object) -> Document:
    views = [{"buffer": 0, "byteLength": len(content), **view}]
    document = {"asset": {"version": "2.0"}, "buffers": [{"byteLength": len(content)}], "bufferViews": views}
    return Document.from_glb(join_glb({**document, "accessors": [{"bufferView": 0, **accessor}]}, content))


def test_normalized_integers_become_floats_by_the_rule_of_the_specification():
    bytes_ = struct.pack("<8b", -128, -127, 0, 127, 64, -64, 1, -1)
    document = _document({"componentType": 5120, "count": 2, "type": "VEC4", "normalized": True}, bytes_)
    np.testing.assert_allclose(
        document.accessor(0, dequantize=True)[0], [-1.0, -1.0, 0.0, 1.0], err_msg="-128 is clamped to -1"
    )
    unsigned = _document({"componentType": 5123, "count": 1, "type": "VEC2", "normalized": True}, b"\xff\xff\0\0")
    np.testing.assert_array_equal(unsigned.accessor(0, dequantize=True), [[1.0, 0.0]])
    assert unsigned.accessor(0).dtype == np.uint16


def test_an_interleaved_accessor_is_read_with_its_stride():
    rows = np.arange(24, dtype=np.float32).reshape(3, 8)
    document = _document(
        {"componentType": 5126, "count": 3, "type": "VEC3", "byteOffset": 12}, rows.tobytes(), byteStride=32
    )
    np.testing.assert_array_equal(document.accessor(0), rows[:, 3:6])


def test_columns_of_small_matrices_are_padded_to_four_bytes():
    content = bytes([1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0])
    document = _document({"componentType": 5121, "count": 1, "type": "MAT3"}, content)
    np.testing.assert_array_equal(document.accessor(0), [[1, 2, 3, 4, 5, 6, 7, 8, 9]])


def test_sparse_values_replace_those_of_the_base():
    document = Document.from_glb(models.sparse())
    index = next(i for i, a in enumerate(document.items("accessors")) if "sparse" in a and "bufferView" in a)
    whole, base = document.accessor(index), document.base(index)
    changed = np.flatnonzero((whole != base).any(axis=1))
    assert changed.tolist() == [30, 31, 40, 41]


def test_plain_accessors_are_views_into_the_file():
    data = models.sphere(16)
    document = Document.from_glb(data)
    array = document.accessor(0)
    assert not array.flags.writeable
    assert array.base is not None
    assert np.shares_memory(array, np.frombuffer(data, np.uint8))


def test_compressed_views_decode_once_and_keep_their_bytes():
    document = Document.from_glb(models.meshopt())
    index = next(i for i, v in enumerate(document.items("bufferViews")) if "extensions" in v)
    assert document.view(index) is document.view(index)
    assert len(document.stored(index)) < len(document.view(index))
    again = Document.from_glb(document.to_glb())
    assert again.stored(index) == document.stored(index)
    assert again.json["buffers"][1]["extensions"] == {"EXT_meshopt_compression": {"fallback": True}}


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda j: j["accessors"][0].update(componentType=1), "/accessors/0"),
        (lambda j: j["accessors"][0].pop("count"), "/accessors/0"),
        (lambda j: j["accessors"][0].update(count=10**6), "/bufferViews/"),
        (lambda j: j["accessors"][0].update(bufferView=99), "/bufferViews/99"),
        (lambda j: j["bufferViews"][0].update(byteOffset=10**9), "/bufferViews/0"),
        (lambda j: j["bufferViews"][0].update(buffer=1), "/bufferViews/0"),
        (lambda j: j.update(accessors={}), "/accessors"),
    ],
)
def test_a_contradiction_names_its_place(change, place):
    document = Document.from_glb(models.box())
    change(document.json)
    with pytest.raises(DocumentError) as caught:
        document.accessor(0)
    assert caught.value.place.startswith(place)


def test_a_damaged_compressed_view_names_its_place():
    document = Document.from_glb(models.meshopt())
    index = next(i for i, v in enumerate(document.items("bufferViews")) if "extensions" in v)
    extension = document.items("bufferViews")[index]["extensions"]["EXT_meshopt_compression"]
    extension["count"] += 1
    with pytest.raises(DocumentError, match="can't be decompressed"):
        document.view(index)


def test_set_accessor_keeps_name_extras_and_writes_bounds():
    document = Document.from_glb(models.box())
    document.items("accessors")[0].update(name="corners", extras={"a": 1})
    data = np.array([[0.1, 0.2, 0.3], [1.0, -2.0, 1e-7]], np.float32)
    document.set_accessor(0, data, bounds=True, target=ARRAY_BUFFER)
    again = Document.from_glb(document.to_glb())
    accessor = again.items("accessors")[0]
    assert accessor["name"] == "corners"
    assert accessor["extras"] == {"a": 1}
    np.testing.assert_array_equal(np.array(accessor["min"], np.float32), data.min(axis=0))
    np.testing.assert_array_equal(np.array(accessor["max"], np.float32), data.max(axis=0))
    np.testing.assert_array_equal(again.accessor(0), data)


def test_vertex_attributes_are_padded_to_four_bytes():
    document = Document.from_glb(models.box())
    index = document.add_accessor(np.array([[1, 2, 3], [4, 5, 6]], np.uint8), target=ARRAY_BUFFER)
    view = document.items("bufferViews")[document.items("accessors")[index]["bufferView"]]
    assert view["byteStride"] == 4
    np.testing.assert_array_equal(document.accessor(index), [[1, 2, 3], [4, 5, 6]])


def test_a_clone_shares_nothing_that_can_change():
    document = Document.from_glb(models.with_extras_and_names())
    twin = document.clone()
    twin.json["nodes"][0]["name"] = "other"
    twin.set_accessor(0, np.zeros((1, 3), np.float32))
    assert document.json["nodes"][0]["name"] != "other"
    assert len(document.accessor(0)) > 1


def test_types_that_gltf_does_not_have_are_refused():
    with pytest.raises(ValueError, match="no component type"):
        describe(np.zeros((1, 3), np.float64))


def test_an_empty_view_is_not_read():
    """NumPy takes an empty buffer for one of unknown size: it gave out whatever lay in memory there."""
    accessor = {"bufferView": 0, "componentType": 5126, "count": 300, "type": "VEC3"}
    views = [{"buffer": 0, "byteLength": 0}]
    document = Document({"buffers": [{"byteLength": 0}], "bufferViews": views, "accessors": [accessor]}, b"")
    with pytest.raises(DocumentError, match="empty"):
        document.accessor(0)

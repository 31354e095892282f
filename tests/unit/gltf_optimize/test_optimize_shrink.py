"""Deduplication, pruning and packing: fewer things, the same model, and no name goes missing."""

from __future__ import annotations

import numpy as np
import pytest

from cloudbaker.compute.gltf.dedup import dedup
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.compute.gltf.pack import pack
from cloudbaker.compute.gltf.prune import prune, reserve
from cloudbaker.testing import models

VALID = sorted(models.VALID)


def shrunk(data: bytes) -> Document:
    document = Document.from_glb(data)
    reserved = reserve(document)
    dedup(document, reserved)
    prune(document, reserved)
    pack(document)
    prune(document, reserved)
    return Document.from_glb(document.to_glb())


@pytest.mark.parametrize("name", VALID)
def test_nothing_is_lost_and_it_is_no_larger_where_it_counts(name):
    data = models.VALID[name]()
    document = shrunk(data)
    losses = [loss for loss in compare(Document.from_glb(data), document) if loss.place != "/bufferViews"]
    assert losses == []
    for node_before, node_after in zip(Document.from_glb(data).items("nodes"), document.items("nodes"), strict=True):
        assert ("mesh" in node_before) == ("mesh" in node_after)


@pytest.mark.parametrize("name", VALID)
def test_shrinking_twice_changes_nothing_more(name):
    once = shrunk(models.VALID[name]()).to_glb()
    assert shrunk(once).to_glb() == once


def test_outputs_pass_the_official_validator(khronos):
    assert khronos([shrunk(models.VALID[name]()).to_glb() for name in VALID]) == []


def _two_boxes() -> Document:
    """Two nodes with a box each; everything about the boxes is doubled."""
    document = Document.from_glb(models.box())
    json = document.json
    for kind in ("accessors", "materials", "meshes"):
        json[kind] = [*json[kind], *document.clone().json[kind]]
    half = len(json["accessors"]) // 2
    second = json["meshes"][1]["primitives"][0]
    second["attributes"] = {name: index + half for name, index in second["attributes"].items()}
    second["indices"] += half
    second["material"] = 1
    json["nodes"].append({"name": "second", "mesh": 1})
    json["scenes"][0]["nodes"].append(len(json["nodes"]) - 1)
    return document


def test_equal_things_become_one():
    document = shrunk(_two_boxes().to_glb())
    assert [len(document.items(kind)) for kind in ("accessors", "materials", "meshes")] == [3, 1, 1]
    assert [node["mesh"] for node in document.items("nodes")] == [0, 0]


def test_a_name_makes_a_difference():
    document = _two_boxes()
    document.json["materials"][1]["name"] = "another"
    again = shrunk(document.to_glb())
    assert {material["name"] for material in again.items("materials")} == {"plain", "another"}
    assert len(again.items("meshes")) == 2, "they differ in their material"
    assert len(again.items("accessors")) == 3


def test_what_is_animated_stays_itself():
    document = _two_boxes()
    pointer = {"pointer": "/materials/1/pbrMetallicRoughness/baseColorFactor"}
    times = document.add_accessor(np.array([[0.0], [1.0]], np.float32), bounds=True)
    colors = document.add_accessor(np.ones((2, 4), np.float32))
    document.json["animations"] = [
        {
            "channels": [
                {"sampler": 0, "target": {"path": "pointer", "extensions": {"KHR_animation_pointer": pointer}}}
            ],
            "samplers": [{"input": times, "output": colors}],
        }
    ]
    document.declare("KHR_animation_pointer")
    again = shrunk(document.to_glb())
    assert len(again.items("materials")) == 2
    assert compare(document, again) == []


def test_unused_things_go_and_their_names_are_told():
    document = Document.from_glb(models.with_extras_and_names())
    document.json["materials"].append({"name": "spare", "extras": {"why": "not"}})
    document.json["images"].append({**document.json["images"][0], "name": "spare.png"})
    document.json["meshes"].append({"primitives": [{"attributes": {"POSITION": 0}}]})
    again = shrunk(document.to_glb())
    assert "spare" not in {material["name"] for material in again.items("materials")}
    told = {(loss.kind, loss.place) for loss in compare(document, again)}
    assert told == {
        ("name", "/materials/1"),
        ("extras", "/materials/1"),
        ("name", "/images/1"),
        ("extras", "/images/1"),
    }


def test_a_library_without_nodes_keeps_its_meshes_and_materials():
    document = Document.from_glb(models.box())
    for key in ("nodes", "scenes", "scene"):
        del document.json[key]
    again = shrunk(document.to_glb())
    assert len(again.items("meshes")) == 1
    assert len(again.items("materials")) == 1


def test_overlapping_interleaved_views_do_not_multiply():
    """Each attribute with a view of its own over the same interleaved bytes is legal, and three times the data."""
    document = Document.from_glb(models.interleaved())
    size = len(document.to_glb())
    for accessor in document.items("accessors")[:3]:
        offset = accessor.pop("byteOffset", 0)
        view = dict(document.items("bufferViews")[accessor["bufferView"]])
        view |= {"byteOffset": view.get("byteOffset", 0) + offset, "byteLength": view["byteLength"] - offset}
        document.json["bufferViews"].append(view)
        accessor["bufferView"] = len(document.json["bufferViews"]) - 1
    assert len(shrunk(document.to_glb()).to_glb()) <= size + 200


def test_thousands_of_accessors_share_a_few_views():
    document = Document.from_glb(models.animated())
    samplers = document.json["animations"][0]["samplers"]
    for number in range(500):
        output = document.add_accessor(np.full((9, 4), number, np.float32))
        samplers.append({"input": samplers[0]["input"], "output": output})
        document.json["animations"][0]["channels"].append(
            {"sampler": len(samplers) - 1, "target": {"path": "weights", "node": 0}}
        )
    before = document.to_glb()
    again = shrunk(before)
    assert len(again.items("bufferViews")) <= 6
    assert len(again.to_glb()) < len(before) - 14_000
    assert compare(Document.from_glb(before), again) == []


def test_equal_animation_curves_are_stored_once():
    document = Document.from_glb(models.animated())
    animation = document.json["animations"][0]
    animation["samplers"].append(dict(animation["samplers"][0]))
    animation["channels"].append({"sampler": 1, "target": {"node": 1, "path": "rotation"}})
    again = shrunk(document.to_glb())
    assert len(again.json["animations"][0]["samplers"]) == 1
    assert [channel["sampler"] for channel in again.json["animations"][0]["channels"]] == [0, 0]


# -- documents with an unknown extension that may hold indices -----------------------------------------------------


def _pinned() -> Document:
    document = Document.from_glb(models.textured(16))
    json = document.json
    unused = [document.add_view(bytes([n]) * 8) for n in range(3)]
    data = document.add_accessor(np.array([[1.0], [2.0]], np.float32))
    json["materials"].append({"name": "spare"})
    json["extensions"] = {"ACME_sound": {"clip": unused[1], "envelope": data, "material": 1}}
    document.declare("ACME_sound")
    return document


def test_what_an_unknown_extension_may_point_at_keeps_number_and_bytes():
    document = _pinned()
    extension = document.json["extensions"]["ACME_sound"]
    again = shrunk(document.to_glb())
    assert again.json["extensions"]["ACME_sound"] == extension
    assert bytes(again.view(extension["clip"])) == bytes([1]) * 8
    np.testing.assert_array_equal(again.accessor(extension["envelope"]), [[1.0], [2.0]])
    assert again.json["materials"][extension["material"]]["name"] == "spare"


def test_pinned_documents_pass_the_official_validator(khronos):
    document = _pinned()
    assert khronos([shrunk(document.to_glb()).to_glb()]) == []


def test_an_unknown_extension_without_integers_pins_nothing():
    document = _pinned()
    document.json["extensions"]["ACME_sound"] = {"volume": 0.5, "title": "12"}
    assert not reserve(document).pinned
    assert len(shrunk(document.to_glb()).items("materials")) == 1

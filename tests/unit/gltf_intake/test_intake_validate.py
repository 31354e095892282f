"""Payloads and the official validator: what is packed is looked into, what it says is handed on."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

from cloudbaker.compute.gltf.glb import join_glb, read_glb
from cloudbaker.compute.gltf.khronos import validate_all
from cloudbaker.compute.gltf.validate import check_outputs_job, validate_job
from cloudbaker.compute.meshes import meshopt
from cloudbaker.testing import models

Edit = Callable[[str, Callable[[dict[str, Any], bytearray], Any]], bytes]


def validate(data: bytes, validator: bytes, **limits: int) -> dict[str, Any]:
    inputs = {"model.glb": memoryview(data), "validator.js": memoryview(validator)}
    value: dict[str, Any] = validate_job(inputs, {"limits": limits}).value
    return value


def errors(value: dict[str, Any]) -> list[tuple[str, str]]:
    return [(f["code"], f["place"]) for f in value["findings"] if f["severity"] == "error"]


@pytest.mark.parametrize("model", sorted(models.VALID))
def test_sound_models_have_no_errors(model: str, validator: bytes) -> None:
    value = validate(models.VALID[model](), validator)
    assert errors(value) == []
    assert value["facts"]["triangles"] > 0
    assert value["facts"]["bytes"] == len(models.VALID[model]())


def test_facts_are_what_the_file_says(validator: bytes) -> None:
    facts = validate(models.VALID["with_extras_and_names"](), validator)["facts"]
    assert facts["copyright"]
    assert facts["generator"] == "Cloud Baker test models"
    assert (facts["triangles"], facts["vertices"], facts["meshes"], facts["nodes"]) == (12, 24, 1, 2)
    packed = validate(models.VALID["draco"](), validator)["facts"]
    assert packed["extensions_used"] == ["KHR_draco_mesh_compression"]
    assert packed["triangles"] == 960


def test_the_validators_words_arrive_with_their_severity(edit: Edit, validator: bytes) -> None:
    value = validate(edit("box", lambda d, b: d["accessors"][0].update(max=[0.4, 0.5, 0.5])), validator)
    found = next(f for f in value["findings"] if f["code"] == "khronos.ACCESSOR_MAX_MISMATCH")
    assert (found["severity"], found["place"]) == ("error", "/accessors/0/max/0")
    assert found["remedy"]
    value = validate(models.VALID["textured"](), validator)
    assert {f["severity"] for f in value["findings"]} == {"warning"}


def test_what_the_validator_repeats_from_the_file_is_printable(edit: Edit, validator: bytes) -> None:
    def change(d: dict[str, Any], b: bytearray) -> None:
        d["meshes"][0]["primitives"][0]["attributes"]["\x1b[2J\u202e" + "x" * 5000] = 0

    value = validate(edit("box", change), validator)
    assert errors(value)
    for finding in value["findings"]:
        assert finding["message"].isprintable()
        assert finding["place"].isprintable()
        assert len(finding["message"]) + len(finding["place"]) < 1000


def test_several_models_share_a_start_and_one_that_fails_harms_no_other(validator: bytes) -> None:
    script = validator.decode()
    glbs = [models.box(), b"no glb at all", models.VALID["sparse"](), b"", models.VALID["skinned"]()]
    reports = validate_all(glbs, validator_js=script)
    assert [report.errors for report in reports] == [0, 1, 0, 1, 0]
    assert reports[1].findings[0].code == "khronos.failed"
    assert reports[1].findings[0].remedy


def test_a_validator_that_does_not_end_is_ended(validator: bytes) -> None:
    # It visits every element of a sparse accessor that holds none, 2 million a second: 40 million take it 20 s.
    container = read_glb(models.VALID["sparse"]())
    document = container.document
    document["accessors"][4]["count"] = 40_000_000
    document["meshes"][0]["primitives"][0].pop("targets")
    document["meshes"][0].pop("weights")
    reports = validate_all(
        [join_glb(document, container.bin), models.box()], validator_js=validator.decode(), seconds=1.5
    )
    assert [f.code for f in reports[0].findings] == ["khronos.failed"]
    assert reports[1].errors == 0


# -- payloads ----------------------------------------------------------------------------------------------------------


def payload(d: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = d["meshes"][0]["primitives"][0]["extensions"]["KHR_draco_mesh_compression"]
    return found


def overwrite(binary: bytearray, start: int, data: bytes) -> None:
    binary[start : start + len(data)] = data


PAYLOADS: dict[str, tuple[str, str, str, Callable[[dict[str, Any], bytearray], Any]]] = {
    "no draco": ("draco", "draco.corrupt", "/meshes/0/primitives/0", lambda d, b: overwrite(b, 0, b"OCARD")),
    "draco body": ("draco", "draco.corrupt", "/meshes/0/primitives/0", lambda d, b: overwrite(b, 30, bytes(2000))),
    "point cloud": ("draco", "draco.mismatch", "/meshes/0/primitives/0", lambda d, b: overwrite(b, 7, b"\0\0")),
    "draco cut": (
        "draco",
        "draco.corrupt",
        "/meshes/0/primitives/0",
        lambda d, b: d["bufferViews"][0].update(byteLength=40),
    ),
    "draco empty": (
        "draco",
        "draco.corrupt",
        "/meshes/0/primitives/0",
        lambda d, b: d["bufferViews"][0].update(byteLength=1),
    ),
    "draco unknown attribute": (
        "draco",
        "draco.corrupt",
        "/meshes/0/primitives/0",
        lambda d, b: payload(d)["attributes"].update(NORMAL=77),
    ),
    "draco fewer vertices": (
        "draco",
        "draco.mismatch",
        "/meshes/0/primitives/0",
        lambda d, b: [a.update(count=500) for a in d["accessors"][:3]],
    ),
    "draco more vertices": (
        "draco",
        "draco.mismatch",
        "/meshes/0/primitives/0",
        lambda d, b: [a.update(count=5000) for a in d["accessors"][:3]],
    ),
    "draco other indices": (
        "draco",
        "draco.mismatch",
        "/meshes/0/primitives/0",
        lambda d, b: d["accessors"][3].update(count=3),
    ),
    "meshopt header": ("meshopt", "meshopt.corrupt", "/bufferViews/0", lambda d, b: overwrite(b, 0, b"\xff")),
    "meshopt body": ("meshopt", "meshopt.corrupt", "/bufferViews/0", lambda d, b: overwrite(b, 1, b"\xff" * 7900)),
    "meshopt indices": ("meshopt", "meshopt.corrupt", "/bufferViews/1", lambda d, b: overwrite(b, 7940, b"\0")),
    "meshopt cut": (
        "meshopt",
        "meshopt.corrupt",
        "/bufferViews/0",
        lambda d, b: d["bufferViews"][0]["extensions"]["EXT_meshopt_compression"].update(byteLength=20),
    ),
}


@pytest.mark.parametrize(("model", "code", "place", "change"), PAYLOADS.values(), ids=PAYLOADS)
def test_a_bad_payload_is_a_finding(
    edit: Edit,
    validator: bytes,
    model: str,
    code: str,
    place: str,
    change: Callable[[dict[str, Any], bytearray], Any],
) -> None:
    value = validate(edit(model, change), validator)
    assert (code, place) in errors(value), value["findings"]
    assert all(f["remedy"] for f in value["findings"] if f["severity"] == "error")


def meshopt_view(edit: Edit, view: int, values: bytes, stride: int, *, indices: bool = False) -> bytes:
    """The meshopt model with other, well-packed contents in one view."""
    import numpy as np

    def change(d: dict[str, Any], b: bytearray) -> None:
        packed = d["bufferViews"][view]["extensions"]["EXT_meshopt_compression"]
        if indices:
            data = meshopt.encode_index_buffer(np.frombuffer(values, "<u4"), 1 << 20)
        else:
            data = meshopt.encode_vertex_buffer(np.frombuffer(values, np.uint8).reshape(-1, stride))
        b.extend(b"\0" * (-len(b) % 4))
        packed |= {"byteOffset": len(b), "byteLength": len(data)}
        b.extend(data)

    return edit("meshopt", change)


def test_what_is_hidden_in_a_sound_payload_is_found(edit: Edit, validator: bytes) -> None:
    document = read_glb(models.VALID["meshopt"]()).document
    rows = document["bufferViews"][0]["extensions"]["EXT_meshopt_compression"]["count"]
    bad = bytearray(struct.pack("<6f", 0, 0, 0, 0, 1, 0) * rows)
    struct.pack_into("<f", bad, 24 * 7, float("nan"))
    assert errors(validate(meshopt_view(edit, 0, bytes(bad), 24), validator)) == [("gltf.not-finite", "/accessors/0")]
    count = document["bufferViews"][1]["extensions"]["EXT_meshopt_compression"]["count"]
    indices = struct.pack("<3I", 0, 1, rows) * (count // 3)
    value = validate(meshopt_view(edit, 1, indices, 4, indices=True), validator)
    assert errors(value) == [("gltf.index-out-of-range", "/meshes/0/primitives/0/indices")]


def test_the_official_validator_sees_what_was_packed(edit: Edit, validator: bytes) -> None:
    document = read_glb(models.VALID["meshopt"]()).document
    rows = document["bufferViews"][0]["extensions"]["EXT_meshopt_compression"]["count"]
    long_normals = struct.pack("<6f", 0, 0, 0, 0, 9, 0) * rows
    codes = {code for code, _ in errors(validate(meshopt_view(edit, 0, long_normals, 24), validator))}
    assert "khronos.ACCESSOR_VECTOR3_NON_UNIT" in codes


# -- proof of outputs --------------------------------------------------------------------------------------------------


def test_outputs_are_proven_as_they_are_and_decompressed(edit: Edit, validator: bytes) -> None:
    document = read_glb(models.VALID["meshopt"]()).document
    rows = document["bufferViews"][0]["extensions"]["EXT_meshopt_compression"]["count"]
    glbs = {
        "model.glb": models.VALID["draco"](),
        "lod1.glb": models.box(),
        "wrong.glb": edit("box", lambda d, b: d["accessors"][0].update(max=[0.4, 0.5, 0.5])),
        "hidden.glb": meshopt_view(edit, 0, struct.pack("<6f", 0, 0, 0, 0, 9, 0) * rows, 24),
        "corrupt.glb": edit("draco", lambda d, b: overwrite(b, 30, bytes(2000))),
        "cut.glb": models.box()[:-4],
    }
    inputs = {name: memoryview(data) for name, data in glbs.items()} | {"validator.js": memoryview(validator)}
    value = check_outputs_job(inputs, {}).value
    assert set(value) == set(glbs)
    figures = {name: (v["errors"] > 0, v["decompressed_errors"] > 0) for name, v in value.items()}
    assert figures == {
        "model.glb": (False, False),
        "lod1.glb": (False, False),
        "wrong.glb": (True, False),
        "hidden.glb": (False, True),
        "corrupt.glb": (False, True),
        "cut.glb": (True, False),
    }
    for result in value.values():
        bad = [f for f in result["findings"] if f["severity"] == "error"]
        assert bool(bad) == bool(result["errors"] + result["decompressed_errors"])

"""Two files side by side."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from cloudbaker.compute.gltf.compress_draco import compress_draco
from cloudbaker.compute.gltf.diff import diff_job
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.inspect import inspect_job
from cloudbaker.compute.gltf.prune import prune, reserve
from cloudbaker.testing import models


def tables(before: bytes, after: bytes) -> dict[str, Any]:
    value: dict[str, Any] = diff_job({"before.glb": memoryview(before), "after.glb": memoryview(after)}, {}).value
    json.dumps(value, allow_nan=False)
    return value


def figures(value: dict[str, Any], table: str) -> dict[str, tuple[int, int]]:
    return {row["figure"]: (row["before"], row["after"]) for row in value[table]["rows"]}


@pytest.mark.parametrize("name", sorted(models.VALID))
def test_a_model_does_not_differ_from_itself(name: str) -> None:
    data = models.VALID[name]()
    value = tables(data, data)
    assert all(old == new for table in ("sizes", "counts") for old, new in figures(value, table).values())
    assert value["losses"]["rows"] == value["names"]["rows"] == []
    geometry = value["geometry"]["rows"][0]
    assert (geometry["error_mean_percent"], geometry["error_max_percent"], geometry["note"]) == (0, 0, "")
    assert all(row["before"] == row["after"] for name in ("textures", "extensions") for row in value[name]["rows"])


def test_compression_shows_in_sizes_and_in_the_measured_error() -> None:
    plain = models.sphere(48)
    document = Document.from_glb(plain)
    reserved = reserve(document)
    compress_draco(document)
    prune(document, reserved, data_only=True)
    packed = document.to_glb()
    value = tables(plain, packed)
    sizes = figures(value, "sizes")
    assert sizes["bytes"] == (len(plain), len(packed))
    assert sizes["geometry_bytes"][1] < sizes["geometry_bytes"][0] / 4
    assert sizes["brotli"][0] < len(plain)
    assert sizes["geometry_gpu_bytes"][1] == pytest.approx(sizes["geometry_gpu_bytes"][0], rel=0.2)  # as drawn
    assert 0 < value["geometry"]["rows"][0]["error_mean_percent"] < 0.01
    assert value["extensions"]["rows"] == [{"name": "KHR_draco_mesh_compression", "before": "", "after": "required"}]
    assert value["losses"]["rows"] == []


def test_what_was_renamed_and_lost_is_told() -> None:
    source = models.with_extras_and_names()
    document = Document.from_glb(source)
    document.json["nodes"][0]["name"] = "other"
    del document.json["asset"]["copyright"]
    value = tables(source, document.to_glb())
    (row,) = value["names"]["rows"]
    assert (row["kind"], row["lost"], row["new"]) == ("nodes", 1, 1)
    assert {loss["kind"] for loss in value["losses"]["rows"]} == {"name", "copyright"}


def test_other_images_are_matched_by_name() -> None:
    document = Document.from_glb(models.textured())
    for number, image in enumerate(document.items("images")):
        image["name"] = f"image {number}"
    before = document.to_glb()
    document.items("images").append({**document.items("images")[0], "name": "new"})
    rows = tables(before, document.to_glb())["textures"]["rows"]
    assert [bool(row["before"]) for row in rows] == [True] * (len(rows) - 1) + [False]
    assert (rows[-1]["name"], rows[-1]["bytes_before"]) == ("new", None)


def test_any_two_models_can_be_held_against_each_other() -> None:
    names = sorted(models.VALID)
    data = {name: models.VALID[name]() for name in names}
    notes = [
        tables(data[a], data[b])["geometry"]["rows"][0]["note"] for a, b in itertools.pairwise([*names, *names[::-2]])
    ]
    assert any(note.startswith("not measured: ") for note in notes)


def test_a_bad_file_has_findings_only() -> None:
    value = tables(models.box(), b"nothing")
    assert set(value) == {"findings"}
    assert not value["findings"]["before"]
    assert value["findings"]["after"]


def test_gpu_bytes_are_those_of_the_decompressed_form() -> None:
    def mesh(data: bytes) -> dict[str, Any]:
        row: dict[str, Any] = inspect_job({"model.glb": memoryview(data)}, {}).value["meshes"]["rows"][0]
        return row

    box = mesh(models.box())  # 24 vertices with position and normal, 36 indices of 2 bytes
    assert box["gpu_bytes"] == 24 * (12 + 12) + 36 * 2
    draco = mesh(models.draco())
    assert draco["bytes"] < draco["gpu_bytes"] / 2
    morphed = mesh(models.morphed())
    document = Document.from_glb(models.morphed())
    moved = [index for target in document.json["meshes"][0]["primitives"][0]["targets"] for index in target.values()]
    assert morphed["gpu_bytes"] > 16 * sum(document.items("accessors")[index]["count"] for index in set(moved))


def test_scale_that_moves_into_the_nodes_is_no_error() -> None:
    """As tools do that quantize: the mesh is stored smaller, the node makes up for it."""
    document = Document.from_glb(models.sphere(24))
    before = document.to_glb()
    (node,) = [node for node in document.json["nodes"] if "mesh" in node]
    primitive = document.json["meshes"][0]["primitives"][0]
    points = document.accessor(primitive["attributes"]["POSITION"])
    document.set_accessor(primitive["attributes"]["POSITION"], points / 8 - 1, bounds=True)
    node |= {"scale": [8.0, 8.0, 8.0], "translation": [8.0, 8.0, 8.0]}
    row = tables(before, document.to_glb())["geometry"]["rows"][0]
    assert row["error_max_percent"] < 1e-4
    assert row["note"].startswith("each primitive in a box of its own")
    document.set_accessor(primitive["attributes"]["POSITION"], (points * (1, 0.5, 1)).astype("f4"), bounds=True)
    assert tables(before, document.to_glb())["geometry"]["rows"][0]["error_max_percent"] > 5

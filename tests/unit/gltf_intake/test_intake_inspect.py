"""The tables of ``inspect``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cloudbaker.compute.gltf.inspect import inspect_job
from cloudbaker.testing import models

Edit = Callable[[str, Callable[[dict[str, Any], bytearray], Any]], bytes]


def tables(data: bytes) -> dict[str, Any]:
    value: dict[str, Any] = inspect_job({"model.glb": memoryview(data)}, {}).value
    json.dumps(value, allow_nan=False)
    return value


@pytest.mark.parametrize("model", sorted(models.VALID))
def test_bytes_of_the_parts_add_up_to_the_file(model: str) -> None:
    data = models.VALID[model]()
    totals = tables(data)["totals"]
    parts = ("geometry_bytes", "animation_bytes", "image_bytes", "json_bytes", "other_bytes")
    assert sum(totals[part] for part in parts) == len(data) == totals["bytes"]
    assert totals["geometry_bytes"] > 0
    assert totals["other_bytes"] < len(data) / 8  # padding of quantized vertices to 4 bytes


def test_a_textured_model() -> None:
    value = tables(models.VALID["textured"]())
    mesh, material, texture = (value[name]["rows"][0] for name in ("meshes", "materials", "textures"))
    assert mesh["attributes"] == "POSITION:f32, NORMAL:f32, TEXCOORD_0:f32"
    assert (mesh["name"], mesh["mode"], mesh["triangles"], mesh["instances"]) == ("crate", "triangles", 12, 1)
    assert material["textures"] == "baseColorTexture, metallicRoughnessTexture, normalTexture"
    assert (texture["slots"], texture["mime"]) == ("baseColorTexture", "image/png")
    assert texture["gpu_bytes"] == texture["width"] * texture["height"] * 16 // 3
    assert all(value[name]["footnotes"] for name in ("scenes", "meshes", "textures", "animations", "totals"))


def test_bounds_follow_the_nodes(edit: Edit) -> None:
    def change(d: dict[str, Any], b: bytearray) -> None:
        quarter = [0, 0, 0.7071067811865476, 0.7071067811865476]
        d["nodes"][0] |= {"translation": [10, 0, 0], "scale": [2, 4, 2], "rotation": quarter}

    scene = tables(edit("box", change))["scenes"]["rows"][0]
    assert scene["bounds_min"] == [8.0, -1.0, -1.0]
    assert scene["bounds_max"] == [12.0, 1.0, 1.0]


def test_instances_and_animations_count() -> None:
    value = tables(models.VALID["many_nodes"]())
    assert value["meshes"]["rows"][0]["instances"] == 100
    assert value["totals"]["drawn_triangles"] == 1200
    animation = tables(models.VALID["animated"]())["animations"]["rows"][0]
    assert (animation["channels"], animation["keyframes"], animation["seconds"]) == (1, 9, 2.0)


def test_extensions_say_whether_we_know_them() -> None:
    rows = tables(models.VALID["unknown_extension"]())["extensions"]["rows"]
    assert rows == [{"name": "ACME_warranty", "required": False, "known": False}]


def test_many_scenes_of_one_root_cost_one_walk(edit: Edit) -> None:
    def change(d: dict[str, Any], b: bytearray) -> None:
        d["nodes"][0]["children"] = list(range(1, 3001))
        d["nodes"] += [{"mesh": 0}] * 3000
        d["scenes"] = [{"nodes": [0]}] * 50_000  # 150 million visits if each scene were walked

    rows = tables(edit("box", change))["scenes"]["rows"]
    assert len(rows) == 50_000
    assert rows[-1]["triangles"] == 12 * 3001


def test_absurd_numbers_do_not_reach_the_table(edit: Edit) -> None:
    value = tables(edit("box", lambda d, b: d["nodes"][0].update(scale=[1e299] * 3, translation=[1e299] * 3)))
    assert value["scenes"]["rows"][0]["bounds_min"] is not None

    def nest(d: dict[str, Any], b: bytearray) -> None:
        d["nodes"][0]["scale"] = [1e200] * 3
        d["nodes"].append({"children": [0], "scale": [1e200] * 3})
        d["scenes"][0]["nodes"] = [1]

    assert tables(edit("box", nest))["scenes"]["rows"][0]["bounds_min"] is None


def test_a_bad_file_has_findings_only() -> None:
    assert set(tables(b"nothing")) == {"findings"}

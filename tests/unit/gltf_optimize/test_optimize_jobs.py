"""The optimize stage as the pipeline calls it: two jobs, all generated models, and the promises of the design."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from cloudbaker.compute.gltf.decompress import decompress
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.optimize import STEPS, assemble_job, compression_of, unpack_job
from cloudbaker.recipe import load_recipe
from cloudbaker.testing import models

WEB = load_recipe("web").model_dump(mode="json")
VALID = sorted(models.VALID)


def webp(data: bytes, *, lossless: bool) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(data)).save(out, "WEBP", lossless=lossless, quality=80, method=4)
    return out.getvalue()


def bake(data: bytes, *, images: bool = True, **meshes: object):
    """Both jobs as the pipeline runs them, with WebP made by Pillow in between."""
    unpacked = unpack_job({"model.glb": memoryview(data)}, {})
    inputs = {"model.glb": memoryview(data)}
    replaced = []
    for image in unpacked.value["images"] if images else ():
        encoded = webp(bytes(unpacked.files[image["file"]]), lossless=image["slot_class"] != "color")
        inputs[image["file"]] = memoryview(encoded)
        replaced.append({"index": image["index"], "file": image["file"], "mime": "image/webp"})
    params = {"images": replaced, "meshes": {**WEB["meshes"], **meshes}, "lods": WEB["lods"]}
    result = assemble_job(inputs, params)
    json.dumps(result.value)
    return result


@pytest.mark.parametrize("name", VALID)
def test_no_file_is_larger_and_nothing_is_lost(name, khronos):
    data = models.VALID[name]()
    result = bake(data)
    variants = {variant["name"]: variant for variant in result.value["variants"]}
    assert list(variants) == list(result.files) == ["model.glb", "lod1.glb", "lod2.glb"]
    assert [step["name"] for step in result.value["steps"]] == [name for name, _ in STEPS]
    for name_, content in result.files.items():
        variant = variants[name_]
        assert len(content) <= len(data), f"{name_} is larger than the input"
        assert variant["bytes"] == len(content)
        assert variant["compression"] == compression_of(Document.from_glb(content))
        assert variant["note"]
    assert variants["model.glb"]["suggested_distance"] == 0
    distances = [variant["suggested_distance"] for variant in result.value["variants"]]
    assert distances == sorted(distances)
    assert [loss for loss in result.value["losses"] if not loss["place"].endswith("/bufferViews")] == []
    outputs = [bytes(content) for content in result.files.values()]
    assert khronos([*outputs, *map(decompress, outputs)]) == []


def test_what_stands_still_becomes_draco_and_what_bends_becomes_meshopt():
    names = ("sphere", "grid", "skinned", "morphed")
    compression = {name: bake(models.VALID[name]()).value["variants"][0]["compression"] for name in names}
    assert compression["sphere"] == compression["grid"] == "draco"
    assert compression["skinned"] == compression["morphed"] == "meshopt"


@pytest.mark.parametrize("compression", ["none", "draco", "meshopt"])
def test_a_recipe_can_say_which_compression(compression):
    variant = bake(models.sphere(24), compression=compression).value["variants"][0]
    assert variant["compression"] == compression


def test_levels_of_detail_have_fewer_triangles_and_a_measured_error():
    variants = bake(models.grid(48)).value["variants"]
    full = variants[0]["triangles"]
    assert variants[1]["triangles"] == pytest.approx(full / 2, rel=0.02)
    assert variants[2]["triangles"] == pytest.approx(full / 4, rel=0.02)
    errors = [variant["error_mean_percent"] for variant in variants]
    assert 0 < errors[0] < 0.01 < errors[1] < errors[2] < 2
    assert 0 < variants[1]["suggested_distance"] < variants[2]["suggested_distance"]


def test_a_box_has_no_level_of_detail_and_says_so():
    result = bake(models.box())
    assert result.files["lod1.glb"] == result.files["model.glb"]
    assert "is the same as model.glb" in result.value["variants"][1]["note"]


def test_a_model_that_can_not_shrink_stays_itself():
    once = bytes(bake(models.sphere(24)).files["model.glb"])
    again = bake(once)
    assert again.files["model.glb"] == once
    assert "source is the smallest" in again.value["variants"][0]["note"]


def test_a_draco_model_is_not_quantized_a_second_time():
    document = Document.from_glb(bake(models.sphere(24)).files["model.glb"])
    document.add_view(bytes(5000))
    result = bake(document.to_glb())
    assert "repacked is the smallest" in result.value["variants"][0]["note"]
    payloads = [
        bytes(d.view(d.json["meshes"][0]["primitives"][0]["extensions"]["KHR_draco_mesh_compression"]["bufferView"]))
        for d in (document, Document.from_glb(result.files["model.glb"]))
    ]
    assert payloads[0] == payloads[1]
    assert result.value["variants"][0]["error_max_percent"] == 0


def test_levels_of_detail_of_a_mesh_with_several_materials_have_no_cracks():
    """Two halves of a sheet, a material each: the vertices of the seam must be the same ones on both sides."""
    document = Document.from_glb(models.grid(32))
    mesh = document.json["meshes"][0]
    first = mesh["primitives"][0]
    indices = document.accessor(first["indices"])
    half = len(indices) // 6 * 3
    second = {**first, "indices": document.add_accessor(indices[half:])}
    first["indices"] = document.add_accessor(indices[:half])
    mesh["primitives"].append(second)
    result = bake(document.to_glb(), compression="none")
    out = Document.from_glb(result.files["lod1.glb"])
    sides = [
        {tuple(p) for p in out.accessor(primitive["attributes"]["POSITION"]).tolist()}
        for primitive in out.json["meshes"][0]["primitives"]
    ]
    assert len(sides[0] & sides[1]) == 33
    assert result.value["variants"][1]["triangles"] < 0.6 * result.value["variants"][0]["triangles"]


def test_encoded_images_go_where_the_old_ones_were():
    data = models.textured(64)
    unpacked = unpack_job({"model.glb": memoryview(data)}, {})
    classes = {image["slots"][0]: image["slot_class"] for image in unpacked.value["images"]}
    assert classes == {"baseColorTexture": "color", "metallicRoughnessTexture": "data", "normalTexture": "normal"}
    assert {(image["mime"], image["width"], image["height"]) for image in unpacked.value["images"]} == {
        ("image/png", 64, 64)
    }
    out = Document.from_glb(bake(data).files["model.glb"])
    assert out.json["extensionsRequired"].count("EXT_texture_webp") == 1
    for texture in out.items("textures"):
        assert "source" not in texture
        image = out.items("images")[texture["extensions"]["EXT_texture_webp"]["source"]]
        assert image["mimeType"] == "image/webp"
        assert bytes(out.view(image["bufferView"])[8:12]) == b"WEBP"
    assert [image["name"] for image in out.items("images")] == [
        image["name"] for image in Document.from_glb(data).items("images")
    ]


def test_images_that_are_not_given_back_stay():
    data = models.textured(64)
    out = Document.from_glb(bake(data, images=False).files["model.glb"])
    assert "EXT_texture_webp" not in out.json.get("extensionsUsed", [])
    for old, new in zip(Document.from_glb(data).items("images"), out.items("images"), strict=True):
        assert new["mimeType"] == old["mimeType"]


def test_two_images_over_one_view_are_replaced_one_by_one():
    document = Document.from_glb(models.textured(64))
    document.json["images"][2]["bufferView"] = document.json["images"][0]["bufferView"]
    result = bake(document.to_glb())
    out = Document.from_glb(result.files["model.glb"])
    contents = [bytes(out.view(image["bufferView"])) for image in out.items("images")]
    assert len(contents) == 3
    assert contents[0] != contents[2], "one is lossy colour, the other a lossless normal map"


_RUN = """
import hashlib, sys
sys.path.insert(0, {folder!r})
from test_optimize_jobs import bake
from cloudbaker.testing import models
for name in ("sphere", "skinned", "textured", "variants", "many_nodes"):
    for file, content in bake(models.VALID[name]()).files.items():
        print(name, file, hashlib.sha256(content).hexdigest())
"""


def test_same_input_same_bytes_in_any_process():
    script = _RUN.format(folder=os.path.dirname(__file__))  # noqa: PTH120
    outputs = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
            timeout=240,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0].count("\n") == 15
    assert outputs[0] == outputs[1]


def test_an_unknown_extension_keeps_what_it_may_point_at(khronos):
    document = Document.from_glb(models.textured(64))
    clip = document.add_view(b"RIFFdata")
    curve = document.add_accessor(np.array([[0.5], [1.5]], np.float32))
    position = document.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"]
    pointing = {"clip": clip, "curve": curve, "surface": position}
    document.json["extensions"] = {"ACME_sound": pointing}
    document.declare("ACME_sound")
    for compression in ("draco", "meshopt", "none"):
        result = bake(document.to_glb(), compression=compression)
        for name, content in result.files.items():
            plain = Document.from_glb(decompress(content))
            assert plain.json["extensions"]["ACME_sound"] == pointing, name
            assert bytes(plain.view(clip)) == b"RIFFdata"
            np.testing.assert_array_equal(plain.accessor(curve), [[0.5], [1.5]])
            assert plain.json["meshes"][0]["primitives"][0]["attributes"]["POSITION"] == position
        assert khronos([bytes(content) for content in result.files.values()]) == []

"""quantize, and dedup by its options."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cloudbaker.compute.gltf import Document, compare, decompress, dedup, prune, quantize
from cloudbaker.compute.gltf.dedup import DedupOptions
from cloudbaker.compute.gltf.primitives import read
from cloudbaker.compute.gltf.quantize import QuantizeOptions, snorm
from cloudbaker.testing import models, shapes
from cloudbaker.testing.writer import Writer, encode_image


def world_points(document: Document, node: int) -> np.ndarray:
    """Positions of a root node's mesh in the scene, computed here."""
    item = document.json["nodes"][node]
    primitive = document.json["meshes"][item["mesh"]]["primitives"][0]
    points = document.accessor(primitive["attributes"]["POSITION"], dequantize=True).astype(np.float64)
    if "matrix" in item:
        matrix = np.array(item["matrix"]).reshape(4, 4).T
        return points @ matrix[:3, :3].T + matrix[:3, 3]
    return points * item.get("scale", (1, 1, 1)) + item.get("translation", (0, 0, 0))


@pytest.mark.parametrize(
    "name", ["sphere", "textured", "skinned", "morphed", "vertex_colored", "sparse", "interleaved"]
)
def test_attributes_are_within_their_bits_and_valid(name, khronos):
    source = Document.from_glb(models.VALID[name]())
    document = source.clone()
    quantize(document)
    assert khronos([document.to_glb()]) == []
    for old, new in zip(source.json["meshes"], document.json["meshes"], strict=True):
        for a, b in zip(old["primitives"], new["primitives"], strict=True):
            before, after = read(source, a), read(document, b)
            for semantic, data in before.attributes.items():
                step = {"NORMAL": 127, "TANGENT": 127, "COLOR_0": 255, "TEXCOORD_0": 4095, "WEIGHTS_0": 127}
                allowed = 0.51 / step[semantic] + 0.51 / 65535 if semantic in step else 0
                assert np.abs(after.attributes[semantic].astype(float) - data).max() <= allowed, semantic
    assert len(document.to_glb()) <= len(source.to_glb()) + 400


def test_weights_still_sum_to_one():
    document = Document.from_glb(models.skinned())
    quantize(document)
    primitive = document.json["meshes"][0]["primitives"][0]
    weights = document.accessor(primitive["attributes"]["WEIGHTS_0"])
    assert weights.dtype == np.uint8
    assert (weights.sum(axis=1, dtype=int) == 255).all()


@pytest.mark.parametrize("turned", [False, True])
def test_positions_stay_where_they_were_in_the_scene(turned, khronos):
    source = Document.from_glb(models.grid(16))
    node = source.json["nodes"][0]
    if turned:
        node["matrix"] = [0, 2, 0, 0, -2, 0, 0, 0, 0, 0, 2, 0, 5, 6, 7, 1]
    else:
        node |= {"translation": [5, 6, 7], "scale": [2, 3, 4]}
    document = source.clone()
    done = quantize(document, QuantizeOptions(positions=True))
    assert done.meshes == 1
    before, after = world_points(source, 0), world_points(document, 0)
    box = np.ptp(before, axis=0).max()
    assert np.abs(after - before).max() <= box / 2**14
    assert document.json["extensionsRequired"] == ["KHR_mesh_quantization"]
    assert khronos([document.to_glb()]) == []
    assert len(document.to_glb()) < 0.7 * len(source.to_glb())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("morphed", "morph targets"),
        ("skinned", "is skinned"),
        ("animated", "is animated"),
        ("unknown_extension", "extension"),
    ],
)
def test_positions_stay_floats_where_the_node_means_more(name, reason):
    document = Document.from_glb(models.VALID[name]())
    before = document.clone()
    done = quantize(document, QuantizeOptions(positions=True))
    assert done.meshes == 0
    assert any(reason in note for note in done.notes)
    assert document.json["nodes"] == before.json["nodes"]


def test_meshes_that_share_positions_share_a_box():
    source = Document.from_glb(models.variants())
    document = source.clone()
    document.json["meshes"].append({"primitives": document.clone().json["meshes"][0]["primitives"]})
    document.json["nodes"].append({"mesh": 1, "translation": [3, 0, 0]})
    document.json["scenes"][0]["nodes"].append(len(document.json["nodes"]) - 1)
    plain = document.clone()
    assert quantize(document, QuantizeOptions(positions=True)).meshes == 2
    for number, node in enumerate(document.json["nodes"]):
        if "mesh" in node:
            assert np.abs(world_points(document, number) - world_points(plain, number)).max() < 1e-3


def test_an_accessor_that_is_a_normal_and_a_colour_becomes_two(khronos):
    document = Document.from_glb(models.sphere())
    attributes = document.json["meshes"][0]["primitives"][0]["attributes"]
    flat = np.tile(np.array([[0, 0, 1]], np.float32), (len(document.accessor(attributes["NORMAL"])), 1))
    document.set_accessor(attributes["NORMAL"], flat, target=34962)
    attributes["COLOR_0"] = attributes["NORMAL"]
    quantize(document)
    types = {n: document.items("accessors")[attributes[n]]["componentType"] for n in ("NORMAL", "COLOR_0")}
    assert types == {"NORMAL": 5120, "COLOR_0": 5121}
    assert khronos([document.to_glb()]) == []


def test_quantized_is_undone_by_decompress():
    document = Document.from_glb(models.sphere())
    quantize(document)
    decompress(document)
    assert "extensionsUsed" not in document.json
    primitive = document.json["meshes"][0]["primitives"][0]
    assert document.accessor(primitive["attributes"]["NORMAL"]).dtype == np.float32


def test_options_out_of_range_are_refused():
    with pytest.raises(ValueError, match="weight_bits must be 8 or 16"):
        QuantizeOptions(weight_bits=12)
    with pytest.raises(ValueError, match="normal_bits must be 2 to 16"):
        QuantizeOptions(normal_bits=1)


@pytest.mark.parametrize("bits", [4, 8, 10, 16])
def test_signed_steps_keep_the_ends_and_zero(bits):
    values = np.array([[-1, 0, 1]], np.float32)
    stored = snorm(values, bits)
    assert (stored / np.iinfo(stored.dtype).max == values).all()


# -- dedup -------------------------------------------------------------------------------------------------------------


def copies() -> Document:
    """Two boxes whose materials, textures and images are copies that an exporter has numbered."""
    w = Writer()
    pixels = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    big = io.BytesIO()
    Image.fromarray(pixels).save(big, "PNG", compress_level=0)
    for number, data in enumerate((big.getvalue(), encode_image(pixels))):
        texture = w.texture(data, name=f"Metal.{number:03d}")
        material = w.add(
            "materials",
            {"name": f"Metal.{number:03d}", "pbrMetallicRoughness": {"baseColorTexture": {"index": texture}}},
        )
        w.node(name=f"box{number}", mesh=w.mesh(shapes.box(), name="box", material=material))
    w.scene(0, 1)
    return Document.from_glb(w.glb())


def test_names_tell_things_apart_unless_asked_otherwise():
    document = copies()
    dedup(document)
    assert len(document.json["materials"]) == len(document.json["images"]) == 2


def test_equal_pixels_are_one_image_and_the_smallest_file_stays(khronos):
    source = copies()
    smallest = min(len(source.view(image["bufferView"])) for image in source.json["images"])
    document = source.clone()
    dedup(document, options=DedupOptions(names=False, pixels=True))
    assert {kind: len(document.json[kind]) for kind in ("materials", "textures", "images", "meshes")} == {
        "materials": 1,
        "textures": 1,
        "images": 1,
        "meshes": 1,
    }
    assert len(document.view(document.json["images"][0]["bufferView"])) == smallest
    assert [node["name"] for node in document.json["nodes"]] == ["box0", "box1"]
    assert khronos([document.to_glb()]) == []
    lost = compare(source, document)
    assert {loss.kind for loss in lost} == {"name"}
    assert any("Metal.001" in loss.detail for loss in lost)


def test_pixels_alone_keep_both_names():
    document = copies()
    dedup(document, options=DedupOptions(pixels=True))
    assert [image["name"] for image in document.json["images"]] == ["Metal.000", "Metal.001"]
    assert len({image["bufferView"] for image in document.json["images"]}) == 1


def test_other_pixels_and_damaged_images_stay_apart():
    document = copies()
    second = document.json["images"][1]
    data = bytearray(document.view(second["bufferView"]))
    document.set_view(second["bufferView"], data[: len(data) // 2])
    dedup(document, options=DedupOptions(names=False, pixels=True))
    prune(document)
    assert len(document.json["images"]) == 2

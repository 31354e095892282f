"""Which images are handed out for encoding, and how strictly."""

from __future__ import annotations

import numpy as np
import pytest

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.losses import compare
from cloudbaker.compute.gltf.optimize import assemble_job, unpack_job
from cloudbaker.compute.gltf.references import AVIF, BASISU, WEBP
from cloudbaker.compute.gltf.textures import encodable_images, replace_images
from cloudbaker.compute.textures.ktx2 import read_ktx2, write_ktx2
from cloudbaker.testing import models


def document() -> Document:
    return Document.from_glb(models.textured(32))


def classes(d: Document) -> dict[int, str]:
    return {image.index: image.slot_class for image in encodable_images(d)}


def test_each_slot_has_its_class():
    assert classes(document()) == {0: "color", 1: "data", 2: "normal"}


@pytest.mark.parametrize(
    ("slot", "slot_class"),
    [
        ("emissiveTexture", "color"),
        ("occlusionTexture", "data"),
        ("normalTexture", "normal"),
    ],
)
def test_an_image_in_two_slots_takes_the_stricter(slot, slot_class):
    d = document()
    d.json["materials"][0][slot] = {"index": 0}
    assert classes(d)[0] == slot_class


@pytest.mark.parametrize(
    ("extension", "slot", "slot_class"),
    [
        ("KHR_materials_clearcoat", "clearcoatNormalTexture", "normal"),
        ("KHR_materials_clearcoat", "clearcoatRoughnessTexture", "data"),
        ("KHR_materials_sheen", "sheenColorTexture", "color"),
        ("KHR_materials_specular", "specularTexture", "data"),
        ("KHR_materials_anisotropy", "anisotropyTexture", "data"),
    ],
)
def test_slots_of_material_extensions_count(extension, slot, slot_class):
    d = document()
    d.json["materials"] = [{"extensions": {extension: {slot: {"index": 0}}}}]
    assert classes(d) == {0: slot_class}


def test_unused_images_and_textures_stay_as_they_are():
    d = document()
    d.json["materials"][0].pop("normalTexture")
    assert classes(d) == {0: "color", 1: "data"}


def test_textures_that_numbers_are_read_from_stay_exact():
    d = document()
    primitive = d.json["meshes"][0]["primitives"][0]
    primitive["extensions"] = {"EXT_mesh_features": {"featureIds": [{"texture": {"index": 0, "channels": [0]}}]}}
    assert 0 not in classes(d)


def test_a_fallback_stays_and_the_webp_beside_it_is_encoded():
    d = document()
    d.json["textures"][0]["extensions"] = {"EXT_texture_webp": {"source": 1}}
    d.json["textures"][1] = {"sampler": 0, "source": 1}
    assert classes(d) == {1: "data", 2: "normal"}


def test_ktx2_stays_and_so_does_its_fallback():
    d = document()
    d.json["textures"][0]["extensions"] = {"KHR_texture_basisu": {"source": 1}}
    assert classes(d) == {2: "normal"}


def test_images_of_environment_maps_and_damaged_ones_stay():
    d = document()
    d.json["extensions"] = {"EXT_lights_image_based": {"lights": [{"specularImages": [[0]]}]}}
    d.set_view(d.json["images"][1]["bufferView"], b"no image")
    assert classes(d) == {2: "normal"}


def test_an_encoded_png_leaves_the_texture_as_it_is():
    d = document()
    replace_images(d, {0: (b"\x89PNG\r\n\x1a\nnew", "image/png")})
    assert d.json["textures"][0]["source"] == 0
    assert "extensionsRequired" not in d.json
    assert bytes(d.view(d.json["images"][0]["bufferView"])).endswith(b"new")


def ktx2(seed: int = 0, *, srgb: bool = True, size: int = 32) -> bytes:
    """A sound KTX2 around blocks that nobody decodes; some 16 bytes for each of them."""
    blocks = np.random.default_rng(seed).bytes((size // 4) ** 2 * 16)
    return write_ktx2([blocks], size, size, codec="uastc", srgb=srgb)


def test_ktx2_takes_the_place_of_png_and_is_required():
    d = document()
    replace_images(d, {0: (ktx2(), "image/ktx2"), 2: (ktx2(1, srgb=False), "image/ktx2")})
    assert d.json["textures"][0]["extensions"] == {BASISU: {"source": 0}}
    assert "source" not in d.json["textures"][0]
    assert d.json["textures"][1]["source"] == 1
    assert d.json["images"][0]["mimeType"] == "image/ktx2"
    assert d.json["extensionsRequired"] == d.json["extensionsUsed"] == [BASISU]


def test_a_webp_that_becomes_ktx2_leaves_its_extension_behind():
    d = document()
    replace_images(d, {0: (b"RIFF....WEBP", "image/webp"), 1: (b"RIFF....WEBP", "image/webp")})
    assert d.json["extensionsRequired"] == [WEBP]
    replace_images(d, {0: (ktx2(), "image/ktx2")})
    assert d.json["textures"][0]["extensions"] == {BASISU: {"source": 0}}
    assert d.json["extensionsRequired"] == [WEBP, BASISU]
    replace_images(d, {1: (ktx2(), "image/ktx2")})
    assert d.json["extensionsRequired"] == d.json["extensionsUsed"] == [BASISU]


def test_avif_has_its_own_extension():
    d = document()
    replace_images(d, {0: (b"....ftypavif", "image/avif")})
    assert d.json["textures"][0]["extensions"] == {AVIF: {"source": 0}}
    assert d.json["extensionsRequired"] == [AVIF]


def test_a_fallback_stands_beside_it_and_nothing_is_required():
    d = document()
    count = len(d.json["images"])
    replace_images(d, {0: (ktx2(), "image/ktx2")}, {0: (b"\x89PNG\r\n\x1a\nsmall", "image/png")})
    assert d.json["textures"][0] == {**d.json["textures"][0], "source": count, "extensions": {BASISU: {"source": 0}}}
    assert d.json["images"][count]["mimeType"] == "image/png"
    assert d.json["images"][count]["name"] == d.json["images"][0]["name"]
    assert d.json["extensionsUsed"] == [BASISU]
    assert "extensionsRequired" not in d.json


def test_a_fallback_that_the_source_had_stays():
    d = document()
    d.json["textures"][0]["extensions"] = {WEBP: {"source": 1}}
    d.declare(WEBP)
    replace_images(d, {1: (ktx2(), "image/ktx2")})
    assert d.json["textures"][0]["source"] == 0
    assert d.json["textures"][0]["extensions"] == {BASISU: {"source": 1}}
    assert "extensionsRequired" in d.json  # texture 1 names the same image without a fallback


def test_samplers_and_cut_outs_are_told():
    d = document()
    [color, *_] = encodable_images(d)
    assert (color.mips, color.alpha_cutoff) == (True, None)
    d.json["samplers"] = [{"minFilter": 9729}]
    d.json["textures"][0]["sampler"] = 0
    d.json["materials"][0] |= {"alphaMode": "MASK", "alphaCutoff": 0.25}
    d.json["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"] = [1, 1, 1, 0.5]
    [color, *_] = encodable_images(d)
    assert (color.mips, color.alpha_cutoff) == (False, 0.5)
    other = {**d.json["materials"][0], "alphaMode": "BLEND"}
    d.json["materials"].append(other)
    assert encodable_images(d)[0].alpha_cutoff is None


def test_moving_to_another_format_is_no_loss():
    source = document()
    source.json["textures"][1]["extensions"] = {WEBP: {"source": 1}}
    del source.json["textures"][1]["source"]
    baked = source.clone()
    replace_images(baked, {i: (ktx2(), "image/ktx2") for i in range(3)})
    assert compare(source, baked) == []
    del baked.json["textures"][0]["extensions"]
    assert [loss.kind for loss in compare(source, baked)] == ["texture"]


def assembled(data: bytes, budget: float = 1.0, size: int = 32):
    """`assemble_job` with a heavier form of each image on offer."""
    unpacked = unpack_job({"model.glb": memoryview(data)}, {})
    inputs = {"model.glb": memoryview(data)}
    offers = []
    for row in unpacked.value["images"]:
        name = f"{row['file']}.image"
        content = ktx2(row["index"], srgb=row["slot_class"] == "color", size=size)
        inputs[name] = memoryview(content)
        offers.append({"index": row["index"], "file": name, "mime": "image/ktx2", "saves": 1000 + row["index"]})
    return assemble_job(inputs, {"heavier": offers, "budget": budget, "lods": [LOD]}), len(data)


LOD = {"variant": "lod1", "ratio": 0.5, "max_error_percent": 5.0}


def test_heavier_textures_go_into_every_file_within_the_budget():
    result, size = assembled(models.textured(32))
    assert sorted(result.value["heavier"]) == [0, 1, 2]
    for content in result.files.values():
        assert len(content) <= size
        baked = Document.from_glb(content)
        assert {image["mimeType"] for image in baked.json["images"]} == {"image/ktx2"}
        assert baked.json["extensionsRequired"].count(BASISU) == 1
        for image in baked.json["images"]:
            assert read_ktx2(bytes(baked.view(image["bufferView"]))).width == 32
    assert not result.value["losses"]


def test_there_is_no_room_beyond_the_budget():
    model = models.textured(32)
    none, size = assembled(model, budget=0.01, size=64)
    assert none.value["heavier"] == []
    budget = (len(none.files["model.glb"]) + 2500) / size  # 4 kB of blocks take the place of 2 kB of PNG
    result, _ = assembled(model, budget=budget, size=64)
    assert len(result.value["heavier"]) == 1
    assert all(len(content) <= budget * size for content in result.files.values())

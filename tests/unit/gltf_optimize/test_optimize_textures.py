"""Which images are handed out for encoding, and how strictly."""

from __future__ import annotations

import pytest

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.textures import encodable_images, replace_images
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

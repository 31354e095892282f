"""Material and texture verbs: unlit, specular-glossiness to metallic-roughness, merging and splitting of channels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cloudbaker.compute.gltf import Document, compare, merge_textures, metal_rough, prune, split_textures, unlit
from cloudbaker.compute.gltf.merge_textures import MergeOptions
from cloudbaker.compute.gltf.metal_rough import DIELECTRIC, MetalRoughOptions, solve
from cloudbaker.compute.gltf.pixels import TextureWork
from cloudbaker.compute.gltf.unlit import UnlitOptions
from cloudbaker.testing import models, shapes
from cloudbaker.testing.writer import Writer, encode_image

GLOSSY = "KHR_materials_pbrSpecularGlossiness"


def pixels(document: Document, texture: int) -> np.ndarray:
    """Decoded with Pillow alone, not by the code under test."""
    item = document.items("textures")[texture]
    source = item.get("source", item.get("extensions", {}).get("EXT_texture_webp", {}).get("source"))
    data = document.view(document.items("images")[source]["bufferView"])
    return np.asarray(Image.open(io.BytesIO(bytes(data))))


def noisy(size: int, channels: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, channels), np.uint8)


def crate(material: dict[str, Any], *images: np.ndarray, extensions: tuple[str, ...] = ()) -> Document:
    """A box with one material; image i is texture i."""
    w = Writer()
    for number, image in enumerate(images):
        w.texture(encode_image(image), name=f"image{number}")
    w.scene(w.node(name="crate", mesh=w.mesh(shapes.box(), name="crate", material=w.add("materials", material))))
    for extension in extensions:
        w.use(extension)
    return Document.from_glb(w.glb())


# -- unlit -------------------------------------------------------------------------------------------------------------


def test_unlit_keeps_the_colour_and_drops_what_only_light_needs(khronos):
    document = Document.from_glb(models.textured(16))
    color = pixels(document, document.json["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]["index"])
    assert unlit(document) == 1
    [material] = document.json["materials"]
    assert material["extensions"] == {"KHR_materials_unlit": {}}
    assert material["name"] == "striped"
    assert "normalTexture" not in material
    assert material["pbrMetallicRoughness"]["metallicFactor"] == 0
    # The textures that nothing shows any more are gone, the one that is shown is what it was.
    assert len(document.json["textures"]) == len(document.json["images"]) == 1
    assert (pixels(document, material["pbrMetallicRoughness"]["baseColorTexture"]["index"]) == color).all()
    assert khronos([document.to_glb()]) == []
    assert unlit(document) == 0


def test_unlit_by_name_leaves_the_others():
    document = Document.from_glb(models.variants())
    names = [material["name"] for material in document.json["materials"]]
    assert unlit(document, UnlitOptions(names=(names[1],))) == 1
    lit = [m["name"] for m in document.json["materials"] if "KHR_materials_unlit" not in m.get("extensions", {})]
    assert lit == [name for name in names if name != names[1]]


def test_unlit_can_show_the_emission_of_a_scan():
    material = {
        "emissiveFactor": [0.5, 0.25, 1],
        "emissiveTexture": {"index": 0},
        "extensions": {"KHR_materials_emissive_strength": {"emissiveStrength": 2}},
    }
    document = crate(material, noisy(4, 3, 1), extensions=("KHR_materials_emissive_strength",))
    unlit(document, UnlitOptions(color="emissive"))
    pbr = document.json["materials"][0]["pbrMetallicRoughness"]
    assert pbr["baseColorFactor"] == [1, 0.5, 1, 1]
    assert pbr["baseColorTexture"] == {"index": 0}
    assert document.json["extensionsUsed"] == ["KHR_materials_unlit"]


def test_unlit_takes_the_diffuse_colour_of_a_glossy_material():
    document = crate({"extensions": {GLOSSY: {"diffuseFactor": [1, 0, 0, 0.5]}}}, extensions=(GLOSSY,))
    unlit(document)
    assert document.json["materials"][0]["pbrMetallicRoughness"]["baseColorFactor"] == [1, 0, 0, 0.5]
    assert GLOSSY not in document.json["extensionsUsed"]


def test_unlit_without_normals_is_smaller_and_valid(khronos):
    document = Document.from_glb(models.morphed())
    size = len(document.to_glb())
    unlit(document, UnlitOptions(keep_normals=False))
    primitive = document.json["meshes"][0]["primitives"][0]
    assert "NORMAL" not in primitive["attributes"]
    assert all("NORMAL" not in target for target in primitive["targets"])
    assert len(document.to_glb()) < size
    assert khronos([document.to_glb()]) == []


def test_normals_in_a_draco_payload_stay(khronos):
    """The payload says that it has them; the two must agree. A mutant found it."""
    document = Document.from_glb(models.draco())
    unlit(document, UnlitOptions(keep_normals=False))
    assert "NORMAL" in document.json["meshes"][0]["primitives"][0]["attributes"]
    assert khronos([document.to_glb()]) == []


def test_a_material_whose_emission_is_animated_stays_lit():
    document = crate({"emissiveFactor": [1, 1, 1]}, extensions=("KHR_animation_pointer",))
    times, values = (document.add_accessor(np.zeros((2, n), np.float32), bounds=n == 1) for n in (1, 3))
    target = {"path": "pointer", "extensions": {"KHR_animation_pointer": {"pointer": "/materials/0/emissiveFactor"}}}
    document.json["animations"] = [
        {"channels": [{"sampler": 0, "target": target}], "samplers": [{"input": times, "output": values}]}
    ]
    assert unlit(document) == 0


# -- specular-glossiness -----------------------------------------------------------------------------------------------


def test_factors_alone_become_the_same_reflection(khronos):
    glossy = {"diffuseFactor": [0.2, 0.4, 0.6, 1], "specularFactor": [0.1, 0.2, 0.3], "glossinessFactor": 0.7}
    document = crate({"name": "paint", "extensions": {GLOSSY: glossy}}, extensions=(GLOSSY,))
    done = metal_rough(document)
    assert (done.materials, done.textures, done.notes) == (1, 0, ())
    [material] = document.json["materials"]
    assert material["pbrMetallicRoughness"] == {
        "baseColorFactor": [0.2, 0.4, 0.6, 1],
        "metallicFactor": 0,
        "roughnessFactor": 0.3,
    }
    assert material["extensions"] == {
        "KHR_materials_specular": {"specularColorFactor": [0.1, 0.2, 0.3]},
        "KHR_materials_ior": {"ior": 0},
    }
    assert document.json["extensionsUsed"] == ["KHR_materials_specular", "KHR_materials_ior"]
    assert khronos([document.to_glb()]) == []


def test_gloss_in_alpha_becomes_roughness_in_green_texel_by_texel(khronos):
    diffuse, shiny = noisy(8, 3, 1), noisy(8, 4, 2)
    glossy = {
        "diffuseTexture": {"index": 0},
        "specularGlossinessTexture": {"index": 1, "texCoord": 0},
        "glossinessFactor": 0.5,
    }
    document = crate({"extensions": {GLOSSY: glossy}}, diffuse, shiny, extensions=(GLOSSY,))
    done = metal_rough(document)
    assert (done.materials, done.textures) == (1, 2)
    [material] = document.json["materials"]
    pbr, specular = material["pbrMetallicRoughness"], material["extensions"]["KHR_materials_specular"]
    assert (pixels(document, pbr["baseColorTexture"]["index"]) == diffuse).all()
    assert (pixels(document, specular["specularColorTexture"]["index"]) == shiny[..., :3]).all()
    rough = pixels(document, pbr["metallicRoughnessTexture"]["index"])[..., 1] / 255
    assert np.abs(rough - (1 - shiny[..., 3] / 255 * 0.5)).max() <= 0.5 / 255 + 1e-9
    # The image of the colour is the heir of the one that held both.
    assert [image["name"] for image in document.json["images"]] == ["image0", "image1", "image1-roughness"]
    assert khronos([document.to_glb()]) == []


def test_an_opaque_glossy_image_stays_as_it_is():
    glossy = {"specularGlossinessTexture": {"index": 0}, "glossinessFactor": 0.25}
    document = crate({"extensions": {GLOSSY: glossy}}, noisy(4, 3, 3), extensions=(GLOSSY,))
    assert metal_rough(document).textures == 0
    assert document.json["materials"][0]["pbrMetallicRoughness"]["roughnessFactor"] == 0.75
    assert len(document.json["images"]) == 1


def test_materials_that_share_images_share_the_new_ones():
    glossy = {"specularGlossinessTexture": {"index": 0}}
    document = crate({"extensions": {GLOSSY: glossy}}, noisy(4, 4, 4), extensions=(GLOSSY,))
    document.json["materials"].append({"name": "twin", "extensions": {GLOSSY: {**glossy, "specularFactor": [1, 0, 0]}}})
    document.json["meshes"][0]["primitives"].append({**document.json["meshes"][0]["primitives"][0], "material": 1})
    assert metal_rough(document).textures == 2
    assert len(document.json["images"]) == 2


@pytest.mark.parametrize("metal", [0.0, 0.5, 1.0])
def test_the_solver_finds_what_core_gltf_would_have_said(metal):
    """Colours of known metalness, as diffuse and specular: the solver has to come back to them."""
    base = np.random.default_rng(7).uniform(0.2, 1, (500, 3))
    diffuse = base * (1 - DIELECTRIC) * (1 - metal) / (1 - (DIELECTRIC * (1 - metal) + base * metal).max(-1))[:, None]
    specular = DIELECTRIC * (1 - metal) + base * metal
    keep = (diffuse <= 1).all(axis=1)
    found, share = solve(diffuse[keep], specular[keep])
    assert keep.sum() > 50
    tolerance = 0.12 if metal == 0.5 else 1e-5  # between the two the brightness is met, not each colour
    assert np.abs(share - metal).max() < tolerance
    assert np.abs(found - base[keep]).mean() < tolerance


def test_core_gltf_only_by_choice(khronos):
    diffuse, shiny = noisy(8, 4, 5), noisy(4, 4, 6)
    glossy = {
        "diffuseTexture": {"index": 0},
        "specularGlossinessTexture": {"index": 1},
        "diffuseFactor": [1, 1, 1, 0.5],
    }
    document = crate({"alphaMode": "BLEND", "extensions": {GLOSSY: glossy}}, diffuse, shiny, extensions=(GLOSSY,))
    assert metal_rough(document, MetalRoughOptions(method="metallic")).materials == 1
    [material] = document.json["materials"]
    assert "extensions" not in material
    assert "extensionsUsed" not in document.json
    pbr = material["pbrMetallicRoughness"]
    assert pbr["baseColorFactor"] == [1, 1, 1, 0.5]
    base = pixels(document, pbr["baseColorTexture"]["index"])
    assert (base[..., 3] == diffuse[..., 3]).all()
    assert khronos([document.to_glb()]) == []


def test_plain_white_plastic_stays_what_it_is_in_core_gltf():
    """Diffuse 0.8 over the reflection of every dielectric: metallic-roughness can say that exactly."""
    glossy = {"diffuseFactor": [0.8, 0.8, 0.8, 1], "specularFactor": [0.04] * 3, "glossinessFactor": 0.5}
    document = crate({"extensions": {GLOSSY: glossy}}, extensions=(GLOSSY,))
    metal_rough(document, MetalRoughOptions(method="metallic"))
    pbr = document.json["materials"][0]["pbrMetallicRoughness"]
    assert pbr["metallicFactor"] == pytest.approx(0, abs=1e-6)
    assert pbr["baseColorFactor"][:3] == pytest.approx([0.8] * 3)


def test_what_can_not_be_read_stays_glossy_and_is_told():
    glossy = {"specularGlossinessTexture": {"index": 0}}
    document = crate({"extensions": {GLOSSY: glossy}}, noisy(4, 4, 8), extensions=(GLOSSY,))
    view = document.json["images"][0]["bufferView"]
    document.set_view(view, bytes(document.view(view))[:60])
    before = document.clone()
    done = metal_rough(document)
    assert done.materials == 0
    assert "image.damaged" not in done.notes[0]
    assert done.notes[0].startswith("/materials/0: image 0: the image/png is truncated or damaged")
    assert document.json == before.json


# -- merging and splitting ---------------------------------------------------------------------------------------------


def two_textured(first: np.ndarray, second: np.ndarray, **occlusion: Any) -> Document:
    return crate(
        {
            "occlusionTexture": {"index": 0, "strength": 0.5, **occlusion},
            "pbrMetallicRoughness": {"metallicRoughnessTexture": {"index": 1}, "roughnessFactor": 0.9},
        },
        first,
        second,
    )


def test_two_images_become_one_and_every_channel_stays(khronos):
    occlusion, rough = noisy(16, 3, 1), noisy(16, 3, 2)
    document = two_textured(occlusion, rough)
    done = merge_textures(document)
    assert (done.materials, done.textures, done.notes) == (1, 1, ())
    [material] = document.json["materials"]
    index = material["occlusionTexture"]["index"]
    assert material["pbrMetallicRoughness"]["metallicRoughnessTexture"]["index"] == index
    assert material["occlusionTexture"]["strength"] == 0.5
    assert len(document.json["images"]) == len(document.json["textures"]) == 1
    merged = pixels(document, index)
    assert (merged == np.dstack([occlusion[..., 0], rough[..., 1], rough[..., 2]])).all()
    assert khronos([document.to_glb()]) == []


def test_splitting_is_the_way_back():
    occlusion, rough = noisy(16, 3, 1), noisy(16, 3, 2)
    document = two_textured(occlusion, rough)
    merge_textures(document, MergeOptions(format="webp"))
    assert document.json["extensionsRequired"] == ["EXT_texture_webp"]
    done = split_textures(document)
    assert (done.materials, done.textures, done.notes) == (1, 2, ())
    [material] = document.json["materials"]
    grey = pixels(document, material["occlusionTexture"]["index"])
    assert grey.ndim == 2
    assert (grey == occlusion[..., 0]).all()
    again = pixels(document, material["pbrMetallicRoughness"]["metallicRoughnessTexture"]["index"])
    assert (again[..., 1:] == rough[..., 1:]).all()
    assert not again[..., 0].any()
    assert split_textures(document).materials == 0


@pytest.mark.parametrize(
    ("occlusion", "reason"),
    [
        ({"texCoord": 1}, "lie differently on the surface"),
        ({"extensions": {"KHR_texture_transform": {"offset": [0.5, 0]}}}, "lie differently on the surface"),
    ],
)
def test_what_lies_elsewhere_is_not_merged(occlusion, reason):
    document = two_textured(noisy(4, 3, 1), noisy(4, 3, 2), **occlusion)
    done = merge_textures(document)
    assert done.materials == 0
    assert reason in done.notes[0]


def test_other_sizes_are_merged_on_request():
    document = two_textured(np.full((4, 4, 3), 200, np.uint8), noisy(16, 3, 2))
    assert "4 × 4 and 16 × 16 pixels" in merge_textures(document).notes[0]
    assert merge_textures(document, MergeOptions(resize=True)).materials == 1
    index = document.json["materials"][0]["occlusionTexture"]["index"]
    merged = pixels(document, index)
    assert merged.shape == (16, 16, 3)
    assert (merged[..., 0] == 200).all()


def test_a_damaged_image_is_not_merged_and_nothing_is_lost():
    document = two_textured(noisy(16, 3, 1), noisy(16, 3, 2))
    view = document.json["images"][0]["bufferView"]
    document.set_view(view, bytes(document.view(view))[:200])
    before = document.clone()
    done = merge_textures(document)
    assert done.materials == done.textures == 0
    assert "image 0: the image/png is truncated" in done.notes[0]
    assert document.json == before.json


def test_many_textures_are_not_all_kept_decoded():
    document = two_textured(noisy(8, 3, 1), noisy(8, 3, 2))
    for number in range(3, 12):
        view = document.add_view(encode_image(noisy(8, 3, number)))
        document.json["images"].append({"bufferView": view, "mimeType": "image/png"})
        document.json["textures"].append({"source": number - 1})
    work = TextureWork(document)
    for texture in (0, *range(11), 0):
        assert (work.pixels(texture) == noisy(8, 3, texture + 1)).all()
    assert len(work._read) == 4


def test_a_transform_of_the_glossy_texture_goes_with_both():
    placed = {"index": 0, "texCoord": 1, "extensions": {"KHR_texture_transform": {"scale": [2, 2]}}}
    document = crate({"extensions": {GLOSSY: {"specularGlossinessTexture": placed}}}, noisy(4, 4, 1))
    metal_rough(document)
    [material] = document.json["materials"]
    infos = (
        material["pbrMetallicRoughness"]["metallicRoughnessTexture"],
        material["extensions"]["KHR_materials_specular"]["specularColorTexture"],
    )
    for info in infos:
        assert {**info, "index": 0} == placed


def test_other_sampling_is_not_merged():
    document = two_textured(noisy(4, 3, 1), noisy(4, 3, 2))
    document.json["samplers"].append({"wrapS": 33071})
    document.json["textures"][0]["sampler"] = len(document.json["samplers"]) - 1
    assert "sampled differently" in merge_textures(document).notes[0]


def test_an_image_that_is_needed_elsewhere_is_not_merged():
    """Else there would be three images in the place of two."""
    document = two_textured(noisy(4, 3, 1), noisy(4, 3, 2))
    document.json["materials"][0]["emissiveTexture"] = {"index": 0}
    assert "something else uses" in merge_textures(document).notes[0]
    assert len(document.json["images"]) == 2


def test_one_that_stays_makes_its_partners_stay():
    document = two_textured(noisy(4, 3, 1), noisy(4, 3, 2))
    rough = noisy(4, 3, 3)
    view = document.add_view(encode_image(rough))
    document.json["images"].append({"bufferView": view, "mimeType": "image/png"})
    document.json["textures"].append({"source": 2})
    other = {"occlusionTexture": {"index": 0}, "pbrMetallicRoughness": {"metallicRoughnessTexture": {"index": 2}}}
    document.json["materials"] += [other, {"emissiveTexture": {"index": 2}}]
    primitives = document.json["meshes"][0]["primitives"]
    primitives += [{**primitives[0], "material": 1}, {**primitives[0], "material": 2}]
    done = merge_textures(document)
    assert done.materials == 0
    assert [note.split(":")[0] for note in done.notes] == ["/materials/0", "/materials/1"]


def test_what_is_merged_is_told_as_a_loss_of_names_only():
    document = two_textured(noisy(4, 3, 1), noisy(4, 3, 2))
    source = document.clone()
    merge_textures(document)
    prune(document)
    kinds = {loss.kind for loss in compare(source, document)}
    assert kinds <= {"name"}

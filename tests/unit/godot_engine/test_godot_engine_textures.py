"""ASTC by our own encoder, read back by another decoder; the container that Godot reads; images out of models."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import texture2ddecoder
from PIL import Image

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.godot.model import model_job, part
from cloudbaker.compute.textures.astc import AstcOptions, encode, encode_job, whole_blocks
from cloudbaker.compute.textures.ctex import ASTC_4X4, ctex
from cloudbaker.compute.textures.decode import ImageError
from cloudbaker.testing import models


def smooth(width: int, height: int, *, alpha: bool = False, normal: bool = False) -> bytes:
    x, y = np.meshgrid(np.linspace(0, 6, width), np.linspace(0, 6, height))
    if normal:
        vectors = np.stack([0.4 * np.sin(x), 0.4 * np.cos(y), np.ones_like(x)], -1)
        pixels = np.rint((vectors / np.linalg.norm(vectors, axis=-1, keepdims=True) + 1) * 127.5)
    else:
        pixels = np.stack([128 + 100 * np.sin(x), 128 + 100 * np.cos(y), 128 + 90 * np.sin(x + y)], -1)
        if alpha:
            pixels = np.dstack([pixels, 128 + 127 * np.sin(x * y)])
    target = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(target, "PNG")
    return target.getvalue()


@pytest.mark.parametrize(("slot_class", "least"), [("color", 40), ("data", 36), ("normal", 36)])
def test_texture_is_what_it_was_by_another_decoder(slot_class: str, least: float) -> None:
    data = smooth(130, 70, normal=slot_class == "normal")
    done = encode(data, AstcOptions(slot_class=slot_class))  # type: ignore[arg-type]
    assert (done.width, done.height) == (132, 72)
    assert done.psnr_db > least
    bgra = texture2ddecoder.decode_astc(done.levels[0], done.width, done.height, 4, 4)
    seen = np.frombuffer(bgra, np.uint8).reshape(done.height, done.width, 4)[..., 2::-1].astype(float)
    wanted = np.asarray(Image.open(io.BytesIO(data)).resize((132, 72), Image.Resampling.LANCZOS)).astype(float)
    channels = 2 if slot_class == "normal" else 3  # nobody reads z
    assert np.abs(seen - wanted)[..., :channels].mean() < 2.5
    if slot_class == "normal":
        assert done.angle_degrees is not None
        assert done.angle_degrees < 1.0


def test_alpha_is_kept_and_mipmaps_go_down_to_one_texel() -> None:
    done = encode(smooth(64, 16, alpha=True))
    assert [len(level) // 16 for level in done.levels] == [16 * 4, 8 * 2, 4, 2, 1, 1, 1]
    bgra = texture2ddecoder.decode_astc(done.levels[0], 64, 16, 4, 4)
    alpha = np.frombuffer(bgra, np.uint8).reshape(16, 64, 4)[..., 3]
    assert alpha.min() < 40
    assert alpha.max() > 215


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [
        ((2048, 1024), 2048, (2048, 1024)),
        ((4096, 4096), 2048, (2048, 2048)),
        ((5, 3), 64, (8, 4)),
        ((1, 1), 64, (4, 4)),
    ],
)
def test_sizes_are_whole_blocks(size, most: int, expected) -> None:
    assert whole_blocks(*size, most) == expected


def test_container() -> None:
    levels = [bytes([n]) * 16 for n in range(3)]
    data = ctex(4, 4, levels)
    assert struct.unpack_from("<4s4I", data) == (b"GST2", 1, 4, 4, 1 << 23)
    assert struct.unpack_from("<IHHII", data, 36) == (0, 4, 4, 2, ASTC_4X4)
    assert data[52:] == b"".join(levels)
    with pytest.raises(ValueError, match="3 levels"):
        ctex(4, 4, levels[:2])
    with pytest.raises(ValueError, match="no size"):
        ctex(1 << 16, 4, [b""])


def test_damage_and_size_are_findings() -> None:
    with pytest.raises(ImageError):
        encode(b"no image")
    value = encode_job({"image": memoryview(smooth(64, 64))}, {"image_pixels": 100}).value
    assert value["findings"][0]["code"] == "image.too-large"
    assert encode_job({"image": memoryview(smooth(64, 64)[:200])}, {}).value["findings"][0]["code"] == "image.damaged"


# -- models ------------------------------------------------------------------------------------------------------------


def document(glb: bytes) -> dict:
    return Document.from_glb(glb).json


def test_images_go_out_and_are_referred_to_by_name() -> None:
    parted = part(models.textured(64), stem="crate")
    inside = document(parted.model)
    assert {image["uri"] for image in inside["images"]} == parted.textures.keys()
    assert all(name.startswith("crate.") and name.endswith(".png") for name in parted.textures)
    assert not any("bufferView" in image for image in inside["images"])
    assert set(parted.slot_classes.values()) == {"color", "data", "normal"}
    assert len(parted.model) < len(models.textured(64)) - sum(map(len, parted.textures.values())) + 500


@pytest.mark.parametrize("maker", [models.draco, models.meshopt, models.quantized])
def test_geometry_is_plain_afterwards(maker) -> None:
    result = model_job({"model.glb": memoryview(maker())}, {"name": "a b/ball.glb", "lods": []})
    inside = document(bytes(result.files["model.glb"]))
    assert not inside.get("extensionsRequired")
    assert not {"KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_mesh_quantization"} & set(
        inside.get("extensionsUsed", ())
    )
    positions = {p["attributes"]["POSITION"] for mesh in inside["meshes"] for p in mesh["primitives"]}
    assert {inside["accessors"][index]["componentType"] for index in positions} == {5126}


def test_webp_loses_its_extension_and_levels_share_textures() -> None:
    glb = models.textured(64, mime="image/webp")
    lods = [{"variant": "lod1", "ratio": 0.5, "max_error_percent": 5.0}]
    result = model_job({"model.glb": memoryview(glb)}, {"name": "x.glb", "lods": lods})
    inside = document(bytes(result.files["model.glb"]))
    assert "EXT_texture_webp" not in inside.get("extensionsUsed", ())
    assert all("source" in texture for texture in inside["textures"])
    names = [row["name"] for row in result.value["textures"]]
    assert len(names) == len(set(names)) == 3
    assert any(name.endswith(".webp") for name in names)
    level = document(bytes(result.files["lod1.glb"]))
    assert {image["uri"] for image in level["images"]} <= set(names)


def test_a_model_from_a_strangers_name_makes_plain_file_names() -> None:
    result = model_job({"model.glb": memoryview(models.textured(64))}, {"name": 'ev\u202eil "..%2f.glb', "lods": []})
    assert all(set(row["name"]) <= set("abcdefghijklmnopqrstuvwxyz0123456789_.-") for row in result.value["textures"])


def test_spot_lights_say_their_angles() -> None:
    result = model_job({"model.glb": memoryview(models.lights())}, {"name": "x.glb", "lods": []})
    lights = document(bytes(result.files["model.glb"]))["extensions"]["KHR_lights_punctual"]["lights"]
    spots = [light["spot"] for light in lights if light["type"] == "spot"]
    assert spots
    assert all(0 <= spot["innerConeAngle"] < spot["outerConeAngle"] for spot in spots)


def test_a_model_that_cant_be_read_is_a_finding() -> None:
    result = model_job({"model.glb": memoryview(models.box()[:-40])}, {"name": "x.glb", "lods": []})
    assert [f["code"] for f in result.value["findings"]] == ["godot.model"]
    assert not result.files

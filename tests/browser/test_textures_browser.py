"""KTX2 textures in the real Chromium: three.js, its transcoder, and the same picture as before.

Each slot of a material is baked as the `web` recipe plans it, all in KTX2, and rendered beside its source.

    CLOUDBAKER_TEST_MODELS=FOLDER pytest --slow tests/browser/test_textures_browser.py

bakes every .glb of a folder as well, the whole way, and compares the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cloudbaker as cb
from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.optimize import assemble_job, unpack_job
from cloudbaker.compute.previews import Previewer
from cloudbaker.compute.textures.encode import encode_job
from cloudbaker.compute.textures.ktx2 import read_ktx2
from cloudbaker.compute.textures.slots import plan
from cloudbaker.recipe import Textures
from cloudbaker.testing import shapes
from cloudbaker.testing.writer import Writer, encode_image

pytestmark = pytest.mark.chromium

LEAST_DB = 36.0
"""PSNR of the rendered pictures, over the pixels that show the model."""
SIZE = 192


@pytest.fixture(scope="module")
def previewer() -> Iterator[Previewer]:
    with Previewer() as shared:
        shared.warm()
        yield shared


def stone(size: int = 128, seed: int = 1) -> np.ndarray:
    light = shapes.noise(size, seed=seed, octaves=4)
    planes = [0.2 + 0.5 * light + 0.3 * shapes.noise(size, seed=seed + 1 + c, octaves=2) for c in range(3)]
    return shapes.to_bytes(np.stack(planes, axis=-1))


def bumps(size: int = 128) -> np.ndarray:
    return shapes.normal_map(shapes.noise(size, seed=5, octaves=3), 6)


def leaves(size: int = 128) -> np.ndarray:
    pixels = np.dstack([stone(size), np.zeros((size, size), np.uint8)])
    pixels[..., 3] = np.where(np.abs(shapes.noise(size, seed=4, octaves=2) - 0.5) < 0.12, 255, 0)
    return pixels


def clear(size: int = 128) -> np.ndarray:
    """Colours whose alpha says something of its own."""
    return np.dstack([stone(size), shapes.to_bytes(shapes.noise(size, seed=8, octaves=3))])


Slot = tuple[dict[str, Any], np.ndarray]
PLAIN = {"baseColorFactor": [0.7, 0.6, 0.5, 1], "metallicFactor": 0.0, "roughnessFactor": 0.4}
TEXTURE = {"index": 0}


def extension(name: str, **properties: Any) -> dict[str, Any]:
    return {"pbrMetallicRoughness": PLAIN, "extensions": {f"KHR_materials_{name}": properties}}


SLOTS: dict[str, Slot] = {
    "baseColorTexture": ({"pbrMetallicRoughness": {"baseColorTexture": TEXTURE, "metallicFactor": 0}}, stone()),
    "a cut-out": (
        {
            "pbrMetallicRoughness": {"baseColorTexture": TEXTURE, "metallicFactor": 0},
            "alphaMode": "MASK",
            "doubleSided": True,
        },
        leaves(),
    ),
    "emissiveTexture": ({"emissiveTexture": TEXTURE, "emissiveFactor": [1, 1, 1]}, stone()),
    "normalTexture": ({"pbrMetallicRoughness": PLAIN, "normalTexture": TEXTURE}, bumps()),
    "metallicRoughnessTexture": ({"pbrMetallicRoughness": {"metallicRoughnessTexture": TEXTURE}}, stone()),
    "occlusionTexture": ({"pbrMetallicRoughness": PLAIN, "occlusionTexture": TEXTURE}, stone()),
    "sheen": (
        extension("sheen", sheenColorFactor=[1, 1, 1], sheenColorTexture=TEXTURE, sheenRoughnessTexture=TEXTURE,
                  sheenRoughnessFactor=0.8),
        clear(),
    ),
    "specular": (extension("specular", specularColorTexture=TEXTURE, specularTexture=TEXTURE), clear()),
    "transmission": (
        extension("transmission", transmissionFactor=0.8, transmissionTexture=TEXTURE), stone()
    ),
    "clearcoat": (
        extension("clearcoat", clearcoatFactor=1, clearcoatTexture=TEXTURE, clearcoatRoughnessTexture=TEXTURE,
                  clearcoatRoughnessFactor=0.5),
        stone(),
    ),
    "clearcoatNormalTexture": (extension("clearcoat", clearcoatFactor=1, clearcoatNormalTexture=TEXTURE), bumps()),
    "iridescence": (extension("iridescence", iridescenceFactor=1, iridescenceTexture=TEXTURE), stone()),
    "anisotropy": (extension("anisotropy", anisotropyStrength=0.7, anisotropyTexture=TEXTURE), bumps()),
}  # fmt: skip


def model(slot: str) -> bytes:
    material, pixels = SLOTS[slot]
    w = Writer()
    w.texture(encode_image(pixels), name=slot)
    for name in material.get("extensions", {}):
        w.json.setdefault("extensionsUsed", []).append(name)
    number = w.add("materials", {"name": slot, **material})
    w.scene(w.node(name="ball", mesh=w.mesh(shapes.sphere(1, 32), material=number)))
    return w.glb()


def baked(data: bytes, *, fallback: int = 0) -> bytes:
    """All images in KTX2, whatever they cost."""
    textures = Textures(format="ktx2", fallback=fallback).model_dump(mode="json")
    unpacked = unpack_job({"model.glb": memoryview(data)}, {})
    inputs: dict[str, memoryview] = {"model.glb": memoryview(data)}
    rows = []
    for image in unpacked.value["images"]:
        done = encode_job({"image": unpacked.files[image["file"]]}, plan(image, textures))
        assert done.value["findings"] == []
        inputs |= {f"{image['file']}.{name}": memoryview(content) for name, content in done.files.items()}
        row = {"index": image["index"], "file": f"{image['file']}.image", "mime": done.value["mime"], "saves": 1 << 20}
        if fallback:
            row["fallback"] = {"file": f"{image['file']}.fallback", "mime": done.value["fallback"]["mime"]}
        rows.append(row)
    return bytes(assemble_job(inputs, {"heavier": rows, "budget": 100.0}).files["model.glb"])


@pytest.mark.parametrize("slot", sorted(SLOTS))
def test_each_slot_shows_the_same_picture(previewer: Previewer, slot: str, tell) -> None:
    source = model(slot)
    made = baked(source)
    document = Document.from_glb(made)
    assert {image["mimeType"] for image in document.json["images"]} == {"image/ktx2"}
    compared = previewer.compare(source, made, size=SIZE)
    assert compared.after.problems == ()
    assert compared.psnr_db > LEAST_DB, f"{slot}: {compared.psnr_db:.1f} dB"
    tell(f"KTX2 in {slot}: {compared.psnr_db:.1f} dB, {compared.difference_percent:.2f} % from the source's picture")


def test_a_fallback_is_passed_over_by_who_knows_better(previewer: Previewer) -> None:
    source = model("baseColorTexture")
    made = baked(source, fallback=16)
    document = Document.from_glb(made)
    assert "KHR_texture_basisu" in document.json["extensionsUsed"]
    assert "KHR_texture_basisu" not in document.json.get("extensionsRequired", ())
    compared = previewer.compare(source, made, size=SIZE)
    assert compared.after.problems == ()
    assert compared.psnr_db > LEAST_DB


def test_a_picture_would_tell_a_wrong_texture(previewer: Previewer) -> None:
    """The comparison is worth something: another picture in the same slot is far off."""
    first, second = model("baseColorTexture"), model("emissiveTexture")
    assert previewer.compare(first, second, size=SIZE).psnr_db < 25


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    "CLOUDBAKER_TEST_MODELS" not in os.environ, reason="CLOUDBAKER_TEST_MODELS names no folder of .glb files"
)
def test_samples_bake_to_the_same_picture(previewer: Previewer, tell) -> None:
    """Whole bakes with the `web` recipe: every texture sound, every picture the source's."""
    worst = 100.0
    images = ktx2 = 0
    for path in sorted(Path(os.environ["CLOUDBAKER_TEST_MODELS"]).glob("*.glb")):
        result = cb.bake(path, recipe="web", mode="direct", previews=False)
        assert result.version is not None, f"{path.name}: {result.findings}"
        with cb.catalog() as catalog:
            [artifact] = [a for a in result.version.artifacts if a.name == "model.glb"]
            data = catalog.read_blob(artifact.blob)
        assert len(data) <= path.stat().st_size, path.name
        document = Document.from_glb(data)
        for image in document.items("images"):
            images += 1
            if image["mimeType"] == "image/ktx2":
                ktx2 += 1
                texture = read_ktx2(bytes(document.view(image["bufferView"])))
                assert texture.full_pyramid or len(texture.levels) == 1  # no sampler looks at mipmaps
        compared = previewer.compare(path.read_bytes(), data, size=384)
        assert compared.after.problems == (), path.name
        assert compared.psnr_db > 30, f"{path.name}: {compared.psnr_db:.1f} dB"
        worst = min(worst, compared.psnr_db)
    tell(
        f"samples with the web recipe: {ktx2} of {images} images in KTX2, worst picture {worst:.1f} dB from its source"
    )

"""Models that come with KTX2 textures: checked against the file format and against what glTF allows."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from cloudbaker.compute.gltf.document import Document
from cloudbaker.compute.gltf.khronos import validate_all
from cloudbaker.compute.gltf.optimize import assemble_job, unpack_job
from cloudbaker.compute.gltf.precheck import precheck
from cloudbaker.compute.gltf.textures import replace_images
from cloudbaker.compute.textures.ktx2 import CODECS, full_levels, level_size, write_ktx2
from cloudbaker.compute.textures.uastc import encode_uastc
from cloudbaker.model import Severity
from cloudbaker.testing import models


def texture(width: int = 16, height: int = 16, *, codec: str = "uastc", srgb: bool = True, **more) -> bytes:
    images = more.get("faces", 1) * max(1, more.get("layers", 0))
    sizes = [level_size(width, height, n) for n in range(full_levels(width, height))]
    levels = [bytes(CODECS[codec].size(*size) * images) for size in sizes]
    return write_ktx2(levels, width, height, codec=codec, srgb=srgb, **more)


def model(color: bytes, normal: bytes | None = None) -> bytes:
    """A model whose colours, and normals if given, are in KTX2."""
    document = Document.from_glb(models.textured(32))
    images = {0: (color, "image/ktx2"), **({2: (normal, "image/ktx2")} if normal else {})}
    replace_images(document, images)
    return document.to_glb()


def found(data: bytes) -> dict[str, str]:
    return {finding.code: finding.message for finding in precheck(data).findings}


def test_sound_ktx2_is_let_in(validator):
    data = model(texture(), texture(srgb=False, alpha=False))
    assert found(data) == {}
    [report] = validate_all([data], validator_js=validator.decode())
    assert not [f for f in report.findings if f.severity is Severity.WARNING and "/images" in f.place]
    assert (report.errors, report.warnings) == (0, 1)  # the missing tangents


@pytest.mark.parametrize(
    ("color", "message"),
    [
        (texture(srgb=False), "materials read them the other way"),
        (texture(18, 16), "multiples of 4"),
        (texture(codec="astc-4x4"), "neither UASTC nor ETC1S"),
        (texture(metadata={"KTXorientation": "ru"}), "not the top one"),
        (texture(metadata={"KTXswizzle": "rrrg"}), "swizzled"),
    ],
)
def test_what_gltf_does_not_allow_is_a_warning(color, message):
    checked = precheck(model(color))
    assert [(f.code, f.severity) for f in checked.findings] == [("image.ktx2-odd", Severity.WARNING)]
    assert message in next(iter(checked.findings)).message
    assert checked.document is not None


def test_a_normal_map_in_srgb_is_told():
    assert "image.ktx2-odd" in found(model(texture(), texture(srgb=True)))


def patched(at: int, value: int) -> bytes:
    data = bytearray(texture())
    struct.pack_into("<I", data, at, value)
    return bytes(data)


@pytest.mark.parametrize(
    "damaged",
    [
        patched(40, 31),  # levels
        patched(40, 2),
        patched(20, 64),  # width
        patched(88, 1 << 30),  # a level's length
        patched(96, 1 << 30),  # what it inflates to
        texture()[:-1],
        texture()[:-9] + bytes(9),
    ],
)
def test_a_lying_ktx2_is_refused(damaged):
    checked = precheck(model(damaged))
    assert [f.code for f in checked.findings] == ["image.ktx2-invalid"]
    assert checked.document is None


def test_a_model_with_ktx2_keeps_working():
    """Its KTX2 stays as it is, what is beside it is handed out, and nothing is lost."""
    pixels = np.random.default_rng(1).integers(0, 256, (16, 16, 4), np.uint8)
    color = write_ktx2([encode_uastc(pixels)], 16, 16, codec="uastc", srgb=True)
    data = model(color)
    unpacked = unpack_job({"model.glb": memoryview(data)}, {})
    assert [image["index"] for image in unpacked.value["images"]] == [1, 2]
    result = assemble_job({"model.glb": memoryview(data)}, {})
    baked = Document.from_glb(result.files["model.glb"])
    assert bytes(baked.view(baked.json["images"][0]["bufferView"])) == color
    assert baked.json["textures"][0]["extensions"] == {"KHR_texture_basisu": {"source": 0}}
    assert not result.value["losses"]

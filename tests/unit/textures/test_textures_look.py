"""A texture file looked at: every codec, and what contradicts itself."""

from __future__ import annotations

import numpy as np
import pytest

from cloudbaker.compute.job import Job
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.compute.textures.astc_blocks import encode_astc, encode_astc_hdr
from cloudbaker.compute.textures.astc_file import write_astc
from cloudbaker.compute.textures.ktx2 import Ktx2Error, write_ktx2
from cloudbaker.compute.textures.look import look, look_job
from cloudbaker.compute.textures.uastc import encode_uastc
from cloudbaker.testing import shapes


def picture(size: int = 16) -> np.ndarray:
    return np.clip(shapes.noise(16, seed=3)[:size, :size, None] * (255, 200, 150, 220), 0, 255).astype(np.uint8)


def astc(block: int = 4, **more) -> bytes:
    levels = encode_astc([picture(), picture(8)], slot_class="color", block=block)
    return write_ktx2(levels, 16, 16, codec=f"astc-{block}x{block}", srgb=True, **more)


def test_ktx2_of_all_kinds() -> None:
    assert (look(astc(6)).format, look(astc(6)).levels, look(astc(6)).srgb) == ("astc-6x6", 2, True)
    blocks = encode_uastc(np.ascontiguousarray(picture()), level="fast", srgb=False)
    found = look(write_ktx2([blocks], 16, 16, codec="uastc", srgb=False))
    assert (found.format, found.width, found.gpu_bytes, found.srgb) == ("uastc", 16, 256, False)
    light = picture()[..., :3].astype(np.float16)
    faces = b"".join(encode_astc_hdr([light] * 6, block=4))
    found = look(write_ktx2([faces], 16, 16, codec="astc-4x4-hdr", srgb=False, faces=6))
    assert (found.format, found.faces, found.gpu_bytes) == ("astc-4x4-hdr", 6, 6 * 256)
    assert look(write_ktx2([bytes(16 * 16 * 4)], 16, 16, codec="rgb9e5", srgb=False)).format == "rgb9e5"


def test_plain_astc() -> None:
    data = write_astc(encode_astc([picture()], slot_class="data", block=8)[0], 16, 16, block=8)
    found = look(data)
    assert (found.format, found.gpu_bytes, found.srgb) == ("astc-8x8", 64, None)
    with pytest.raises(ValueError, match="more than the limit"):
        look(data, max_pixels=255)
    with pytest.raises(ValueError, match="has 63"):
        look(data[:-1])


def test_what_contradicts_itself_is_a_finding() -> None:
    good = astc()
    lying = good[:40] + b"\x09" + good[41:]  # nine levels of 16 × 16 texels
    with pytest.raises(Ktx2Error, match="at most 5 levels"):
        look(lying)
    for data, code in ((lying, "ktx2.levels"), (good[:90], "ktx2.truncated"), (b"", "ktx2.truncated")):
        (finding,) = look_job({"file": memoryview(data)}, {}).value["findings"]
        assert (finding["code"], finding["severity"]) == (code, "error")
    (finding,) = look_job({"file": memoryview(good)}, {"image_pixels": 100}).value["findings"]
    assert finding["code"] == "ktx2.too-large"


def test_blocks_that_are_none_are_a_finding() -> None:
    nothing = write_ktx2([b"\x45" * 256], 16, 16, codec="uastc", srgb=False)
    assert look_job({"file": memoryview(nothing)}, {}).value["findings"][0]["code"] == "texture.damaged"


def test_in_the_sandbox(sandbox: Sandbox) -> None:
    outcome = sandbox.run(Job("cloudbaker.compute.textures.look:look_job", {"file": astc()})).unwrap()
    assert outcome.value["format"] == "astc-4x4"
    assert outcome.value["findings"] == []

"""The format ``ktx2-uastc``, and what the image job makes of it: alternatives, fallbacks, qualities asked for."""

from __future__ import annotations

import io

import numpy as np
import opengl_basisu
import pytest
import texture2ddecoder
from PIL import Image

from cloudbaker.compute.textures.decode import decode_image
from cloudbaker.compute.textures.encode import encode_image, encode_job
from cloudbaker.compute.textures.headers import image_header
from cloudbaker.compute.textures.ktx2 import ZSTD, read_ktx2
from cloudbaker.compute.textures.ktx2_uastc import transcoded
from cloudbaker.compute.textures.measure import normal_error, psnr
from cloudbaker.compute.textures.options import EncodeOptions
from cloudbaker.compute.textures.search import Goal
from cloudbaker.compute.textures.slots import gpu_bytes
from cloudbaker.compute.textures.uastc import decode_uastc
from cloudbaker.testing import shapes


def photo(size: int = 64, channels: int = 3, seed: int = 1) -> np.ndarray:
    """Light and shade with slowly changing colours, as in photographs."""
    light = shapes.noise(size, seed=seed, octaves=3)
    planes = [0.8 * light + 0.2 * shapes.noise(size, seed=seed + 1 + c, octaves=1) for c in range(channels)]
    return shapes.to_bytes(np.stack(planes, axis=-1))


def bumps(size: int = 64) -> np.ndarray:
    return shapes.normal_map(shapes.noise(size, seed=9, octaves=2), 6)


def saved(pixels: np.ndarray, kind: str = "PNG", **settings) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, kind, **settings)
    return out.getvalue()


def made(pixels: np.ndarray, **options):
    done = encode_image(saved(pixels), EncodeOptions(format="ktx2-uastc", **options))
    assert done.data is not None
    return done, read_ktx2(done.data)


@pytest.mark.parametrize(
    ("slot_class", "srgb", "least"), [("color", True, 38.0), ("data", False, 36.0), ("normal", False, 36.0)]
)
def test_a_texture_of_each_class(slot_class, srgb, least):
    pixels = bumps() if slot_class == "normal" else photo()
    done, texture = made(pixels, slot_class=slot_class)
    assert (texture.codec.name, texture.srgb, texture.alpha, texture.scheme) == ("uastc", srgb, False, ZSTD)
    assert texture.full_pyramid
    assert (texture.width, texture.height, done.levels) == (64, 64, 7)
    assert texture.metadata["KTXorientation"] == b"rd\0"
    assert done.mime == "image/ktx2"
    assert done.psnr_db > least
    assert done.gpu_bytes == texture.gpu_bytes < gpu_bytes(64, 64) / 3.5
    assert (done.angle_degrees is None) == (slot_class != "normal")


def test_three_decoders_see_the_same():
    """What is recorded comes from Binomial's transcoder; ours and one for ASTC say the same of the blocks."""
    pixels = photo(channels=4)
    done, texture = made(pixels)
    seen = transcoded(done.data)
    assert np.array_equal(seen, decode_uastc(texture.levels[0], 64, 64))
    blocks = opengl_basisu.open(done.data).transcode("astc_4x4").data.tobytes()
    other = np.frombuffer(texture2ddecoder.decode_astc(blocks, 64, 64, 4, 4), np.uint8).reshape(64, 64, 4)[
        ..., [2, 1, 0, 3]
    ]
    assert np.abs(other.astype(int) - seen).max() <= 1  # ASTC decoders round sRGB endpoints in their own way
    assert done.psnr_db == pytest.approx(psnr(pixels, seen))


def test_normals_are_measured_as_angles():
    pixels = bumps()
    done, _ = made(pixels, slot_class="normal")
    error = normal_error(pixels, transcoded(done.data)[..., :3])
    assert (done.angle_degrees, done.angle_degrees_p99) == (error.mean, error.p99)
    assert error.mean < 2.5  # 64 texels of steep bumps; real maps have a third of it


def test_every_level_is_a_smaller_picture_of_the_same():
    pixels = photo(128)
    done, _ = made(pixels, slot_class="data")
    for level in range(1, 4):
        seen = transcoded(done.data, level)[..., :3]
        assert seen.shape[:2] == (128 >> level, 128 >> level)
        block = pixels.reshape(128 >> level, 1 << level, 128 >> level, 1 << level, 3).mean(axis=(1, 3))
        assert psnr(np.rint(block).astype(np.uint8), seen) > 28


def test_without_mipmaps():
    done, texture = made(photo(), mips=False)
    assert (len(texture.levels), done.levels) == (1, 1)
    assert done.gpu_bytes == 64 * 64


@pytest.mark.parametrize(
    ("size", "limit", "wanted"),
    [((63, 34), 2048, (60, 32)), ((100, 50), 30, (28, 12)), ((6, 4), 2048, (4, 4)), ((4, 512), 2048, (4, 512))],
)
def test_sides_are_whole_blocks_and_never_longer(size, limit, wanted):
    pixels = photo(512)[: size[1], : size[0]]
    _, texture = made(np.ascontiguousarray(pixels), max_size=limit)
    assert (texture.width, texture.height) == wanted


def test_alpha_is_kept_and_only_where_there_is_some():
    pixels = photo(channels=4)
    done, texture = made(pixels)
    assert texture.alpha
    assert psnr(pixels[..., 3:], transcoded(done.data)[..., 3:]) > 30
    pixels[..., 3] = 255
    assert not made(pixels)[1].alpha


def test_the_color_space_is_the_slots_own():
    assert made(photo(), slot_class="data", srgb=True)[1].srgb
    assert not made(photo(), slot_class="data")[1].srgb


def test_same_pixels_same_bytes():
    assert made(photo())[0].data == made(photo())[0].data


# ---------------------------------------------------------------------------------------------------------- image jobs


def job(data: bytes, **params):
    return encode_job({"image": memoryview(data)}, {"format": "ktx2-uastc", "slot_class": "color", **params})


def test_a_ktx2_that_is_larger_comes_with_something_lighter():
    data = saved(photo(128), "JPEG", quality=60)
    result = job(data, instead="webp")
    value = result.value
    assert value["mime"] == "image/ktx2"
    assert len(result.files["image"]) > len(data)
    assert value["lighter"]["mime"] in ("image/webp", "image/jpeg")
    assert value["lighter"]["kept"] == ("lighter" not in result.files)
    assert len(result.files.get("lighter", data)) <= len(data)
    assert value["lighter"]["gpu_bytes"] == gpu_bytes(128, 128) > 3.5 * value["gpu_bytes"]
    assert value["findings"] == []


def test_a_ktx2_that_is_smaller_needs_nothing_else():
    data = saved(photo(128), compress_level=0)
    result = job(data, instead="webp", fallback=0)
    assert list(result.files) == ["image"]
    assert "lighter" not in result.value


@pytest.mark.parametrize(
    ("slot_class", "mime"), [("color", "image/jpeg"), ("normal", "image/png"), ("data", "image/png")]
)
def test_a_fallback_is_small_and_known_to_everyone(slot_class, mime):
    pixels = bumps(128) if slot_class == "normal" else photo(128)
    result = job(saved(pixels), slot_class=slot_class, fallback=32)
    assert result.value["fallback"]["mime"] == mime
    shown = decode_image(result.files["fallback"], image_header(result.files["fallback"]))
    assert shown.shape == (32, 32, 3)


def test_no_fallback_beside_what_everyone_knows():
    assert "fallback" not in job(saved(photo()), format="keep", fallback=32).files


def test_a_quality_is_climbed_to():
    cheap, dear = job(saved(photo()), min_psnr=20.0), job(saved(photo()), min_psnr=120.0)
    assert cheap.value["reason"] == "UASTC, level fast"
    assert cheap.value["findings"] == []
    assert dear.value["reason"] == "UASTC, level max"
    [finding] = dear.value["findings"]
    assert (finding["code"], finding["severity"]) == ("image.below-quality", "warning")
    assert "120 dB" in finding["message"]
    assert dear.files["image"]


def test_an_angle_is_climbed_to():
    pixels = saved(bumps())
    loose = encode_image(pixels, EncodeOptions(format="ktx2-uastc", slot_class="normal"), Goal(max_angle=30.0))
    assert (loose.reason, loose.shortfall) == ("UASTC, level fast", "")
    tight = encode_image(pixels, EncodeOptions(format="ktx2-uastc", slot_class="normal"), Goal(max_angle=0.0))
    assert tight.angle_degrees <= loose.angle_degrees
    assert "0°" in tight.shortfall


def test_damage_is_a_finding():
    result = job(saved(photo())[:-100], instead="webp", fallback=32)
    assert result.files == {}
    assert [finding["code"] for finding in result.value["findings"]] == ["image.damaged"]

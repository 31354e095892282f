"""AVIF: what it may hold, and that it is what it says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from cloudbaker.compute.job import Job
from cloudbaker.compute.sandbox import Sandbox
from cloudbaker.compute.textures.avif import avif_quality, encode_avif
from cloudbaker.compute.textures.decode import ImageError
from cloudbaker.compute.textures.headers import ImageHeader, image_header
from cloudbaker.compute.textures.measure import psnr
from cloudbaker.compute.textures.options import EncodeOptions, Source
from cloudbaker.compute.textures.webp import encode_webp
from cloudbaker.testing import shapes

SOURCE = Source(ImageHeader("image/png", 64, 64, True, 8), 1 << 20)


def picture(channels: int = 3) -> np.ndarray:
    noise = shapes.noise(96, seed=12, octaves=4)
    tint = np.array([1.0, 0.8, 0.6, 0.9])[:channels]
    return np.clip(noise[..., None] * tint * 255, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("channels", [3, 4])
def test_colours_are_smaller_and_better_than_in_webp(channels: int) -> None:
    pixels = picture(channels)
    done, webp = (encode(pixels, EncodeOptions(), SOURCE) for encode in (encode_avif, encode_webp))
    assert done.mime == "image/avif"
    assert len(done.data) < len(webp.data)
    assert done.psnr > webp.psnr - 0.5
    back = np.asarray(Image.open(io.BytesIO(done.data)).convert("RGBA"))[..., :channels]
    assert psnr(pixels, back) == pytest.approx(done.psnr)
    header = image_header(done.data)
    assert (header.mime, header.width, header.height, header.has_alpha) == ("image/avif", 96, 96, channels == 4)


def test_chroma_keeps_its_resolution() -> None:
    """Red on blue at single pixels: halved chroma would make it purple."""
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[..., 0] = np.random.default_rng(0).integers(0, 2, (64, 64)) * 255
    pixels[..., 2] = 255 - pixels[..., 0]
    done = encode_avif(pixels, EncodeOptions(), SOURCE)
    assert done.psnr >= 32


def test_quality_is_raised_where_it_shows() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    done = encode_avif(pixels, EncodeOptions(quality=10), SOURCE)
    assert done.how == "AVIF, quality 95"


@pytest.mark.parametrize("slot_class", ["normal", "data"])
def test_what_is_no_colour_is_not_stored_as_one(slot_class) -> None:
    pixels = shapes.normal_map(shapes.noise(64, seed=3), 4.0)
    done = encode_avif(pixels, EncodeOptions(slot_class=slot_class), SOURCE)
    assert done.mime == "image/webp"


def test_same_pixels_same_bytes_and_scales_that_rise() -> None:
    pixels = picture()
    assert encode_avif(pixels, EncodeOptions(), SOURCE).data == encode_avif(pixels, EncodeOptions(), SOURCE).data
    scale = [avif_quality(q) for q in range(1, 101)]
    assert scale == sorted(scale)
    assert (scale[0], scale[84], scale[99]) == (1, 64, 100)


def test_it_ends_somewhere() -> None:
    with pytest.raises(ImageError, match="16384"):
        encode_avif(np.zeros((1, 16385, 3), np.uint8), EncodeOptions(), SOURCE)


def test_in_the_sandbox(sandbox: Sandbox) -> None:
    out = io.BytesIO()
    Image.fromarray(picture()).save(out, "PNG", compress_level=0)
    job = Job("cloudbaker.compute.textures.encode:encode_job", {"image": out.getvalue()}, {"format": "avif"})
    outcome = sandbox.run(job).unwrap()
    assert outcome.value["mime"] == "image/avif"
    assert outcome.value["psnr_db"] > 32

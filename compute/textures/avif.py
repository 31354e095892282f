"""AVIF, by Pillow's libavif: encoded by aom, measured on what dav1d decodes.

For colours alone, with chroma in full resolution: halved, as encoders do unless told otherwise, it costs 0.5 to 6 dB
for 5 % of the bytes. At the same number as WebP it takes 10 to 30 % less and is 1 to 2 dB better, in five times the
time. Everything that is no colour is stored as `webp` would: AV1 has no such thing as unrelated channels.
"""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from PIL import Image

from cloudbaker.compute.textures.decode import ImageError
from cloudbaker.compute.textures.measure import Pixels
from cloudbaker.compute.textures.options import Candidate, EncodeOptions, Source, judged
from cloudbaker.compute.textures.webp import encode_webp

AVIF_LARGEST = 16384
"""Pixels a side; libavif decodes more only where it is told to."""
SPEED = {"fast": 8, "default": 6, "max": 4}
"""Level → aom's speed. 4 takes seven times as long as 6, for 3 % of the bytes."""
FINER = 95


def encode_avif(pixels: Pixels, options: EncodeOptions, source: Source) -> Candidate:
    """AVIF of colours, finer where it falls under the floor; WebP for what is none."""
    if options.slot_class != "color":
        return encode_webp(pixels, options, source)
    if max(pixels.shape[:2]) > AVIF_LARGEST:
        raise ImageError(
            "image.too-large", f"AVIF ends at {AVIF_LARGEST} pixels a side", "set textures.max_size in the recipe"
        )
    done = _avif(pixels, options)
    if done.psnr < options.color_floor_db and options.quality < FINER:
        done = _avif(pixels, replace(options, quality=FINER))
    return done


def avif_quality(quality: int) -> int:
    """1 to 100, as WebP counts, on AVIF's scale: 85 becomes 64, which is smaller and better than WebP's 85."""
    return round(0.75 * quality) if quality <= 85 else round(64 + (quality - 85) * 36 / 15)


def _avif(pixels: Pixels, options: EncodeOptions) -> Candidate:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(
        out,
        "AVIF",
        quality=avif_quality(options.quality),
        speed=SPEED[options.level],
        subsampling="4:4:4",
        codec="aom",
        # One thread, one tile: the same pixels give the same bytes on any machine.
        max_threads=1,
        autotiling=False,
    )
    data = out.getvalue()
    with Image.open(io.BytesIO(data), formats=["AVIF"]) as image:
        decoded = np.asarray(image.convert("RGBA"))[..., : pixels.shape[2]]
    quality, normal = judged(pixels, decoded, options.slot_class)
    return Candidate(data, "image/avif", quality, f"AVIF, quality {options.quality}", normal)

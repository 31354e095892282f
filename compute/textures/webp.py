"""WebP, PNG and JPEG, by Pillow. What the texture is for decides what it may lose.

- ``color``: lossy at the recipe's quality, alpha lossless; finer where the result falls under 32 dB.
- ``normal``: lossless, always. Lossy WebP bends normals by 2.3° on average and 19.8° at the 99th percentile.
- ``data`` (metallic-roughness, occlusion …): whatever is smallest and within 42 dB in *every* channel. Lossy WebP
  halves the resolution of chroma, which mixes channels that have nothing to do with each other: seven of eight real
  metallic-roughness maps stayed between 25 and 41 dB in one channel even at quality 100. Values snapped to multiples of
  4 and then stored losslessly reach 46 dB at 60 % of the lossless size; an occlusion map of one grey passes as lossy.
"""

from __future__ import annotations

import io
import math
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image

from cloudbaker.compute.textures.decode import ImageError, decode_image
from cloudbaker.compute.textures.headers import image_header
from cloudbaker.compute.textures.measure import NormalError, Pixels, channel_psnr, psnr
from cloudbaker.compute.textures.options import Candidate, EncodeOptions, Source, judged
from cloudbaker.compute.textures.prepare import rounded

WEBP_LARGEST = 16383
"""Pixels a side (RFC 9649)."""

_NO_ERROR = NormalError(0.0, 0.0, 0.0)


def encode_webp(pixels: Pixels, options: EncodeOptions, source: Source) -> Candidate:
    """The smallest WebP that holds the floor of its class; lossless where none does."""
    if max(pixels.shape[:2]) > WEBP_LARGEST:
        raise ImageError(
            "image.too-large", f"WebP ends at {WEBP_LARGEST} pixels a side", "set textures.max_size in the recipe"
        )
    if options.slot_class == "normal":
        return _lossless(pixels, options)
    floor = options.color_floor_db if options.slot_class == "color" else options.data_floor_db
    attempts = (_webp(pixels, options, quality) for quality in dict.fromkeys((options.quality, 95)))
    candidates = [c for c in attempts if c.psnr >= floor][:1]
    if options.slot_class == "data":
        candidates.append(_near_lossless(pixels, options, floor))
    elif not candidates or source.density < 0.5:
        # Palettes, gradients and plain areas can be smaller without loss. Photographs never are, and it takes ten times
        # as long to find that out: only sources of less than half a byte a pixel may be of the former kind.
        candidates.append(_lossless(pixels, options))
    return min(candidates, key=lambda c: len(c.data))


def encode_png(pixels: Pixels, options: EncodeOptions, source: Source) -> Candidate:
    """PNG, lossless."""
    normal = _NO_ERROR if options.slot_class == "normal" else None
    return Candidate(_save(pixels, "PNG", optimize=True), "image/png", math.inf, "lossless", normal)


def encode_jpeg(pixels: Pixels, options: EncodeOptions, source: Source) -> Candidate:
    """JPEG at the recipe's quality, or at 97 where the channels are not colours. PNG if there is transparency."""
    if pixels.shape[2] == 4:
        return encode_png(pixels, options, source)
    quality = 97 if options.slot_class != "color" else options.quality
    # Full chroma resolution: what is in the channels of data is not colour.
    data = _save(pixels, "JPEG", quality=quality, subsampling=0)
    return _candidate(pixels, data, "image/jpeg", f"JPEG, quality {quality}", options)


def _webp(pixels: Pixels, options: EncodeOptions, quality: int) -> Candidate:
    data = _save(pixels, "WEBP", quality=quality)
    return _candidate(pixels, data, "image/webp", f"lossy, quality {quality}", options)


def _candidate(pixels: Pixels, data: bytes, mime: str, how: str, options: EncodeOptions) -> Candidate:
    quality, normal = judged(pixels, _like(pixels, data), options.slot_class)
    return Candidate(data, mime, quality, how, normal)


def _near_lossless(pixels: Pixels, options: EncodeOptions, floor: float) -> Candidate:
    """Rounded to multiples of 4, which keeps 0, 128 and 255 exactly; fully lossless where even that is too much."""
    snapped = rounded(np.rint(pixels.astype(np.float32) / 4) * 4)
    worst = min(channel_psnr(pixels, snapped))
    if worst < floor or math.isinf(worst):
        return _lossless(pixels, options)
    return replace(_lossless(snapped, options), psnr=worst, how="lossless after rounding to multiples of 4")


def _lossless(pixels: Pixels, options: EncodeOptions) -> Candidate:
    data = _save(pixels, "WEBP", lossless=True, quality=75)
    if not math.isinf(psnr(pixels, _like(pixels, data))):
        raise ValueError("lossless WebP did not come back as it went in: this Pillow's libwebp is broken")
    return Candidate(data, "image/webp", math.inf, "lossless", _NO_ERROR if options.slot_class == "normal" else None)


def _like(pixels: Pixels, data: bytes) -> Pixels:
    """Encoded bytes as pixels with as many channels as `pixels` have (rounding can make alpha opaque throughout)."""
    decoded = decode_image(data, image_header(data))
    if decoded.shape[2] < pixels.shape[2]:
        decoded = np.concatenate([decoded, np.full((*decoded.shape[:2], 1), 255, np.uint8)], axis=-1)
    return decoded


def _save(pixels: Pixels, kind: str, **settings: Any) -> bytes:
    if kind == "WEBP":
        # exact: colours under transparent pixels are kept, because opaque materials show them. One method, one thread:
        # the same pixels give the same bytes.
        settings = {"method": 4, "exact": True, "alpha_quality": 100, **settings}
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, kind, **settings)
    return out.getvalue()

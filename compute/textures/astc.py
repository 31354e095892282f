"""Textures in ASTC 4×4 for mobile GPUs and stand-alone VR: 8 bits per texel, decoded by the GPU itself.

Godot can encode ASTC too, but only together with BPTC (17 CPU seconds for 2048² with mipmaps); this is astcenc at its
``medium`` preset on the texture's own mipmaps, filtered in the space that suits what it holds. The engine's reader puts
no swizzle on ASTC, and takes x and y of a normal map and computes z: so z has no weight here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.compute.textures.astc_blocks import QUALITY, decode_astc, encode_astc
from cloudbaker.compute.textures.ctex import ctex
from cloudbaker.compute.textures.decode import ImageError, decode_image
from cloudbaker.compute.textures.headers import image_header
from cloudbaker.compute.textures.measure import Pixels, channel_psnr, normal_error, psnr
from cloudbaker.compute.textures.prepare import SlotClass, scale
from cloudbaker.model import Finding, Severity, to_json

BLOCK = 4


@dataclass(frozen=True, slots=True)
class AstcOptions:
    """What the recipe wants."""

    slot_class: SlotClass = "color"
    max_size: int = 2048
    """Pixels of the longer side; larger images are scaled down, none is scaled up."""
    image_pixels: int = 64 << 20
    quality: float = QUALITY["default"]
    """astcenc's scale: 10 fast, 60 medium, 98 thorough."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """A texture with its mipmaps."""

    width: int
    """Texels, a multiple of four."""
    height: int
    levels: tuple[bytes, ...]
    """ASTC blocks of each mipmap, the largest first, down to 1×1."""
    psnr_db: float
    """Of the largest level; of its worst channel where the texture holds data; inf where equal."""
    angle_degrees: float | None
    """Mean angle error of a normal map."""


def encode_job(inputs: Inputs, params: Params) -> JobResult:
    """One texture. Input ``image`` (PNG, JPEG, WebP); params as `AstcOptions`.

    Value ``{"width", "height", "bytes", "psnr_db", "angle_degrees", "findings"}``; file ``ctex`` unless an error is
    found.
    """
    try:
        done = encode(inputs["image"], AstcOptions(**params))
    except ImageError as error:
        return JobResult({"findings": [to_json(Finding(error.code, Severity.ERROR, "", str(error), error.remedy))]})
    data = ctex(done.width, done.height, done.levels)
    value: dict[str, Any] = {
        "width": done.width,
        "height": done.height,
        "bytes": len(data),
        "psnr_db": _figure(done.psnr_db),
        "angle_degrees": _figure(done.angle_degrees),
        "format": "astc_4x4",
        "findings": [],
    }
    return JobResult(value, {"ctex": data})


def encode(data: bytes | memoryview, options: AstcOptions | None = None) -> Encoded:
    """Decode an image, scale it to a size in whole blocks, encode it and its mipmaps. Raises `ImageError`."""
    options = options or AstcOptions()
    try:
        header = image_header(data)
    except ValueError as error:
        raise ImageError("image.unreadable", str(error), "export the image again as PNG or JPEG") from error
    if header.pixels > options.image_pixels:
        raise ImageError(
            "image.too-large",
            f"the image has {header.width} × {header.height} pixels; the limit is {options.image_pixels} in all",
            "scale it down, or raise limits.image_pixels in the recipe",
        )
    pixels = decode_image(data, header)
    width, height = whole_blocks(header.width, header.height, options.max_size)
    if (width, height) != (header.width, header.height):
        pixels = scale(pixels, width, height, options.slot_class)
    chain = [pixels]
    while width > 1 or height > 1:
        width, height = max(1, width // 2), max(1, height // 2)
        chain.append(scale(chain[-1], width, height, options.slot_class))
    levels = encode_astc(chain, slot_class=options.slot_class, quality=options.quality, z_counts=False)
    decoded = decode_astc(levels[0], pixels.shape[1], pixels.shape[0], srgb=options.slot_class == "color")
    decoded = decoded[..., : pixels.shape[2]]
    angle = None
    if options.slot_class == "normal":
        angle = normal_error(pixels, _with_z(decoded)).mean
        quality = min(channel_psnr(pixels, decoded)[:2])
    elif options.slot_class == "data":
        quality = min(channel_psnr(pixels, decoded))
    else:
        quality = psnr(pixels, decoded)
    return Encoded(pixels.shape[1], pixels.shape[0], tuple(levels), quality, angle)


def whole_blocks(width: int, height: int, max_size: int) -> tuple[int, int]:
    """The size to encode: within `max_size`, in whole blocks. (Godot pads and resizes to these, too.)"""
    ratio = min(1.0, max_size / max(width, height))
    return _blocks(round(width * ratio)) * BLOCK, _blocks(round(height * ratio)) * BLOCK


def _with_z(pixels: Pixels) -> Pixels:
    """A normal map as the engine's shader sees it: z computed from x and y."""
    xy = pixels[..., :2].astype(np.float32) / 127.5 - 1
    z = np.sqrt(np.clip(1 - np.square(xy).sum(-1), 0, 1))
    out = pixels.copy()
    out[..., 2] = np.rint((z + 1) * 127.5)
    return out


def _blocks(texels: int) -> int:
    return max(1, math.ceil(texels / BLOCK))


def _figure(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.4g}")

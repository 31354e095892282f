"""One image of a model: checked, decoded, scaled down to the recipe's size, stored in the format it asks for, measured.

The steps lie beside this file: `decode`, `prepare`, and one file for each format (`options.FORMATS`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.compute.textures.decode import READABLE, ImageError, checked_header, decode_image
from cloudbaker.compute.textures.headers import ImageHeader
from cloudbaker.compute.textures.options import EncodeOptions, Source, encoder
from cloudbaker.compute.textures.prepare import fitted, scale
from cloudbaker.compute.textures.webp import WEBP_LARGEST
from cloudbaker.model import Finding, Severity, to_json

PARAMS = ("slot_class", "max_size", "quality", "format", "level", "mips")
"""Fields of `EncodeOptions` that a job may set."""


@dataclass(frozen=True, slots=True)
class EncodedImage:
    """What came of an image."""

    data: bytes | None
    """None when the source is to be used as it is."""
    mime: str
    width: int
    height: int
    source_width: int
    source_height: int
    source_bit_depth: int
    lossless: bool
    """The pixels are exactly those of the decoded and scaled source (8 bits a channel)."""
    psnr_db: float | None
    """Against the decoded and scaled source; of the worst channel for ``data``. None where lossless."""
    angle_degrees: float | None
    """Mean error of directions, against the source if it was not scaled. None but for normal maps."""
    angle_degrees_p99: float | None
    reason: str
    """Why the source is kept, or why the image was stored in the way it was."""

    @property
    def kept(self) -> bool:
        """Whether the source is to be used as it is."""
        return self.data is None


def encode_job(inputs: Inputs, params: Params) -> JobResult:
    """Job form of `encode_image`: ``inputs["image"]``; `params` are `PARAMS` and, if not the default,
    ``limits.image_pixels``. Its value has the fields of `EncodedImage`.

    A damaged or oversized image gives ``findings`` with one error, and is kept.
    """
    data = inputs["image"]
    wanted = {k: params[k] for k in PARAMS if k in params}
    limits = params.get("limits") or {}
    if "image_pixels" in limits:
        wanted["max_pixels"] = int(limits["image_pixels"])
    options = EncodeOptions(**wanted)
    try:
        done = encode_image(data, options)
    except ImageError as error:
        finding = Finding(error.code, Severity.ERROR, "", str(error), error.remedy)
        return JobResult({"kept": True, "reason": str(error), "device": "cpu", "findings": [to_json(finding)]})
    value: dict[str, Any] = {
        "mime": done.mime,
        "width": done.width,
        "height": done.height,
        "source_width": done.source_width,
        "source_height": done.source_height,
        "source_bit_depth": done.source_bit_depth,
        "lossless": done.lossless,
        "psnr_db": done.psnr_db,
        "kept": done.kept,
        "reason": done.reason,
        "device": "cpu",
        "findings": [],
    }
    if done.angle_degrees is not None:
        value |= {"angle_degrees": done.angle_degrees, "angle_degrees_p99": done.angle_degrees_p99}
    return JobResult(value, {} if done.data is None else {"image": done.data})


def encode_image(data: bytes | bytearray | memoryview, options: EncodeOptions | None = None) -> EncodedImage:
    """Store one PNG, JPEG or WebP as the recipe wants it, or say why it is better kept.

    Raises ImageError: not an image, more pixels than allowed (from the header), truncated or damaged.
    """
    options = options or EncodeOptions()
    header = checked_header(data, options.max_pixels)
    if header.mime not in READABLE:
        return _kept(header, f"{header.mime} is stored as it is")
    pixels = decode_image(data, header)
    width, height = fitted(header.width, header.height, options.max_size)
    scaled = (width, height) != (header.width, header.height)
    name = READABLE[header.mime].lower() if options.format == "keep" else options.format
    if not scaled:
        if options.format == "keep":
            return _kept(header, "the recipe keeps formats")
        if name == "webp" and header.mime == "image/webp":
            return _kept(header, "it is WebP already: encoding it again would only lose quality")
    if name == "webp" and max(width, height) > WEBP_LARGEST:
        return _kept(header, f"WebP ends at {WEBP_LARGEST} pixels a side")

    if scaled:
        pixels = scale(pixels, width, height, options.slot_class)
    best = encoder(name)(pixels, options, Source(header, len(data)))
    lossy = not math.isinf(best.psnr)
    if not scaled and len(best.data) >= len(data):
        return _kept(header, f"{best.mime} would take {len(best.data)} bytes, the source has {len(data)}")
    if not scaled and lossy and header.mime == "image/jpeg" and len(best.data) > len(data) * (1 - options.min_gain):
        return _kept(header, f"lossy already: {len(data) - len(best.data)} bytes less are not worth another loss")
    return EncodedImage(
        data=best.data,
        mime=best.mime,
        width=width,
        height=height,
        source_width=header.width,
        source_height=header.height,
        source_bit_depth=header.bit_depth,
        lossless=not lossy,
        psnr_db=best.psnr if lossy else None,
        angle_degrees=best.normal.mean if best.normal else None,
        angle_degrees_p99=best.normal.p99 if best.normal else None,
        reason=best.how + (", scaled down" if scaled else ""),
    )


def _kept(header: ImageHeader, reason: str) -> EncodedImage:
    size = (header.width, header.height)
    return EncodedImage(None, header.mime, *size, *size, header.bit_depth, True, None, None, None, reason)

"""One image of a model: checked, decoded, scaled down to the recipe's size, stored in the format it asks for, measured.

The steps lie beside this file: `decode`, `prepare`, and one file for each format (`options.FORMATS`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.compute.textures.decode import READABLE, ImageError, checked_header, decode_image
from cloudbaker.compute.textures.headers import ImageHeader
from cloudbaker.compute.textures.measure import Pixels
from cloudbaker.compute.textures.options import EncodeOptions, Source
from cloudbaker.compute.textures.prepare import fitted, scale
from cloudbaker.compute.textures.search import Goal, search, shortfall
from cloudbaker.compute.textures.slots import BLOCK, gpu_bytes
from cloudbaker.compute.textures.webp import WEBP_LARGEST
from cloudbaker.model import Finding, Severity, to_json

PARAMS = ("slot_class", "max_size", "quality", "format", "level", "rdo", "mips", "srgb", "alpha_coverage")
"""Fields of `EncodeOptions` that a job may set."""
KTX2 = "image/ktx2"
CORE = frozenset({"image/png", "image/jpeg"})
"""What every reader of glTF knows."""


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
    gpu_bytes: int = 0
    """What it takes in a GPU's memory, with mipmaps."""
    levels: int = 1
    """Mipmaps in the file."""
    shortfall: str = ""
    """What it lacks of the quality that was asked for; empty where it has it."""

    @property
    def kept(self) -> bool:
        """Whether the source is to be used as it is."""
        return self.data is None


def encode_job(inputs: Inputs, params: Params) -> JobResult:
    """Job form of `encode_image`: ``inputs["image"]``; `params` are `PARAMS` and ``min_psnr``, ``max_angle``,
    ``limits.image_pixels``. Its value has the fields of `EncodedImage`; its file is ``image``, none if that is kept.

    ``instead``: a format to store the image in as well where its KTX2 is larger than the source. The caller then has
    the choice between ``image`` and ``lighter``, which is the value's ``lighter`` and, unless that is the source, a
    file. ``fallback``: pixels of the longer side of a PNG or JPEG for readers that know no other formats; 0 for none.
    It is the value's ``fallback`` and a file.

    A damaged or oversized image gives ``findings`` with one error, and is kept; a quality that can't be reached gives a
    warning.
    """
    data = inputs["image"]
    wanted = {k: params[k] for k in PARAMS if k in params}
    limits = params.get("limits") or {}
    if "image_pixels" in limits:
        wanted["max_pixels"] = int(limits["image_pixels"])
    options, goal = EncodeOptions(**wanted), Goal(params.get("min_psnr"), params.get("max_angle"))
    try:
        header, pixels = _decoded(data, options)
        source = Source(header, len(data))
        done = _stored(pixels, source, options, goal)
        others = _others(pixels, source, options, params, done)
    except ImageError as error:
        finding = Finding(error.code, Severity.ERROR, "", str(error), error.remedy)
        return JobResult({"kept": True, "reason": str(error), "device": "cpu", "findings": [to_json(finding)]})
    findings = []
    if done.shortfall:
        remedy = "ask for less, or for another format of this class in the recipe"
        findings.append(to_json(Finding("image.below-quality", Severity.WARNING, "", done.shortfall, remedy)))
    value = {**_value(done), **{name: _value(other) for name, other in others.items()}, "findings": findings}
    files = {"image": done.data, **{name: other.data for name, other in others.items()}}
    return JobResult(value, {name: content for name, content in files.items() if content is not None})


def _value(done: EncodedImage) -> dict[str, Any]:
    """What is told of an image."""
    value: dict[str, Any] = {
        "mime": done.mime,
        "width": done.width,
        "height": done.height,
        "source_width": done.source_width,
        "source_height": done.source_height,
        "source_bit_depth": done.source_bit_depth,
        "lossless": done.lossless,
        "psnr_db": done.psnr_db,
        "gpu_bytes": done.gpu_bytes,
        "levels": done.levels,
        "kept": done.kept,
        "reason": done.reason,
        "device": "cpu",
    }
    if done.angle_degrees is not None:
        value |= {"angle_degrees": done.angle_degrees, "angle_degrees_p99": done.angle_degrees_p99}
    return value


def _others(
    pixels: Pixels | None, source: Source, options: EncodeOptions, params: Params, done: EncodedImage
) -> dict[str, EncodedImage]:
    """The forms besides the one asked for: ``lighter`` and ``fallback``."""
    others: dict[str, EncodedImage] = {}
    if pixels is None:
        return others
    instead, fallback = params.get("instead"), params.get("fallback")
    if instead and done.mime == KTX2 and done.data is not None and len(done.data) > source.size:
        others["lighter"] = _stored(pixels, source, replace(options, format=instead), Goal())
    mimes = {done.mime, *(other.mime for other in others.values())}
    if fallback and not mimes <= CORE:
        core = "jpeg" if options.slot_class == "color" else "png"
        small = replace(options, format=core, max_size=min(int(fallback), options.max_size))
        others["fallback"] = _scaled_and_encoded(pixels, source, small, Goal())
    return others


def encode_image(
    data: bytes | bytearray | memoryview, options: EncodeOptions | None = None, goal: Goal | None = None
) -> EncodedImage:
    """Store one PNG, JPEG or WebP as the recipe wants it, or say why it is better kept.

    A KTX2 may be larger than its source, since what it saves is memory of the GPU; nothing else may.

    Raises ImageError: not an image, more pixels than allowed (from the header), truncated or damaged.
    """
    options = options or EncodeOptions()
    header, pixels = _decoded(data, options)
    return _stored(pixels, Source(header, len(data)), options, goal or Goal())


def _decoded(data: bytes | bytearray | memoryview, options: EncodeOptions) -> tuple[ImageHeader, Pixels | None]:
    header = checked_header(data, options.max_pixels)
    return header, decode_image(data, header) if header.mime in READABLE else None


def _stored(pixels: Pixels | None, source: Source, options: EncodeOptions, goal: Goal) -> EncodedImage:
    """The image in the form asked for, or the source where that is better."""
    header = source.header
    if pixels is None:
        return _kept(header, f"{header.mime} is stored as it is")
    width, height = _size(header, options)
    scaled = (width, height) != (header.width, header.height)
    if options.format == "keep":
        if not scaled:
            return _kept(header, "the recipe keeps formats")
        options = replace(options, format=READABLE[header.mime].lower())
    if options.format == "webp":
        if not scaled and header.mime == "image/webp":
            return _kept(header, "it is WebP already: encoding it again would only lose quality")
        if max(width, height) > WEBP_LARGEST:
            return _kept(header, f"WebP ends at {WEBP_LARGEST} pixels a side")
    done = _scaled_and_encoded(pixels, source, options, goal)
    assert done.data is not None
    if scaled or done.mime == KTX2:
        return done
    size = len(done.data)
    if size >= source.size:
        return _kept(header, f"{done.mime} would take {size} bytes, the source has {source.size}")
    if not done.lossless and header.mime == "image/jpeg" and size > source.size * (1 - options.min_gain):
        return _kept(header, f"lossy already: {source.size - size} bytes less are not worth another loss")
    return done


def _size(header: ImageHeader, options: EncodeOptions) -> tuple[int, int]:
    multiple = BLOCK if options.format.startswith("ktx2") else 1
    return fitted(header.width, header.height, options.max_size, multiple)


def _scaled_and_encoded(pixels: Pixels, source: Source, options: EncodeOptions, goal: Goal) -> EncodedImage:
    header = source.header
    width, height = _size(header, options)
    scaled = (width, height) != (header.width, header.height)
    if scaled:
        pixels = scale(pixels, width, height, options.slot_class)
    found = search(pixels, options, source, goal)
    best = found.candidate
    lossy = not math.isinf(best.psnr)
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
        gpu_bytes=best.gpu_bytes or gpu_bytes(width, height),
        levels=best.levels,
        shortfall="" if found.met else shortfall(found, options, goal),
    )


def _kept(header: ImageHeader, reason: str) -> EncodedImage:
    size = (header.width, header.height)
    memory = gpu_bytes(*size) if header.mime != KTX2 else 0
    return EncodedImage(None, header.mime, *size, *size, header.bit_depth, True, None, None, None, reason, memory)

"""One image into one format, because somebody asked for that format: the work behind ``cloudbaker encode``.

`encode.encode_image` serves models, and keeps an image that would not get smaller. Here the caller has decided, and a
PNG becomes a KTX2 four times its size if need be: what counts may be the GPU's memory, not the download.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.compute.textures.decode import READABLE, ImageError, checked_header, decode_image
from cloudbaker.compute.textures.headers import ImageHeader
from cloudbaker.compute.textures.options import EncodeOptions, Source
from cloudbaker.compute.textures.orientation import upright
from cloudbaker.compute.textures.prepare import fitted, scale
from cloudbaker.compute.textures.search import Found, Goal, search, shortfall
from cloudbaker.compute.textures.slots import gpu_bytes
from cloudbaker.model import Finding, Severity, to_json

BELOW_QUALITY = "image.below-quality"


@dataclass(frozen=True, slots=True)
class Converted:
    """An image in its new form."""

    header: ImageHeader
    """The source's."""
    width: int
    height: int
    found: Found


def convert_job(inputs: Inputs, params: Params) -> JobResult:
    """Job form of `convert_image`: ``inputs["image"]``; `params` are ``options`` (fields of `EncodeOptions`), ``goal``
    (fields of `Goal`) and ``best_effort``.

    File ``image``, and a value with ``mime``, sizes, what was measured and ``tried``. With an error among ``findings``
    there is no file: the image is damaged or too large, or the goal was not met and `best_effort` is off.
    """
    options, goal = EncodeOptions(**params.get("options", {})), Goal(**params.get("goal", {}))
    try:
        done = convert_image(inputs["image"], options, goal)
    except ImageError as error:
        finding = Finding(error.code, Severity.ERROR, "", str(error), error.remedy)
        return JobResult({"device": "cpu", "findings": [to_json(finding)]})
    found, best = done.found, done.found.candidate
    findings = []
    if not found.met:
        severity = Severity.WARNING if params.get("best_effort") else Severity.ERROR
        remedy = "ask for less, take another format, or take the best there is with --best-effort"
        findings.append(Finding(BELOW_QUALITY, severity, "", shortfall(found, options, goal), remedy))
    value: dict[str, Any] = {
        "mime": best.mime,
        "setting": found.setting,
        "how": best.how,
        "width": done.width,
        "height": done.height,
        "source_width": done.header.width,
        "source_height": done.header.height,
        "source_bit_depth": done.header.bit_depth,
        "levels": best.levels,
        "gpu_bytes": best.gpu_bytes or gpu_bytes(done.width, done.height),
        "lossless": math.isinf(best.psnr),
        "psnr_db": None if math.isinf(best.psnr) else round(best.psnr, 3),
        "angle_degrees": round(best.normal.mean, 4) if best.normal else None,
        "angle_degrees_p99": round(best.normal.p99, 4) if best.normal else None,
        "tried": [asdict(tried) for tried in found.tried],
        "device": "cpu",
        "findings": [to_json(finding) for finding in findings],
    }
    rejected = any(finding.severity is Severity.ERROR for finding in findings)
    return JobResult(value, {} if rejected else {"image": best.data})


def convert_image(data: bytes | bytearray | memoryview, options: EncodeOptions, goal: Goal) -> Converted:
    """Decode, turn as EXIF says, scale to what the format wants, and store in ``options.format`` as cheaply as `goal`
    allows.

    Raises ImageError: not an image, more pixels than ``options.max_pixels`` (from the header), damaged, or nothing that
    the format can hold.
    """
    header = checked_header(data, options.max_pixels)
    if header.mime not in READABLE:
        raise ImageError("image.unsupported", f"{header.mime} is not decoded here", "give a PNG, JPEG or WebP")
    pixels = upright(decode_image(data, header), data)
    source_height, source_width, _ = pixels.shape
    multiple = 4 if options.format.startswith("ktx2") else 1  # BC1 to BC7 of WebGL take nothing else
    width, height = fitted(source_width, source_height, options.max_size, multiple)
    if (width, height) != (source_width, source_height):
        pixels = scale(pixels, width, height, options.slot_class)
    return Converted(header, width, height, search(pixels, options, Source(header, len(data)), goal))

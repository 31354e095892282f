"""Environment maps: Radiance ``.hdr`` or OpenEXR in; a smaller ``.hdr``, or KTX2 that stays small in the GPU, out.

==================  =============================================================================================
``hdr``             RGBE as every loader reads it, scaled down; a GPU holds it as 8 bytes a texel
``ktx2-rgb9e5``     4 bytes a texel, on every device with WebGL 2 or Vulkan; panorama or cube map, mipmaps
``ktx2-astc-hdr``   1 byte a texel (0.44 with 6 × 6 blocks), on devices with ASTC HDR: phones, tablets, Apple silicon
==================  =============================================================================================

NaN, infinite and negative values are made into light (`cleaned`), and a finding says how many there were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.compute.textures.astc_blocks import QUALITY, Block, decode_astc_hdr, encode_astc_hdr
from cloudbaker.compute.textures.decode import ImageError
from cloudbaker.compute.textures.environment import Cube, mip_chain_light, prefilter, scale_light, to_cube
from cloudbaker.compute.textures.exr import EXR_MAGIC, exr_header, read_exr
from cloudbaker.compute.textures.ktx2 import write_ktx2
from cloudbaker.compute.textures.measure import light_psnr
from cloudbaker.compute.textures.prepare import fitted
from cloudbaker.compute.textures.radiance import (
    MAGICS,
    Light,
    from_rgbe,
    radiance_header,
    read_radiance,
    to_rgbe,
    write_radiance,
)
from cloudbaker.compute.textures.rgb9e5 import from_rgb9e5, to_rgb9e5
from cloudbaker.model import Finding, Severity, to_json

HdrFormat = Literal["hdr", "ktx2-rgb9e5", "ktx2-astc-hdr"]
HDR_FORMATS: tuple[HdrFormat, ...] = ("hdr", "ktx2-rgb9e5", "ktx2-astc-hdr")
BRIGHTEST = 65504.0
"""The largest half float. The sun of a real sky is 100,000 times brighter than the rest: it loses some of that."""
WORST_BROKEN = 0.01
"""Part of an image's values that may be NaN before it counts as damaged and not as a few bad pixels of a renderer."""
_SAVE_AGAIN = "save the picture again, as Radiance .hdr or as OpenEXR with channels R, G and B"


@dataclass(frozen=True, slots=True)
class HdrOptions:
    """What the recipe wants."""

    format: HdrFormat = "hdr"
    max_size: int = 4096
    """Pixels of the longer side of a panorama; a cube map's faces have a quarter of it at most. None is scaled up."""
    cube: bool = False
    """A cube map, not a panorama. Not of ``hdr``, which holds one picture."""
    prefilter: bool = False
    """Of cube maps: mipmaps are blurred as GGX of roughness level / (levels - 1) does, not halved."""
    mips: bool = True
    """Whether a KTX2 has its mipmaps; a panorama's would show a seam, so only cube maps have any."""
    block: Block = 4
    """Of ASTC: 4, or 6 for 0.44 bytes a texel."""
    level: str = "default"
    """Of ASTC: ``fast``, ``default`` or ``max``."""
    max_pixels: int = 32 << 20
    """Checked on the header. 8192 × 4096 as floats take 400 MB, and some steps hold two of them."""

    def __post_init__(self) -> None:
        if self.format not in HDR_FORMATS:
            raise ValueError(f"format must be one of {', '.join(HDR_FORMATS)}, not {self.format!r}")
        if self.level not in QUALITY:
            raise ValueError(f"level must be one of {', '.join(QUALITY)}, not {self.level!r}")
        if self.block not in (4, 6):
            raise ValueError(f"ASTC HDR has blocks of 4 or 6 here, not {self.block}")
        if self.cube and self.format == "hdr":
            raise ValueError("a .hdr holds one picture: a cube map needs a KTX2 format")
        if self.prefilter and not self.cube:
            raise ValueError("only cube maps are prefiltered")
        if self.max_size < 4:
            raise ValueError(f"max_size {self.max_size} is out of range")


@dataclass(frozen=True, slots=True)
class EncodedLight:
    """What came of an environment map."""

    data: bytes
    mime: str
    width: int
    """Pixels of the panorama, or of a cube's face."""
    height: int
    source_width: int
    source_height: int
    levels: int
    gpu_bytes: int
    psnr_db: float
    """`light_psnr` of the largest level against what was encoded; inf where equal."""
    findings: tuple[Finding, ...]


def encode_hdr_job(inputs: Inputs, params: Params) -> JobResult:
    """Job form of `encode_hdr`: ``inputs["image"]``; params as `HdrOptions`. File ``image``, unless an error is found;
    the value has the fields of `EncodedLight`, and ``findings``."""
    try:
        done = encode_hdr(inputs["image"], HdrOptions(**params))
    except ImageError as error:
        return JobResult({"findings": [to_json(Finding(error.code, Severity.ERROR, "", str(error), error.remedy))]})
    value: dict[str, Any] = {
        name: getattr(done, name)
        for name in ("mime", "width", "height", "source_width", "source_height", "levels", "gpu_bytes")
    }
    value["psnr_db"] = done.psnr_db if np.isfinite(done.psnr_db) else None
    value["findings"] = [to_json(finding) for finding in done.findings]
    return JobResult(value, {"image": done.data})


def encode_hdr(data: bytes | bytearray | memoryview, options: HdrOptions | None = None) -> EncodedLight:
    """Scale an environment map and store it. Raises ImageError: neither .hdr nor .exr, too large, damaged."""
    options = options or HdrOptions()
    pixels, findings = read_light(data, max_pixels=options.max_pixels)
    source_height, source_width, _ = pixels.shape
    pixels, more = cleaned(pixels)
    findings = (*findings, *more)
    if options.cube:
        if source_width != 2 * source_height:
            raise ImageError(
                "hdr.not-a-panorama",
                f"{source_width} × {source_height} pixels are no panorama, which is twice as wide as high",
                "render the environment as an equirectangular (latitude-longitude) panorama",
            )
        cube = to_cube(pixels, _face(min(source_width, options.max_size)))
        chain = prefilter(cube) if options.prefilter else mip_chain_light(cube)
        images = chain if options.mips or options.prefilter else chain[:1]
    else:
        width, height = fitted(source_width, source_height, options.max_size)
        scaled = scale_light(pixels, width, height, around=width == 2 * height)
        # three.js turns a .hdr over when it loads it and can't do that to compressed textures: KTX2 has the sky last.
        images = [(scaled if options.format == "hdr" else scaled[::-1])[None]]
    height, width = images[0].shape[1:3]
    data_out, decoded, gpu_bytes = _encoded(images, options)
    return EncodedLight(
        data_out,
        "image/vnd.radiance" if options.format == "hdr" else "image/ktx2",
        width,
        height,
        source_width,
        source_height,
        len(images),
        gpu_bytes,
        light_psnr(images[0].reshape(-1, width, 3), decoded.reshape(-1, width, 3)),
        findings,
    )


def read_light(
    data: bytes | bytearray | memoryview, *, max_pixels: int = 32 << 20
) -> tuple[Light, tuple[Finding, ...]]:
    """The (h, w, 3) pixels of a .hdr or .exr as they are, NaN and all, and remarks. Raises ImageError."""
    head = bytes(memoryview(data)[:16])
    findings: list[Finding] = []
    try:
        if head.startswith(MAGICS):
            header = radiance_header(data)
            _check_size(header.width, header.height, 1, max_pixels)
            pixels = _decoded(read_radiance, data)
            if header.exposure != 1:
                text = f"EXPOSURE={header.exposure:g} is ignored, as viewers do: absolute brightness is lost"
                findings.append(Finding("hdr.exposure", Severity.INFO, "", text, "nothing to do"))
        elif head.startswith(EXR_MAGIC):
            exr = exr_header(data)
            _check_size(exr.width, exr.height, exr.pixel_bytes / 16, max_pixels)
            pixels = _decoded(lambda data: read_exr(data, exr), data)
            if not exr.rec_709:
                text = "its red, green and blue are not those of Rec. 709 and sRGB: colours will look different"
                findings.append(
                    Finding("hdr.primaries", Severity.WARNING, "", text, "convert it to linear Rec. 709 (sRGB)")
                )
        else:
            raise ValueError("neither a Radiance .hdr nor an OpenEXR picture")
    except ValueError as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError("image.unreadable", str(error), _SAVE_AGAIN) from error
    return pixels, tuple(findings)


def cleaned(pixels: Light) -> tuple[Light, tuple[Finding, ...]]:
    """Light that is finite, not negative and at most `BRIGHTEST`, and a finding where it was not.

    Renderers leave a few such values: NaN from 0/0 becomes 0, infinite becomes `BRIGHTEST`, the negative lobes of their
    filters become 0. Raises ImageError where more than `WORST_BROKEN` of all values are NaN.
    """
    nan = int(np.isnan(pixels).sum())
    if nan > WORST_BROKEN * pixels.size:
        raise ImageError(
            "hdr.not-light", f"{nan:,} of {pixels.size:,} values are NaN: the picture is damaged", "render it again"
        )
    infinite, negative = int(np.isinf(pixels).sum()), int((pixels < 0).sum())
    beyond = int((pixels > BRIGHTEST).sum()) - int(np.isposinf(pixels).sum())
    if not (nan or infinite or negative or beyond):
        return pixels, ()
    out = np.clip(np.nan_to_num(pixels, nan=0.0, posinf=BRIGHTEST, neginf=0.0), 0, BRIGHTEST)
    counts = {"NaN": nan, "infinite": infinite, "negative": negative, f"above {BRIGHTEST:.0f}": beyond}
    text = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    finding = Finding(
        "hdr.clamped",
        Severity.WARNING if nan or infinite else Severity.INFO,
        "",
        f"of {pixels.size:,} values {text}: set to 0, or to the largest that a half float holds",
        "look for bad pixels in the renderer's output, if it shows",
    )
    return out, (finding,)


def _encoded(images: Sequence[Cube], options: HdrOptions) -> tuple[bytes, Light, int]:
    """The file of some levels of (faces, h, w, 3), its largest level decoded again, and its size in a GPU."""
    faces, height, width, _ = images[0].shape
    if options.format == "hdr":
        # The writer's own formula backwards: `read_radiance` takes no other way, and reading takes seconds.
        return write_radiance(images[0][0]), from_rgbe(to_rgbe(images[0][0])), 8 * width * height
    if options.format == "ktx2-rgb9e5":
        words = [to_rgb9e5(image) for image in images]
        levels, codec = [word.astype("<u4").tobytes() for word in words], "rgb9e5"
        decoded = from_rgb9e5(words[0])
    else:
        flat = [face.astype(np.float16) for image in images for face in image]
        blocks = encode_astc_hdr(flat, block=options.block, quality=QUALITY[options.level])
        levels = [b"".join(blocks[at : at + faces]) for at in range(0, len(blocks), faces)]
        codec = f"astc-{options.block}x{options.block}-hdr"
        decoded = np.stack([decode_astc_hdr(b, width, height, block=options.block) for b in blocks[:faces]])
    orientation = {} if faces == 6 else {"KTXorientation": "ru"}
    data = write_ktx2(levels, width, height, codec=codec, srgb=False, faces=faces, metadata=orientation)
    return data, decoded.astype(np.float32), sum(map(len, levels))


def _check_size(width: int, height: int, weight: float, max_pixels: int) -> None:
    if width * height * max(1.0, weight) > max_pixels:
        channels = " with as many channels as it has" if weight > 1 else ""
        raise ImageError(
            "image.too-large",
            f"the image has {width} × {height} pixels; the limit is {max_pixels} in all{channels}",
            "scale it down, save only the channels R, G and B, or raise the limit",
        )


def _decoded(read: Any, data: bytes | bytearray | memoryview) -> Light:
    try:
        return cast(Light, read(data))
    except ValueError as error:
        raise ImageError("image.damaged", str(error), _SAVE_AGAIN) from error


def _face(width: int) -> int:
    """Texels of a cube's face for a panorama of that width: as sharp, and a power of two for the mipmaps."""
    return 1 << max(0, (width // 4).bit_length() - 1)

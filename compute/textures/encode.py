"""One image of a model: checked, decoded, scaled down to the recipe's size, stored as WebP, measured.

What the texture is for decides how it may be stored:

- ``color`` (sRGB): lossy at the recipe's quality, alpha lossless; finer where the result falls under 32 dB.
- ``normal``: lossless, always. Lossy WebP bends normals by 2.3° on average and 19.8° at the 99th percentile.
- ``data`` (metallic-roughness, occlusion …): whatever is smallest and within 42 dB in *every* channel. Lossy WebP
  halves the resolution of chroma, which mixes channels that have nothing to do with each other: seven of eight real
  metallic-roughness maps stayed between 25 and 41 dB in one channel even at quality 100. Values snapped to multiples of
  4 and then stored losslessly reach 46 dB at 60 % of the lossless size; an occlusion map of one grey passes as lossy.

Decoding follows glTF, not the habits of viewers: EXIF orientation, ICC profiles and gAMA are ignored (glTF 2.0, 3.8.3
images). They are cut away with all other ancillary chunks before Pillow sees the file, and their parsers with them.
"""

from __future__ import annotations

import io
import math
import struct
import warnings
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

from cloudbaker.compute.job import Inputs, JobResult, Params
from cloudbaker.compute.textures.headers import PNG_MAGIC, ImageHeader, image_header
from cloudbaker.compute.textures.measure import NormalError, Pixels, channel_psnr, normal_error, psnr
from cloudbaker.model import Finding, Severity, to_json

SlotClass = Literal["color", "normal", "data"]
Floats = npt.NDArray[np.float32]

WEBP_LARGEST = 16383
"""Pixels a side (RFC 9649)."""

_NO_ERROR = NormalError(0.0, 0.0, 0.0)
_READABLE = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}


class ImageError(ValueError):
    """The image is damaged, too large, or no image. `code` is the finding's."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class EncodeOptions:
    """What the recipe wants, and the floors that measured quality must not fall under."""

    slot_class: SlotClass = "color"
    max_size: int = 2048
    """Pixels of the longer side; larger images are scaled down, none is scaled up."""
    quality: int = 85
    """WebP quality of ``color``, 1 to 100."""
    format: Literal["webp", "keep"] = "webp"
    """``keep`` stores a scaled image in the type it came in, and leaves others alone."""
    max_pixels: int = 64 << 20
    """Checked on the header, before any decode."""
    min_gain: float = 0.1
    """A lossy image is not encoded with loss again for less than this part of its size."""
    color_floor_db: float = 32.0
    data_floor_db: float = 42.0
    """Of the worst channel."""

    def __post_init__(self) -> None:
        if self.slot_class not in ("color", "normal", "data"):
            raise ValueError(f"slot_class must be color, normal or data, not {self.slot_class!r}")
        if self.format not in ("webp", "keep"):
            raise ValueError(f"format must be webp or keep, not {self.format!r}")
        if self.max_size < 1 or not 1 <= self.quality <= 100:
            raise ValueError(f"max_size {self.max_size} or quality {self.quality} is out of range")


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
    """Job form of `encode_image`: ``inputs["image"]``; `params` are slot_class, max_size, quality, format and, if not
    the default, ``limits.image_pixels``. Its value has the fields of `EncodedImage`.

    A damaged or oversized image gives ``findings`` with one error, and is kept.
    """
    data = inputs["image"]
    wanted = {k: params[k] for k in ("slot_class", "max_size", "quality", "format") if k in params}
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


def encode_image(
    data: bytes | bytearray | memoryview,
    options: EncodeOptions = EncodeOptions(),
) -> EncodedImage:
    """Store one PNG, JPEG or WebP as the recipe wants it, or say why it is better kept.

    Raises ImageError: not an image, more pixels than allowed (from the header), truncated or damaged.
    """
    header = _checked_header(data, options.max_pixels)
    if header.mime not in _READABLE:
        return _kept(header, f"{header.mime} is stored as it is")
    source = decode_image(data, header)
    width, height = _fitted(header.width, header.height, options.max_size)
    scaled = (width, height) != (header.width, header.height)
    target = header.mime if options.format == "keep" else "image/webp"
    if not scaled:
        if options.format == "keep":
            return _kept(header, "the recipe keeps formats")
        if header.mime == "image/webp":
            return _kept(header, "it is WebP already: encoding it again would only lose quality")
    if target == "image/webp" and max(width, height) > WEBP_LARGEST:
        return _kept(header, f"WebP ends at {WEBP_LARGEST} pixels a side")

    pixels = scale(source, width, height, options.slot_class) if scaled else source
    best = _smallest(pixels, target, options, len(data) / header.pixels)
    if not scaled and len(best.data) >= len(data):
        return _kept(header, f"{target} would take {len(best.data)} bytes, the source has {len(data)}")
    lossy = not math.isinf(best.psnr)
    if not scaled and lossy and header.mime == "image/jpeg" and len(best.data) > len(data) * (1 - options.min_gain):
        return _kept(header, f"lossy already: {len(data) - len(best.data)} bytes less are not worth another loss")
    angle = None
    if options.slot_class == "normal":
        angle = normal_error(pixels, decode_image(best.data, image_header(best.data))) if lossy else _NO_ERROR
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
        angle_degrees=angle.mean if angle else None,
        angle_degrees_p99=angle.p99 if angle else None,
        reason=best.how + (", scaled down" if scaled else ""),
    )


def _checked_header(data: bytes | bytearray | memoryview, max_pixels: int) -> ImageHeader:
    try:
        header = image_header(data)
    except ValueError as error:
        raise ImageError("image.unreadable", str(error), "export the image again as PNG or JPEG") from error
    if header.pixels > max_pixels:
        raise ImageError(
            "image.too-large",
            f"the image has {header.width} × {header.height} pixels; the limit is {max_pixels} in all",
            "scale it down, or raise limits.image_pixels in the recipe",
        )
    return header


def _kept(header: ImageHeader, reason: str) -> EncodedImage:
    size = (header.width, header.height)
    return EncodedImage(None, header.mime, *size, *size, header.bit_depth, True, None, None, None, reason)


def _fitted(width: int, height: int, max_size: int) -> tuple[int, int]:
    longer = max(width, height)
    if longer <= max_size:
        return width, height
    return max(1, round(width * max_size / longer)), max(1, round(height * max_size / longer))


# ----------------------------------------------------------------------------------------------------------- decoding


def decode_image(data: bytes | bytearray | memoryview, header: ImageHeader) -> Pixels:
    """The pixels of a PNG, JPEG or WebP as glTF defines them: (h, w, 3), or (h, w, 4) where alpha is not all opaque.

    16-bit channels become 8-bit (as in every browser), grey becomes RGB, CMYK is converted. Only the first frame
    counts. Raises ImageError.
    """
    raw = bytes(data)
    if header.mime == "image/png":
        raw = _essential_png(raw)
    elif header.mime == "image/jpeg":
        raw = _essential_jpeg(raw)
    allowed, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours is checked already, on the header
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with Image.open(io.BytesIO(raw), formats=[_READABLE[header.mime]]) as image:
                if image.size != (header.width, header.height):
                    raise ValueError(f"header and image differ: {image.size}")
                image.load()  # verify() accepts a truncated JPEG
                return _opaque_dropped(_eight_bit(image))
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, EOFError, zlib.error, MemoryError …
        raise ImageError(
            "image.damaged",
            f"the {header.mime} is truncated or damaged ({type(error).__name__}: {error})",
            "export the image again",
        ) from error
    finally:
        Image.MAX_IMAGE_PIXELS = allowed


def _eight_bit(image: Image.Image) -> Pixels:
    """RGB or RGBA of any of Pillow's modes that PNG, JPEG and WebP come in."""
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):  # 16-bit grey, which convert("L") would clip at 255
        wide = np.asarray(image).astype(np.uint32)
        grey = ((wide * 255 + 32767) // 65535).astype(np.uint8)
        alpha = np.where(wide == transparent, 0, 255).astype(np.uint8) if isinstance(transparent, int) else None
        return np.stack([grey] * 3 + ([] if alpha is None else [alpha]), axis=-1)
    has_alpha = transparent is not None or image.mode in ("RGBA", "LA", "PA", "La", "RGBa")
    # ascontiguousarray: the image is closed after this.
    return np.ascontiguousarray(np.asarray(image.convert("RGBA" if has_alpha else "RGB")))


def _opaque_dropped(pixels: Pixels) -> Pixels:
    """Without an alpha channel that says nothing."""
    if pixels.shape[2] == 4 and (pixels[..., 3] == 255).all():
        return np.ascontiguousarray(pixels[..., :3])
    return pixels


def _essential_png(data: bytes) -> bytes:
    """Only the chunks that make up the picture. What is damaged stays, for the decoder to find."""
    kept = [PNG_MAGIC]
    at = 8
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if kind in (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"):
            kept.append(data[at:end])
        at = end
        if kind == b"IEND":
            break
    return b"".join(kept)


def _essential_jpeg(data: bytes) -> bytes:
    """Without EXIF, ICC profile, thumbnails, further pictures and comments. APP14 says how colours are stored: kept."""
    kept = [data[:2]]
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill
            at += 1
            continue
        if marker == 0xDA or marker in (0x01, *range(0xD0, 0xDA)):
            break
        end = at + 2 + int(struct.unpack_from(">H", data, at + 2)[0])
        if not (0xE1 <= marker <= 0xED or marker in (0xEF, 0xFE)):
            kept.append(data[at:end])
        at = end
    kept.append(data[at:])
    return b"".join(kept)


# ------------------------------------------------------------------------------------------------------------ scaling

_SRGB = np.arange(256, dtype=np.float64) / 255
_LINEAR = np.where(_SRGB <= 0.04045, _SRGB / 12.92, ((_SRGB + 0.055) / 1.055) ** 2.4).astype(np.float32)


def scale(pixels: Pixels, width: int, height: int, slot_class: SlotClass) -> Pixels:
    """Lanczos, in the space where averaging means something for what the texture holds.

    Colours in linear light, weighted by alpha so that hidden colours do not bleed in; directions as vectors, unit
    length again afterwards; data channel by channel (Pillow would weight RGBA by its fourth channel).
    """
    if slot_class == "color":
        return _scale_color(pixels, width, height)
    if slot_class == "normal":
        return _scale_normal(pixels, width, height)
    channels = [_lanczos(pixels[..., c].astype(np.float32), width, height) for c in range(pixels.shape[2])]
    return _rounded(np.stack(channels, axis=-1))


def _scale_color(pixels: Pixels, width: int, height: int) -> Pixels:
    alpha = weight = None
    if pixels.shape[2] == 4:
        weight = pixels[..., 3].astype(np.float32) / 255
        alpha = np.clip(_lanczos(weight, width, height), 0, 1)
    out: list[Floats] = []
    for c in range(3):
        linear = _LINEAR[pixels[..., c]]
        value = _lanczos(linear, width, height)
        if weight is not None and alpha is not None:
            # Where nothing is visible the plain average stays: an opaque material ignores alpha and shows it.
            weighted = _lanczos(linear * weight, width, height)
            value = np.where(alpha > 1 / 255, weighted / np.maximum(alpha, 1 / 255), value)
        value = np.clip(value, 0, 1)
        out.append(np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055) * 255)
    if alpha is not None:
        out.append(alpha * 255)
    return _rounded(np.stack(out, axis=-1))


def _scale_normal(pixels: Pixels, width: int, height: int) -> Pixels:
    channels = [_lanczos(pixels[..., c].astype(np.float32) / 127.5 - 1, width, height) for c in range(3)]
    vectors = np.stack(channels, axis=-1)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors = np.where(length > 1e-3, vectors / np.maximum(length, 1e-3), np.array([0, 0, 1], np.float32))
    out = (vectors + 1) * 127.5
    if pixels.shape[2] == 4:
        out = np.concatenate([out, _lanczos(pixels[..., 3].astype(np.float32), width, height)[..., None]], axis=-1)
    return _rounded(out)


def _lanczos(channel: npt.NDArray[Any], width: int, height: int) -> Floats:
    resized = Image.fromarray(channel.astype(np.float32, copy=False)).resize((width, height), Image.Resampling.LANCZOS)
    return np.asarray(resized, np.float32)


def _rounded(values: Any) -> Pixels:
    return cast(Pixels, np.clip(np.rint(values), 0, 255).astype(np.uint8))


# ----------------------------------------------------------------------------------------------------------- encoding


@dataclass(frozen=True, slots=True)
class _Candidate:
    data: bytes
    mime: str
    psnr: float
    """Against the pixels it was made of, infinite where equal; the worst channel's for data."""
    how: str


def _smallest(pixels: Pixels, mime: str, options: EncodeOptions, density: float) -> _Candidate:
    """The smallest form that holds the floor of its class; lossless where none does.

    `density` is the source's, in bytes a pixel.
    """
    if mime == "image/png" or (mime == "image/jpeg" and pixels.shape[2] == 4):
        return _Candidate(_save(pixels, "PNG", optimize=True), "image/png", math.inf, "lossless")
    if mime == "image/jpeg":
        return _jpeg(pixels, options, 97 if options.slot_class != "color" else options.quality)
    if options.slot_class == "normal":
        return _lossless(pixels)
    floor = options.color_floor_db if options.slot_class == "color" else options.data_floor_db
    attempts = (_webp(pixels, options, quality) for quality in dict.fromkeys((options.quality, 95)))
    candidates = [c for c in attempts if c.psnr >= floor][:1]
    if options.slot_class == "data":
        candidates.append(_near_lossless(pixels, floor))
    elif not candidates or density < 0.5:
        # Palettes, gradients and plain areas can be smaller without loss. Photographs never are, and it takes ten times
        # as long to find that out: only sources of less than half a byte a pixel may be of the former kind.
        candidates.append(_lossless(pixels))
    return min(candidates, key=lambda c: len(c.data))


def _webp(pixels: Pixels, options: EncodeOptions, quality: int) -> _Candidate:
    data = _save(pixels, "WEBP", quality=quality)
    return _Candidate(data, "image/webp", _measured(pixels, data, options), f"lossy, quality {quality}")


def _jpeg(pixels: Pixels, options: EncodeOptions, quality: int) -> _Candidate:
    # Full chroma resolution: what is in the channels of data is not colour.
    data = _save(pixels, "JPEG", quality=quality, subsampling=0)
    return _Candidate(data, "image/jpeg", _measured(pixels, data, options), f"JPEG, quality {quality}")


def _near_lossless(pixels: Pixels, floor: float) -> _Candidate:
    """Rounded to multiples of 4, which keeps 0, 128 and 255 exactly; fully lossless where even that is too much."""
    snapped = _rounded(np.rint(pixels.astype(np.float32) / 4) * 4)
    worst = min(channel_psnr(pixels, snapped))
    if worst < floor or math.isinf(worst):
        return _lossless(pixels)
    return replace(_lossless(snapped), psnr=worst, how="lossless after rounding to multiples of 4")


def _lossless(pixels: Pixels) -> _Candidate:
    data = _save(pixels, "WEBP", lossless=True, quality=75)
    if not math.isinf(psnr(pixels, _like(pixels, data))):
        raise ValueError("lossless WebP did not come back as it went in: this Pillow's libwebp is broken")
    return _Candidate(data, "image/webp", math.inf, "lossless")


def _measured(pixels: Pixels, data: bytes, options: EncodeOptions) -> float:
    """PSNR of the encoded bytes, decoded again: of all channels, or of the worst where they are unrelated."""
    decoded = _like(pixels, data)
    return min(channel_psnr(pixels, decoded)) if options.slot_class == "data" else psnr(pixels, decoded)


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

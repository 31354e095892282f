"""Decoding of untrusted PNG, JPEG and WebP into the 8-bit pixels that glTF means.

Decoding follows glTF, not the habits of viewers: EXIF orientation, ICC profiles and gAMA are ignored (glTF 2.0, 3.8.3
images). They are cut away with all other ancillary chunks before Pillow sees the file, and their parsers with them.
"""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
from PIL import Image
from PIL.ImageFile import ImageFile

from cloudbaker.compute.textures.headers import PNG_MAGIC, ImageHeader, image_header
from cloudbaker.compute.textures.measure import Pixels

READABLE = {"image/png": "PNG", "image/jpeg": "JPEG", "image/webp": "WEBP"}
"""Media types that `decode_image` takes → Pillow's names."""


class ImageError(ValueError):
    """The image is damaged, too large, or no image. `code` is the finding's."""

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message)
        self.code = code
        self.remedy = remedy


def checked_header(data: bytes | bytearray | memoryview, max_pixels: int) -> ImageHeader:
    """The header of an image that is one, and has at most `max_pixels`. Raises ImageError."""
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


def decode_image(data: bytes | bytearray | memoryview, header: ImageHeader) -> Pixels:
    """The pixels of a PNG, JPEG or WebP as glTF defines them: (h, w, 3), or (h, w, 4) where alpha is not all opaque.

    16-bit channels are rounded to 8-bit, grey becomes RGB, CMYK is converted. Only the first frame counts. Raises
    ImageError.
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
            with Image.open(io.BytesIO(raw), formats=[READABLE[header.mime]]) as image:
                if image.size != (header.width, header.height):
                    raise ValueError(f"header and image differ: {image.size}")
                if header.bit_depth == 16 and image.mode in ("RGB", "RGBA"):
                    return _opaque_dropped(_sixteen_bit(image, raw))
                image.load()  # verify() accepts a truncated JPEG
                return _opaque_dropped(_eight_bit(image, header.bit_depth))
    except Exception as error:  # OSError, SyntaxError, ValueError, struct.error, EOFError, zlib.error, MemoryError …
        raise ImageError(
            "image.damaged",
            f"the {header.mime} is truncated or damaged ({type(error).__name__}: {error})",
            "export the image again",
        ) from error
    finally:
        Image.MAX_IMAGE_PIXELS = allowed


def _eight_bit(image: Image.Image, bit_depth: int) -> Pixels:
    """RGB or RGBA of any of Pillow's modes that PNG, JPEG and WebP come in, `image` being loaded."""
    transparent = image.info.get("transparency")
    if image.mode.startswith("I"):  # 16-bit grey, which convert("L") would clip at 255
        wide = np.asarray(image).astype(np.uint32)
        grey = ((wide * 255 + 32767) // 65535).astype(np.uint8)
        alpha = np.where(wide == transparent, 0, 255).astype(np.uint8) if isinstance(transparent, int) else None
        return np.stack([grey] * 3 + ([] if alpha is None else [alpha]), axis=-1)
    if image.mode == "L" and isinstance(transparent, int):
        # Pillow spreads grey of 2 and 4 bits over 0 to 255, but not the grey that is transparent.
        grey = np.asarray(image)
        key = transparent * (255 // ((1 << bit_depth) - 1))
        return np.stack([grey, grey, grey, np.where(grey == key, 0, 255).astype(np.uint8)], axis=-1)
    has_alpha = transparent is not None or image.mode in ("RGBA", "LA", "PA", "La", "RGBa")
    # ascontiguousarray: the image is closed after this.
    return np.ascontiguousarray(np.asarray(image.convert("RGBA" if has_alpha else "RGB")))


def _sixteen_bit(image: ImageFile, raw: bytes) -> Pixels:
    """A PNG of 16 bits a channel, not loaded yet, rounded to 8.

    Pillow keeps the upper byte alone: half a step too dark on average, and one transparent colour is then looked for
    among bytes. As if the file were little-endian, it keeps the lower one.
    """
    transparent = image.info.get("transparency")
    rawmode = str(image.tile[0].args)
    if rawmode not in ("RGB;16B", "RGBA;16B"):  # grey with alpha: only the upper byte can be had
        image.load()
        return _eight_bit(image, 16)
    upper = np.array(image)
    with Image.open(io.BytesIO(raw), formats=["PNG"]) as second:
        second.tile = [tile._replace(args=rawmode.replace("16B", "16L")) for tile in second.tile]
        lower = np.array(second)
    # round(v / 257) with v = 256 · upper + lower = 257 · upper + (lower - upper)
    off = lower.astype(np.int16) - upper
    out = upper + (off > 128).astype(np.uint8) - (off < -128).astype(np.uint8)
    if isinstance(transparent, tuple) and upper.shape[2] == 3:
        key = np.array(transparent, np.uint16)
        clear = ((upper == key >> 8) & (lower == (key & 255))).all(axis=-1)
        out = np.dstack([out, np.where(clear, 0, 255).astype(np.uint8)])
    return np.ascontiguousarray(out, np.uint8)


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

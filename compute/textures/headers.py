"""What an image says about itself in its first bytes: type and size, without decoding anything.

PNG (W3C PNG 3rd edition, 5.6 and 11.2.1), JPEG (ITU-T T.81, B.1 and B.2), WebP (RFC 9649), KTX2 (KTX 2.0, 3), AVIF
(ISO/IEC 23008-12 ``ispe``). A header can lie about what follows, never about what a decoder would allocate: limits are
checked on it before Pillow, a browser or any other decoder sees a byte.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

Buffer = bytes | bytearray | memoryview

KTX2_MAGIC = b"\xabKTX 20\xbb\r\n\x1a\n"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_JPEG_SOF = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_JPEG_MARKERS = 4096
"""Segments looked at before the frame header; cameras write some dozens."""


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header says. Sizes in pixels; `bit_depth` per channel."""

    mime: str
    width: int
    height: int
    has_alpha: bool
    bit_depth: int

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height


def image_mime(data: Buffer) -> str | None:
    """The media type by magic number alone, or None for what is none of the image types of glTF."""
    head = bytes(memoryview(data)[:32])
    if head.startswith(PNG_MAGIC):
        return "image/png"
    if head.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head.startswith(KTX2_MAGIC):
        return "image/ktx2"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "image/avif"
    return None


def image_header(data: Buffer) -> ImageHeader:
    """Read the header of a PNG, JPEG, WebP, KTX2 or AVIF. Raises ValueError that says what is wrong with it."""
    view = memoryview(data).cast("B")
    mime = image_mime(view)
    if mime is None:
        if bytes(view[:4]) in (b"#?RA", b"#?RG", b"\x76\x2f\x31\x01"):
            raise ValueError("it is an HDR picture: `cloudbaker encode` makes hdr, ktx2-rgb9e5 or ktx2-astc-hdr of it")
        raise ValueError("not a PNG, JPEG, WebP, KTX2 or AVIF" if view else "the image is empty")
    try:
        header = _READERS[mime](view)
    except (struct.error, IndexError) as error:
        raise ValueError(f"the {mime} ends inside its header") from error
    if not header.width or not header.height:
        raise ValueError(f"the {mime} says {header.width} × {header.height} pixels")
    return header


def _png(view: memoryview) -> ImageHeader:
    length, kind, width, height, depth, color = struct.unpack_from(">I4sIIBB", view, 8)
    if length != 13 or kind != b"IHDR":
        raise ValueError("the image/png does not begin with IHDR")
    if color not in (0, 2, 3, 4, 6) or depth not in (1, 2, 4, 8, 16):
        raise ValueError(
            f"the image/png has colour type {color} with bit depth {depth}, which the format does not know"
        )
    # tRNS gives alpha to the other colour types; it stands before IDAT, among a few small chunks.
    return ImageHeader("image/png", width, height, color in (4, 6) or _png_has(view, b"tRNS"), depth)


def _png_has(view: memoryview, wanted: bytes) -> bool:
    at = 33
    for _ in range(256):
        if at + 8 > len(view):
            return False
        length, kind = struct.unpack_from(">I4s", view, at)
        if kind == wanted:
            return True
        if kind in (b"IDAT", b"IEND"):
            return False
        at += 12 + length
    return False


def _jpeg(view: memoryview) -> ImageHeader:
    at = 2
    for _ in range(_JPEG_MARKERS):
        if view[at] != 0xFF:
            raise ValueError("the image/jpeg is damaged before its frame header")
        marker = view[at + 1]
        if marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8:  # fill byte, TEM, restart, start of image: no length
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from(">H", view, at + 2)
        if marker in _JPEG_SOF:
            depth, height, width = struct.unpack_from(">BHH", view, at + 4)
            return ImageHeader("image/jpeg", width, height, False, depth)
        if marker in (0xD9, 0xDA) or length < 2:
            break
        at += 2 + length
    raise ValueError("the image/jpeg has no frame header")


def _webp(view: memoryview) -> ImageHeader:
    kind = bytes(view[12:16])
    if kind == b"VP8X":
        flags = view[20]
        width = 1 + int.from_bytes(view[24:27], "little")
        height = 1 + int.from_bytes(view[27:30], "little")
        view[29]  # IndexError where the header is cut
        return ImageHeader("image/webp", width, height, bool(flags & 0x10), 8)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", view, 21)
        if view[20] != 0x2F:
            raise ValueError("the image/webp has a damaged lossless header")
        return ImageHeader("image/webp", 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF), bool(bits >> 28 & 1), 8)
    if kind == b"VP8 ":
        if bytes(view[23:26]) != b"\x9d\x01\x2a":
            raise ValueError("the image/webp has a damaged lossy header")
        width, height = struct.unpack_from("<HH", view, 26)
        return ImageHeader("image/webp", width & 0x3FFF, height & 0x3FFF, False, 8)
    raise ValueError(f"the image/webp begins with an unknown chunk {kind!r}")


def _ktx2(view: memoryview) -> ImageHeader:
    _format, size, width, height, depth, layers, faces, levels, scheme = struct.unpack_from("<9I", view, 12)
    dfd_offset, dfd_length = struct.unpack_from("<II", view, 48)
    if depth > 1 or layers > 1 or faces != 1:
        raise ValueError(f"the image/ktx2 is no 2D texture (depth {depth}, layers {layers}, faces {faces})")
    if levels > 32 or scheme > 3 or dfd_offset + dfd_length > len(view):
        raise ValueError("the image/ktx2 has a damaged header")
    # Channels of the basic descriptor block (Khronos Data Format 1.3, 5): UASTC (166) says RGBA as channel id 3, ETC1S
    # (163) holds alpha as a second slice, channel id 15.
    samples = (dfd_length - 28) // 16 if dfd_length >= 28 else 0
    ids = {view[dfd_offset + 28 + 16 * i + 3] & 0x0F for i in range(min(samples, 16))}
    model = view[dfd_offset + 12] if dfd_length >= 28 else 0
    alpha = 15 in ids or (model == 166 and 3 in ids)
    return ImageHeader("image/ktx2", width, height, alpha, 8 * max(size, 1))


def _avif(view: memoryview) -> ImageHeader:
    # The box tree is ftyp, then meta › iprp › ipco › ispe (and pixi, auxC). Search within the first 64 KB of it.
    head = bytes(view[: 1 << 16])
    largest = (0, 0)
    at = head.find(b"ispe")
    while at >= 0:
        width, height = struct.unpack_from(">II", head, at + 8)
        if width * height > largest[0] * largest[1]:
            largest = (width, height)
        at = head.find(b"ispe", at + 4)
    depth = head[head.find(b"pixi") + 9] if b"pixi" in head else 8
    alpha = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha" in head
    return ImageHeader("image/avif", *largest, alpha, depth)


_READERS = {"image/png": _png, "image/jpeg": _jpeg, "image/webp": _webp, "image/ktx2": _ktx2, "image/avif": _avif}

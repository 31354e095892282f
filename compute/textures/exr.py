"""OpenEXR pictures: a header reader of our own, for limits and refusals, and the pixels through OpenEXR's library.

Source: OpenEXR, "File Layout" (technical documentation). The library has a long list of memory errors behind it: it
sees only files whose header was read here first, and runs in the sandbox like all else.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from cloudbaker.compute.textures.radiance import Light

EXR_MAGIC = b"\x76\x2f\x31\x01"
REC_709 = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
"""x and y of red, green, blue and white: what is meant where a file does not say."""

_TILED, _LONG_NAMES, _DEEP, _MULTIPART = 0x200, 0x400, 0x800, 0x1000
_HEADER_BYTES = 1 << 20
_ATTRIBUTES = 1024
_CHANNELS = 1024
_TILE = 1024
"""Texels a side that tiles may have in smaller pictures, too."""
_SAMPLE_BYTES = {0: 4, 1: 2, 2: 4}


@dataclass(frozen=True, slots=True)
class ExrHeader:
    """What is said before the pixels."""

    width: int
    height: int
    """Of the data window: what is stored. The display window says how a film frame would show it."""
    channels: Mapping[str, int]
    """Name → bytes of a sample."""
    color: tuple[str, ...]
    """Names of the channels red, green and blue, or of the one that is grey."""
    chromaticities: tuple[float, ...] = field(default=REC_709)

    @property
    def pixel_bytes(self) -> int:
        """Of all channels: what a decoder holds for each pixel."""
        return sum(self.channels.values())

    @property
    def rec_709(self) -> bool:
        """Whether its red, green and blue are those of the web."""
        return all(abs(a - b) < 2e-3 for a, b in zip(self.chromaticities, REC_709, strict=True))


def exr_header(data: bytes | bytearray | memoryview) -> ExrHeader:
    """Read the header. Raises ValueError for what is damaged, and for what no environment map is: deep data, several
    parts, no colours, subsampled ones."""
    head = bytes(memoryview(data)[:_HEADER_BYTES])
    try:
        return _header(head)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ValueError("the .exr ends inside its header, or it is damaged") from error


def read_exr(data: bytes | bytearray | memoryview, header: ExrHeader) -> Light:
    """The pixels, the upper left first, NaN and negative values as they are. Grey becomes three equal channels.

    Check the header's size and `ExrHeader.pixel_bytes` before: all channels are decoded. Raises ValueError.
    """
    import OpenEXR

    limits = OpenEXR.getMaxImageSize(), OpenEXR.getMaxTileSize()
    # The library reads the header for itself: it must not come to another size.
    OpenEXR.setMaxImageSize(header.width, header.height)
    OpenEXR.setMaxTileSize(max(header.width, _TILE), max(header.height, _TILE))
    try:
        # No threads of its own: one job is one core's work.
        file = OpenEXR.File(io.BytesIO(data), separate_channels=True, num_threads=0)
        channels = file.channels()
        planes = [np.asarray(channels[name].pixels, np.float32) for name in header.color]
    except MemoryError:
        raise
    except Exception as error:  # RuntimeError of the library, KeyError, ValueError …
        raise ValueError(f"the .exr is damaged ({type(error).__name__}: {error})") from error
    finally:
        OpenEXR.setMaxImageSize(*limits[0])
        OpenEXR.setMaxTileSize(*limits[1])
    if any(plane.shape != (header.height, header.width) for plane in planes):
        raise ValueError("the .exr has pixels of another size than its header says")
    return np.stack(planes if len(planes) == 3 else planes * 3, axis=-1)


def _header(head: bytes) -> ExrHeader:
    if head[:4] != EXR_MAGIC:
        raise ValueError("not an OpenEXR picture")
    (version,) = struct.unpack_from("<I", head, 4)
    if version & 0xFF != 2 or version & ~(0xFF | _TILED | _LONG_NAMES | _DEEP | _MULTIPART):
        raise ValueError(f"the .exr is of an unknown version ({version:#x})")
    if version & _DEEP:
        raise ValueError("the .exr holds deep data: flatten it")
    if version & _MULTIPART:
        raise ValueError("the .exr has several parts: save the picture alone, as one part")
    found: dict[str, bytes] = {}
    at = 8
    while head[at]:
        name, at = _text(head, at)
        _kind, at = _text(head, at)
        (size,) = struct.unpack_from("<i", head, at)
        at += 4
        if size < 0 or at + size > len(head) or len(found) >= _ATTRIBUTES or name in found:
            raise ValueError("the header of the .exr is damaged, or larger than 1 MB")
        found[name] = head[at : at + size]
        at += size
    for wanted in ("channels", "dataWindow", "compression"):
        if wanted not in found:
            raise ValueError(f"the header of the .exr has no {wanted}")
    left, top, right, bottom = struct.unpack("<4i", found["dataWindow"])
    width, height = right - left + 1, bottom - top + 1
    if not (0 < width < 1 << 24 and 0 < height < 1 << 24):
        raise ValueError(f"the .exr says {width} × {height} pixels")
    channels = _channels(found["channels"])
    return ExrHeader(
        width,
        height,
        {name: _SAMPLE_BYTES[kind] for name, kind in channels.items()},
        _color(channels),
        struct.unpack("<8f", found["chromaticities"]) if "chromaticities" in found else REC_709,
    )


def _channels(data: bytes) -> dict[str, int]:
    channels: dict[str, int] = {}
    at = 0
    while data[at]:
        name, at = _text(data, at)
        kind, _linear, across, down = struct.unpack_from("<iB3xii", data, at)
        at += 16
        if kind not in _SAMPLE_BYTES or len(channels) >= _CHANNELS:
            raise ValueError(f"the .exr has a channel {name[:40]!r} of unknown type")
        if (across, down) != (1, 1):
            raise ValueError("the .exr stores colour at a lower resolution than brightness: save it as RGB")
        if name in channels:
            raise ValueError(f"the .exr has two channels {name[:40]!r}")
        channels[name] = kind
    return channels


def _color(channels: Mapping[str, int]) -> tuple[str, ...]:
    layers = {name[:-1] for name in channels if name[-1:] in ("R", "G", "B")}
    whole = sorted(layer for layer in layers if all(f"{layer}{c}" in channels for c in "RGB"))
    if "" in whole or len(whole) == 1:
        return tuple(f"{whole[0]}{c}" for c in "RGB")
    if "Y" in channels:
        return ("Y",)
    listed = ", ".join(sorted(channels))[:120] or "none"
    raise ValueError(f"the .exr has no channels R, G and B, or several of them (there are: {listed}): save it as RGB")


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at, at + 256)
    if end < 0:
        raise IndexError(f"no end to the text at {at}")
    return data[at:end].decode("utf-8"), end + 1

"""Which way up a photograph is: EXIF's orientation, for images that stand alone.

glTF ignores it (2.0, 3.8.3), every viewer of images obeys it: a model's textures stay as they lie in the file, and what
``cloudbaker encode`` is given is turned. Read without a library, because all that is wanted is one number: TIFF 6.0,
section 2, for the layout; EXIF 2.32, 4.6.4, for tag 0x0112.
"""

from __future__ import annotations

import struct

import numpy as np

from cloudbaker.compute.textures.headers import PNG_MAGIC, Buffer
from cloudbaker.compute.textures.measure import Pixels

_ORIENTATION = 0x0112
_SHORT = 3
_SEGMENTS, _ENTRIES = 4096, 512
_TURNS = {
    # orientation: quarter turns against the clock, mirrored left to right afterwards
    **{1: (0, False), 2: (0, True), 3: (2, False), 4: (2, True)},
    **{5: (3, True), 6: (3, False), 7: (1, True), 8: (1, False)},
}


def upright(pixels: Pixels, data: Buffer) -> Pixels:
    """(h, w, c) pixels, as `data`, the file they were decoded from, says that they are to be seen."""
    turns, mirrored = _TURNS[orientation(data)]
    if turns:
        pixels = np.rot90(pixels, turns)
    return np.ascontiguousarray(pixels[:, ::-1] if mirrored else pixels)


def orientation(data: Buffer) -> int:
    """EXIF's orientation of a PNG, JPEG or WebP, 1 to 8; 1, as it lies, where it says nothing or is damaged."""
    try:
        return _in_tiff(_exif(memoryview(data).cast("B")))
    except (struct.error, IndexError, ValueError):
        return 1


def _exif(view: memoryview) -> memoryview:
    """The TIFF structure in a file. Raises ValueError, IndexError or struct.error where there is none."""
    if bytes(view[:2]) == b"\xff\xd8":
        return _in_jpeg(view)
    chunks, at, order, wanted = (8, 0, ">I4s", b"eXIf") if bytes(view[:8]) == PNG_MAGIC else (12, 1, "<4sI", b"EXIF")
    for _ in range(_SEGMENTS):
        head = struct.unpack_from(order, view, chunks)
        length, kind = head[at], head[1 - at]
        if kind == wanted:
            part = view[chunks + 8 : chunks + 8 + length]
            return part[6:] if bytes(part[:6]) == b"Exif\0\0" else part  # some writers keep JPEG's mark
        chunks += 12 + length if at == 0 else 8 + length + length % 2
    raise ValueError("no EXIF among the first chunks")


def _in_jpeg(view: memoryview) -> memoryview:
    at = 2
    for _ in range(_SEGMENTS):
        marker, kind, length = struct.unpack_from(">BBH", view, at)
        if marker != 0xFF or kind == 0xDA or length < 2:
            break
        if kind == 0xE1 and bytes(view[at + 4 : at + 10]) == b"Exif\0\0":
            return view[at + 10 : at + 2 + length]
        at += 2 + length
    raise ValueError("no EXIF before the picture")


def _in_tiff(view: memoryview) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(view[:4]))
    if order is None:
        raise ValueError("not a TIFF structure")
    (first,) = struct.unpack_from(f"{order}I", view, 4)
    (count,) = struct.unpack_from(f"{order}H", view, first)
    for entry in range(min(count, _ENTRIES)):
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", view, first + 2 + 12 * entry)
        if tag == _ORIENTATION and kind == _SHORT and values == 1 and value in _TURNS:
            return int(value)
    return 1

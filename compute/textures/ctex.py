"""Godot 4's ``.ctex``: the container of an imported texture (engine source, ``CompressedTexture2D::_load_data``).

======  ========================================================================================
header  ``GST2``, u32 version 1, width, height, flags, mipmap limit, 3 × u32 zero
image   u32 data format 0 (as is), u16 width, height, u32 mipmaps beside the largest, u32 format
levels  one after the other, the largest first
======  ========================================================================================
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

ASTC_4X4 = 35
"""``Image::FORMAT_ASTC_4x4``."""
_HAS_MIPMAPS = 1 << 23
_IMAGE = 0


def ctex(width: int, height: int, levels: Sequence[bytes], *, image_format: int = ASTC_4X4) -> bytes:
    """A texture of encoded levels, the largest first, down to 1×1 if there is more than one.

    Raises ValueError for a chain that the engine would not take, or a size of more than 16 bits.
    """
    steps = max(width, height).bit_length()
    if len(levels) not in (1, steps):
        raise ValueError(f"{width} × {height} has {steps} levels down to 1×1, not {len(levels)}")
    if not (0 < width < 1 << 16 and 0 < height < 1 << 16):
        raise ValueError(f"{width} × {height} is no size of a .ctex")
    flags = _HAS_MIPMAPS if len(levels) > 1 else 0
    header = b"GST2" + struct.pack("<8I", 1, width, height, flags, 0, 0, 0, 0)
    return header + struct.pack("<IHHII", _IMAGE, width, height, len(levels) - 1, image_format) + b"".join(levels)
